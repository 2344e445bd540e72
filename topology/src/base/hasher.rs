//! A hasher of numbers that nobody from elsewhere has a say in.

use std::hash::Hasher;

/// An odd number without a pattern.
const FACTOR: u64 = 0xf135_7aea_2e62_a9c5;

/// Hashes places, numbers and the like, which are given one after the other: nobody can choose them so that they meet. A
/// multiplication each is enough for these.
#[derive(Clone, Copy, Debug, Default)]
pub struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64((*byte).into()));
    }

    #[inline]
    fn write_u16(&mut self, number: u16) {
        self.write_u64(number.into());
    }

    #[inline]
    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    #[inline]
    fn write_u64(&mut self, number: u64) {
        self.0 = self.0.wrapping_add(number).wrapping_mul(FACTOR);
    }

    #[inline]
    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    #[inline]
    fn write_isize(&mut self, number: isize) {
        self.write_u64(number as u64);
    }

    /// The highest bits are the best; maps take the lowest, too.
    #[inline]
    fn finish(&self) -> u64 {
        self.0.rotate_left(26)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, hash::Hash};

    use super::*;

    #[test]
    fn numbers_that_follow_each_other_are_far_apart() {
        let hash = |pair: (u32, u32)| {
            let mut hasher = NumberHasher::default();
            pair.hash(&mut hasher);
            hasher.finish()
        };
        let pairs = (0..256).flat_map(|a| (0..256).map(move |b| (a, b)));
        let hashes: Vec<_> = pairs.map(hash).collect();
        let distinct = |part: fn(u64) -> u64| {
            hashes.iter().map(|hash| part(*hash)).collect::<HashSet<_>>().len()
        };
        assert_eq!(distinct(|hash| hash), 1 << 16);
        // By chance it were 1 - 1 / e of all.
        let low = distinct(|hash| hash & 0xffff);
        assert!(low > 1 << 15, "{low}");
        assert_eq!(distinct(|hash| hash >> 57), 128);
    }
}
