//! Whose turn it is, where there is not always time for all.

use std::{collections::BTreeSet, ops::Bound};

/// Network namespaces that are yet to be asked in.
#[derive(Debug, Default)]
pub(super) struct Turns {
    left: BTreeSet<u64>,
    /// The last that had its turn.
    last: u64,
}

impl Turns {
    /// All of these are to have a turn, and no others.
    pub(super) fn begin(&mut self, all: BTreeSet<u64>) {
        self.left = all;
    }

    /// Those that are not among these are not asked in any more.
    pub(super) fn retain(&mut self, wanted: &BTreeSet<u64>) {
        self.left.retain(|cookie| wanted.contains(cookie));
    }

    /// So many whose turn it is next, after the last that had it.
    pub(super) fn next(&self, most: usize) -> Vec<u64> {
        let after = self.left.range((Bound::Excluded(self.last), Bound::Unbounded));
        let before = self.left.range(..=self.last);
        after.chain(before).copied().take(most).collect()
    }

    /// This one has had its turn.
    pub(super) fn had(&mut self, cookie: u64) {
        self.left.remove(&cookie);
        self.last = cookie;
    }

    /// Whether all have had their turn.
    pub(super) fn are_over(&self) -> bool {
        self.left.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyone_gets_a_turn_although_there_is_never_time_for_all() {
        let (all, mut turns): (BTreeSet<u64>, _) = ((1..=10).collect(), Turns::default());
        let mut had = Vec::new();
        for _ in 0..5 {
            // It begins anew each time.
            turns.begin(all.clone());
            for cookie in turns.next(4) {
                turns.had(cookie);
                had.push(cookie);
            }
            assert!(!turns.are_over());
        }
        let expected: Vec<u64> = (1..=10).chain(1..=10).collect();
        assert_eq!(had, expected);
        turns.begin(all);
        turns.had(4);
        turns.retain(&[3, 4, 5].into());
        assert_eq!(turns.next(4), [5, 3]);
        turns.had(3);
        turns.had(5);
        assert!(turns.are_over());
    }

    #[test]
    fn the_largest_cookie_is_one_like_any_other() {
        let mut turns = Turns { left: [u64::MAX, 1].into(), last: u64::MAX };
        let mut next = turns.next(4);
        next.sort_unstable();
        assert_eq!(next, [1, u64::MAX], "each once");
        turns.had(u64::MAX);
        assert_eq!(turns.next(4), [1]);
    }
}
