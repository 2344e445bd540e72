//! The aggregator's clock: the only one that places things in time.

use std::time::{SystemTime, UNIX_EPOCH};

use topology::Timestamp;

/// Now.
#[must_use]
pub fn now() -> Timestamp {
    // Before 1970 the clock is plainly wrong; the graph keeps its own time from going back.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_ns(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// The same, in seconds since the epoch.
#[must_use]
pub fn unix_s() -> i64 {
    i64::try_from(now().unix_ns() / 1_000_000_000).unwrap_or(i64::MAX)
}
