//! Small numbers for what an agent defines, stable within a session.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
};

/// Numbers from 1 on; those that are free again are taken first, the lowest of all.
#[derive(Debug, Default)]
pub struct Numbers {
    used: u32,
    free: BinaryHeap<Reverse<u32>>,
}

impl Numbers {
    pub fn take(&mut self) -> u32 {
        self.free.pop().map_or_else(
            || {
                self.used += 1;
                self.used
            },
            |Reverse(number)| number,
        )
    }

    pub fn give_back(&mut self, number: u32) {
        self.free.push(Reverse(number));
    }
}

/// The number of each instance that halves refer to.
#[derive(Debug, Default)]
pub struct Interned {
    numbers: Numbers,
    known: HashMap<u32, (u32, u32)>,
}

impl Interned {
    /// The number of an instance, and whether it is new.
    pub fn refer(&mut self, instance: u32) -> (u32, bool) {
        let numbers = &mut self.numbers;
        let (number, references) =
            self.known.entry(instance).or_insert_with(|| (numbers.take(), 0));
        *references += 1;
        (*number, *references == 1)
    }

    pub fn release(&mut self, instance: u32) {
        let Some((number, references)) = self.known.get_mut(&instance) else { return };
        *references -= 1;
        if *references == 0 {
            self.numbers.give_back(*number);
            self.known.remove(&instance);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_reused_when_nobody_refers_to_them() {
        let mut interned = Interned::default();
        assert_eq!(
            [5, 6, 5].map(|instance| interned.refer(instance)),
            [(1, true), (2, true), (1, false)]
        );
        interned.release(5);
        assert_eq!(interned.refer(7), (3, true));
        interned.release(5);
        assert_eq!(interned.refer(8), (1, true));
    }
}
