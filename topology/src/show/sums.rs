//! Sums of steps that are over, so that not every answer adds all of them up anew.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::abreast::Abreast;
use crate::{
    base::sheet::Sheet,
    count::{edges::Seen, history::Packed, packed::Packer},
};

/// Sums that are kept: of that many windows, and no more bytes than this in all.
const MOST: usize = 4;
const MOST_BYTES: usize = 64 << 20;

/// Sums of steps that are over. They hold until one of the steps is another one: more of it came late.
#[derive(Default)]
pub struct Sums {
    kept: Mutex<Kept>,
    /// Whose turn it is to add up, so that nobody adds up the same.
    turn: Mutex<()>,
}

#[derive(Default)]
struct Kept {
    /// The one used last at the end.
    sums: Vec<Sum>,
    /// What a window that goes on with time will begin with.
    next: Option<Vec<Packed>>,
}

/// The sum of steps that follow each other.
#[derive(Clone)]
struct Sum {
    /// Their [`Packed::number`].
    steps: Vec<u64>,
    bytes: Arc<[u8]>,
}

impl Sums {
    /// Bytes that are kept.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.kept().bytes()
    }

    /// Adds up beforehand what will be asked for when the next step is over. To be called when nobody waits.
    pub fn prepare(&self) {
        let next = self.kept().next.take();
        if let Some(steps) = next {
            let sum = Sum::of(&steps, None);
            self.kept().put(sum);
        }
    }

    /// What steps add up to, without what was open at their ends.
    pub(super) fn of(&self, steps: &[Packed]) -> Arc<[u8]> {
        match steps {
            [] => return Arc::default(),
            [only] => return Arc::clone(&only.bytes),
            _ => {}
        }
        let numbers: Vec<u64> = steps.iter().map(|step| step.number).collect();
        let known = |kept: &Kept| kept.longest(&numbers).filter(|sum| sum.steps == numbers);
        if let Some(sum) = known(&self.kept()) {
            return sum.bytes;
        }
        let _turn = lock(&self.turn);
        let begun = self.kept().longest(&numbers);
        if let Some(sum) = begun.as_ref().filter(|sum| sum.steps == numbers) {
            return Arc::clone(&sum.bytes);
        }
        let sum = Sum::of(steps, begun.as_ref());
        let bytes = Arc::clone(&sum.bytes);
        let mut kept = self.kept();
        let before = kept.sums.len();
        // Of the window that went on to this one, but for its first step.
        kept.sums.retain(|sum| {
            let goes_on = (3..=numbers.len()).contains(&sum.steps.len());
            !(goes_on && numbers.starts_with(&sum.steps[1..]))
        });
        if kept.sums.len() < before {
            kept.next = Some(steps[1..].to_vec());
        }
        if let Some(begun) = begun {
            kept.sums.retain(|sum| sum.steps != begun.steps);
        }
        kept.put(sum);
        bytes
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        lock(&self.kept)
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Kept {
    fn bytes(&self) -> usize {
        self.sums.iter().map(|sum| sum.bytes.len()).sum()
    }

    /// The longest sum of what these steps begin with.
    fn longest(&self, steps: &[u64]) -> Option<Sum> {
        let begins = self.sums.iter().filter(|sum| steps.starts_with(&sum.steps));
        begins.max_by_key(|sum| sum.steps.len()).cloned()
    }

    fn put(&mut self, sum: Sum) {
        // Another may have added up the same meanwhile.
        self.sums.retain(|known| known.steps != sum.steps);
        self.sums.push(sum);
        let mut all = self.bytes();
        while self.sums.len() > MOST || all > MOST_BYTES {
            all -= self.sums.remove(0).bytes.len();
        }
    }
}

impl Sum {
    /// Adds up steps, the first of which may be added up already.
    fn of(steps: &[Packed], begun: Option<&Sum>) -> Self {
        let done = begun.map_or(0, |sum| sum.steps.len());
        let rest = steps.iter().skip(done).map(|step| &step.bytes);
        let all: Vec<_> = begun.map(|sum| &sum.bytes).into_iter().chain(rest).collect();
        let numbers = steps.iter().map(|step| step.number).collect();
        Sum { steps: numbers, bytes: add_up(&all).into() }
    }
}

/// Adds up what was packed.
fn add_up(all: &[&Arc<[u8]>]) -> Box<[u8]> {
    let mut abreast = Abreast::of(all.iter().map(|bytes| &***bytes));
    let (mut packer, mut sheet) = (Packer::default(), Sheet::default());
    while let Some(index) = abreast.next() {
        let mut seen = Seen::default();
        abreast.add(index, &mut sheet, |head| seen.merge(head.seen));
        packer.put_sheet(index, &sheet, seen);
        sheet.clear();
    }
    packer.finish()
}
