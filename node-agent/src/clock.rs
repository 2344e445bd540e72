//! Moments that another process can compare with its own.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

/// A moment by the clock that never steps, which counts since the boot and while the host sleeps,
/// and by the wall clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Nanoseconds since the boot.
    pub boot_ns: u64,
    /// Nanoseconds since the epoch.
    pub unix_ns: u64,
}

impl Moment {
    /// This moment.
    #[must_use]
    pub fn now() -> Self {
        let boot = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default();
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { boot_ns: nanos(boot), unix_ns: nanos(unix) }
    }

    /// Nanoseconds from an earlier moment of the same boot.
    #[must_use]
    pub const fn since(&self, earlier: &Self) -> u64 {
        self.boot_ns.saturating_sub(earlier.boot_ns)
    }

    /// Nanoseconds from a moment of an earlier boot, as far as the wall clock can tell.
    #[must_use]
    pub const fn since_other_boot(&self, earlier: &Self) -> u64 {
        self.unix_ns.saturating_sub(earlier.unix_ns)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
