//! How long to wait before the next attempt.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);

/// Doubles from 100 ms to 30 s; the second half of each wait is drawn, so that a fleet whose
/// aggregator went away does not come back in step.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after one more failure; `random` is any number, different each time.
    pub(super) fn next(&mut self, random: u64) -> Duration {
        let longest = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        let half = longest / 2;
        half + half.mul_f64((random >> 11) as f64 / (1_u64 << 53) as f64)
    }

    /// It went well.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_its_limit_and_starts_anew() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.next(0), FIRST / 2);
        assert_eq!(backoff.next(0), FIRST);
        for _ in 0..100 {
            assert!(backoff.next(u64::MAX) <= LONGEST);
        }
        assert!(backoff.next(0) >= LONGEST / 2);
        backoff.reset();
        assert!(backoff.next(u64::MAX) <= FIRST);
    }
}
