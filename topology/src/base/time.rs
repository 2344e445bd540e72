//! Time as the aggregator tells it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A moment: nanoseconds since the Unix epoch, by the aggregator's clock.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The moment that many nanoseconds after the epoch.
    #[must_use]
    pub const fn from_unix_ns(ns: u64) -> Self {
        Timestamp(ns)
    }

    /// Nanoseconds since the epoch.
    #[must_use]
    pub const fn unix_ns(self) -> u64 {
        self.0
    }

    /// The moment that much later, or the last one there is.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Timestamp(self.0.saturating_add(nanoseconds(duration)))
    }

    /// The moment that much earlier, or the epoch.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Timestamp(self.0.saturating_sub(nanoseconds(duration)))
    }

    /// How long after `earlier` this is; zero when it is not.
    #[must_use]
    pub const fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The last multiple of `step` since the epoch that is not later.
    #[must_use]
    pub fn floor(self, step: Duration) -> Self {
        Timestamp(self.0 - self.0 % nanoseconds(step).max(1))
    }

    /// The first multiple of `step` since the epoch that is not earlier.
    #[must_use]
    pub fn ceil(self, step: Duration) -> Self {
        let floor = self.floor(step);
        if floor == self { self } else { floor.plus(step) }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A stretch of time: from `from` inclusive to `to` exclusive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// Its begin.
    pub from: Timestamp,
    /// Its end.
    pub to: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_to_steps_outward() {
        let step = Duration::from_secs(10);
        let at = |s: u64| Timestamp::from_unix_ns(s * 1_000_000_000);
        assert_eq!(at(17).floor(step), at(10));
        assert_eq!(at(17).ceil(step), at(20));
        assert_eq!(at(20).floor(step), at(20));
        assert_eq!(at(20).ceil(step), at(20));
    }

    #[test]
    fn never_overflows() {
        let last = Timestamp::from_unix_ns(u64::MAX);
        assert_eq!(last.plus(Duration::MAX), last);
        assert_eq!(last.ceil(Duration::from_secs(10)), last);
        assert_eq!(Timestamp::default().minus(Duration::MAX), Timestamp::default());
        assert_eq!(Timestamp::default().since(last), Duration::ZERO);
    }
}
