//! Sums of steps that are over, so that not every answer adds all of them up anew.

use std::{
    borrow::Borrow,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    base::totals::EdgeTotals,
    count::{
        edges::Seen,
        history::Packed,
        packed::{Packer, Unpacker},
    },
};

/// Sums that are kept: of that many windows, and no more bytes than this in all.
const MOST: usize = 4;
const MOST_BYTES: usize = 64 << 20;

/// Sums of steps that are over. They hold until one of the steps is another one: more of it came late.
#[derive(Default)]
pub struct Sums(Mutex<Vec<Sum>>);

/// The sum of steps that follow each other, the one used last at the end.
struct Sum {
    /// Their [`Packed::number`].
    steps: Vec<u64>,
    bytes: Arc<[u8]>,
}

impl Sums {
    /// Bytes that are kept.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.kept().iter().map(|sum| sum.bytes.len()).sum()
    }

    /// What steps add up to, without what was open at their ends. Nobody else adds up meanwhile, so nobody adds up the
    /// same.
    pub(super) fn of(&self, steps: &[Packed]) -> Arc<[u8]> {
        match steps {
            [] => return Arc::default(),
            [only] => return Arc::clone(&only.bytes),
            _ => {}
        }
        let numbers: Vec<u64> = steps.iter().map(|step| step.number).collect();
        let mut kept = self.kept();
        // The longest sum of what the steps begin with.
        let begins = |(_, sum): &(usize, &Sum)| numbers.starts_with(&sum.steps);
        let longest = kept.iter().enumerate().filter(begins).max_by_key(|(_, sum)| sum.steps.len());
        let begun = longest.map(|(at, _)| at).map(|at| kept.remove(at));
        let (done, bytes) = begun.map_or((0, None), |sum| (sum.steps.len(), Some(sum.bytes)));
        let bytes = match bytes {
            Some(bytes) if done == steps.len() => bytes,
            bytes => {
                let rest = steps[done..].iter().map(|step| &step.bytes);
                add_up(&bytes.iter().chain(rest).collect::<Vec<_>>()).into()
            }
        };
        kept.push(Sum { steps: numbers, bytes: Arc::clone(&bytes) });
        let mut all: usize = kept.iter().map(|sum| sum.bytes.len()).sum();
        while kept.len() > MOST || all > MOST_BYTES {
            all -= kept.remove(0).bytes.len();
        }
        bytes
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Sum>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds up what was packed.
fn add_up(all: &[impl Borrow<Arc<[u8]>>]) -> Box<[u8]> {
    let begun = all.iter().filter_map(|bytes| {
        let mut unpacker = Unpacker::new(bytes.borrow());
        unpacker.head().map(|head| (head, unpacker))
    });
    let mut begun: Vec<_> = begun.collect();
    let mut packer = Packer::default();
    let mut totals = EdgeTotals::default();
    while let Some(index) = begun.iter().map(|(head, _)| head.index).min() {
        totals.clear();
        let mut seen = Seen::default();
        begun.retain_mut(|(head, unpacker)| {
            if head.index != index {
                return true;
            }
            seen.merge(head.seen);
            let next = unpacker
                .add_values(head, &mut totals)
                .and_then(|()| unpacker.add_samples(head, &mut totals))
                .and_then(|()| unpacker.head());
            next.map(|next| *head = next).is_some()
        });
        packer.put(index, &totals, seen, 0);
    }
    packer.finish()
}
