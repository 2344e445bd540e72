//! Classic histograms out of ours. Their bounds are powers of two, which are bounds of ours, too:
//! nothing has to be guessed to fall into one or the other.

use common::histogram::FIRST_SCHEMA_INDEX;
use topology::Histogram;

/// Buckets of a classic histogram, `+Inf` included.
pub(super) const CLASSIC: usize = 12;

/// Exponents of the bounds: bucket `n` holds what took at most `2^exponent` seconds.
pub(super) type Exponents = [i32; CLASSIC - 1];

/// 61 µs to 1 s.
pub(super) const RTT: Exponents = [-14, -13, -12, -11, -10, -9, -8, -6, -5, -3, 0];
/// 122 µs to 16 s: a SYN that was lost is sent again after 1, 3 and 7 s.
pub(super) const CONNECT: Exponents = [-13, -11, -10, -9, -8, -6, -5, -3, 0, 2, 4];
/// 1 ms to 18 h.
pub(super) const LIFETIME: Exponents = [-10, -7, -4, -2, 0, 2, 4, 6, 9, 12, 16];
/// 2 µs to 1 s.
pub(super) const RUNQUEUE: Exponents = [-19, -17, -15, -13, -11, -10, -8, -6, -4, -2, 0];

/// A classic histogram: cumulative counts, and the sum as well as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Classic {
    pub(super) cumulative: [u64; CLASSIC],
    pub(super) sum_seconds: f64,
}

impl Classic {
    pub(super) fn of(histogram: &Histogram, exponents: &Exponents) -> Self {
        let mut counts = [0_u64; CLASSIC];
        let mut place = 0;
        for (bucket, count) in histogram.iter() {
            // Ours come in ascending order, so a bound once passed stays passed.
            while place < exponents.len() && bucket > last_bucket(exponents[place]) {
                place += 1;
            }
            counts[place] = counts[place].saturating_add(count);
        }
        let mut sum = 0_u64;
        let cumulative = counts.map(|count| {
            sum = sum.saturating_add(count);
            sum
        });
        Self { cumulative, sum_seconds: histogram.approximate_sum() }
    }
}

/// The bucket of ours whose bound is `2^exponent` seconds.
const fn last_bucket(exponent: i32) -> u16 {
    (exponent * 8 - FIRST_SCHEMA_INDEX) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::histogram::{bound_seconds, bucket_of_ns};
    use proptest::prelude::*;

    #[test]
    fn bounds_are_ours_and_ascend() {
        for exponents in [RTT, CONNECT, LIFETIME, RUNQUEUE] {
            assert!(exponents.is_sorted_by(|a, b| a < b));
            for exponent in exponents {
                let bound = bound_seconds(last_bucket(exponent));
                assert!((bound - f64::exp2(exponent.into())).abs() < bound * 1e-12);
            }
        }
    }

    proptest! {
        #[test]
        fn every_sample_is_in_every_bucket_that_holds_it(
            samples in proptest::collection::vec(0_u64..100_000_000_000, 0..50),
        ) {
            let histogram = samples.iter().map(|ns| (bucket_of_ns(*ns), 1)).collect();
            let classic = Classic::of(&histogram, &CONNECT);
            for (exponent, count) in CONNECT.iter().zip(classic.cumulative) {
                // Whole nanoseconds at most the bound are those at most its floor.
                let bound = (f64::exp2(f64::from(*exponent)) * 1e9) as u64;
                let expected = samples.iter().filter(|ns| **ns <= bound).count();
                prop_assert_eq!(count, expected as u64);
            }
            prop_assert_eq!(classic.cumulative[CLASSIC - 1], samples.len() as u64);
        }
    }
}
