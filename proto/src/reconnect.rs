//! How an agent comes back to an aggregator, alone or with ten thousand others. Simulated agents do it as the real
//! one does, so that what is measured with them holds.
//!
//! Waits are drawn from all of their span, which doubles: a fleet whose aggregator was away does not come back in
//! step. Who has a connection waits for longer than a fleet takes to be let in one after the other: an attempt that is
//! given up and begun anew costs the aggregator twice, and the next one stands at the end of the queue.

use std::time::Duration;

/// Nobody tries again at once.
const LEAST: Duration = Duration::from_millis(20);

/// The span of the first wait, and of the longest.
const SPAN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// How long TLS and the welcome may take together at first, when there are other aggregators to try, and at most.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(40));

/// A stream that lived for this long was a good one: the next wait is short again.
const GOOD_STREAM: Duration = Duration::from_secs(5);

/// Name look-up and TCP together.
pub const CONNECT_TIME: Duration = Duration::from_secs(5);

/// How often it went wrong in a row, and what follows from that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after one more failure; `random` is any number, different each time.
    pub fn next(&mut self, random: u64) -> Duration {
        let (first, longest) = SPAN;
        let span = first.saturating_mul(1 << self.failures.min(16)).min(longest);
        self.failures = self.failures.saturating_add(1);
        LEAST + span.mul_f64((random >> 11) as f64 / (1_u64 << 53) as f64)
    }

    /// A stream has ended that had lived for so long; whether it was a good one.
    pub fn ended(&mut self, lived: Duration) -> bool {
        let good = lived >= GOOD_STREAM;
        if good {
            self.failures = 0;
        }
        good
    }

    /// How long TLS and the welcome may take. With others to try it is short at first, since the others may be better
    /// off; when all of them are slow to answer, it is the herd.
    #[must_use]
    pub fn patience(&self, others: bool) -> Duration {
        let (first, longest) = PATIENCE;
        if !others {
            return longest;
        }
        first.saturating_mul(1 << self.failures.min(16)).min(longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_limit_and_start_anew() {
        let mut backoff = Backoff::default();
        let (first, longest) = SPAN;
        assert!(backoff.next(u64::MAX) <= LEAST + first);
        assert_eq!(backoff.next(0), LEAST, "from all of the span");
        for _ in 0..100 {
            assert!(backoff.next(u64::MAX) <= LEAST + longest);
        }
        assert!(backoff.next(u64::MAX / 2) >= longest / 2 - LEAST);
        assert!(!backoff.ended(GOOD_STREAM / 2));
        assert!(backoff.next(u64::MAX) > first);
        assert!(backoff.ended(GOOD_STREAM));
        assert!(backoff.next(u64::MAX) <= LEAST + first);
    }

    #[test]
    fn who_has_nobody_else_to_turn_to_waits_for_long() {
        let mut backoff = Backoff::default();
        let (first, longest) = PATIENCE;
        assert_eq!(backoff.patience(false), longest);
        assert_eq!(backoff.patience(true), first);
        backoff.next(0);
        assert_eq!(backoff.patience(true), 2 * first);
        for _ in 0..100 {
            backoff.next(0);
        }
        assert_eq!(backoff.patience(true), longest);
    }
}
