//! The aggregator's clock: the only one that places things in time.
//!
//! It goes at the pace of the clock that counts since the boot, which nobody sets. It begins at the wall clock's time,
//! and comes back to that by going a tenth faster or slower for as long as it takes. So a wall clock that is
//! set, by an hour forward or backward, moves nothing that is there and leaves no hole: steps follow one another.
//!
//! It never begins before the last moment that the journal has. A state from further ahead than [`BELIEVED`]
//! was made while the wall clock was wrong; there, the wall clock holds, and the graph sees to the rest. Nor is a
//! wall clock that is as much ahead approached slowly: it had not been set before.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nix::time::{ClockId, clock_gettime};
use topology::Timestamp;

/// One part in so many is what the pace is changed by.
const SLEW: u64 = 10;

/// Of how much more a clock is not ahead of another because it was set a bit wrong.
const BELIEVED: Duration = Duration::from_secs(86_400);

/// What the clock goes by.
pub(crate) trait Source: Send + Sync {
    /// Nanoseconds since the boot.
    fn boot_ns(&self) -> u64;
    /// Nanoseconds since the epoch, as the wall clock has it now.
    fn wall_ns(&self) -> u64;
}

/// The host's clocks.
pub(crate) struct Host;

impl Source for Host {
    fn boot_ns(&self) -> u64 {
        let since = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default();
        nanoseconds(since)
    }

    fn wall_ns(&self) -> u64 {
        // Before 1970 the clock is plainly wrong.
        nanoseconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The aggregator's clock. It never goes back.
pub(crate) struct Clock {
    source: Box<dyn Source>,
    last: Mutex<Last>,
}

/// When somebody last asked, and what the answer was.
#[derive(Clone, Copy)]
struct Last {
    boot_ns: u64,
    now_ns: u64,
}

impl Clock {
    /// A clock that begins now, and not before a moment that was.
    pub(crate) fn new(source: impl Source + 'static, not_before: Timestamp) -> Self {
        let (boot_ns, wall_ns) = (source.boot_ns(), source.wall_ns());
        let not_before = not_before.unix_ns();
        let now_ns = match not_before.saturating_sub(wall_ns) {
            ahead if ahead > nanoseconds(BELIEVED) => wall_ns,
            _ => wall_ns.max(not_before),
        };
        Self { source: Box::new(source), last: Mutex::new(Last { boot_ns, now_ns }) }
    }

    /// Now.
    pub(crate) fn now(&self) -> Timestamp {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (boot_ns, wall_ns) = (self.source.boot_ns(), self.source.wall_ns());
        let passed = boot_ns.saturating_sub(last.boot_ns);
        let pace = last.now_ns.saturating_add(passed);
        let now_ns = match wall_ns.saturating_sub(pace) {
            ahead if ahead > nanoseconds(BELIEVED) => wall_ns,
            ahead => {
                let behind = pace.saturating_sub(wall_ns);
                pace + ahead.min(passed / SLEW) - behind.min(passed / SLEW)
            }
        };
        *last = Last { boot_ns: boot_ns.max(last.boot_ns), now_ns };
        Timestamp::from_unix_ns(now_ns)
    }

    /// By how many seconds it is ahead of the wall clock.
    pub(crate) fn ahead_seconds(&self) -> f64 {
        let now = self.now().unix_ns();
        let wall = self.source.wall_ns();
        (i128::from(now) - i128::from(wall)) as f64 / 1e9
    }
}

/// What the wall clock says.
#[must_use]
pub fn wall() -> Timestamp {
    Timestamp::from_unix_ns(Host.wall_ns())
}

/// The same, in seconds since the epoch.
#[must_use]
pub fn unix_s() -> i64 {
    i64::try_from(wall().unix_ns() / 1_000_000_000).unwrap_or(i64::MAX)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };

    use proptest::prelude::*;

    use super::*;

    pub(crate) const BEGIN_S: u64 = 1_800_000_003;
    const S: u64 = 1_000_000_000;

    /// Clocks that are moved by hand.
    #[derive(Clone, Default)]
    pub(crate) struct Hands(Arc<(AtomicU64, AtomicU64)>);

    impl Hands {
        pub(crate) fn new() -> Self {
            let hands = Self::default();
            hands.set(0);
            hands
        }

        pub(crate) fn pass(&self, seconds: u64) {
            self.0.0.fetch_add(seconds * S, Ordering::Relaxed);
            self.0.1.fetch_add(seconds * S, Ordering::Relaxed);
        }

        /// Sets the wall clock to so many seconds after the begin, wherever it was.
        pub(crate) fn set(&self, seconds: i64) {
            let wall = BEGIN_S.saturating_add_signed(seconds) * S;
            self.0.1.store(wall, Ordering::Relaxed);
        }

        pub(crate) fn step(&self, seconds: i64) {
            let wall = self.0.1.load(Ordering::Relaxed);
            self.0.1.store(wall.saturating_add_signed(seconds * S as i64), Ordering::Relaxed);
        }
    }

    impl Source for Hands {
        fn boot_ns(&self) -> u64 {
            self.0.0.load(Ordering::Relaxed)
        }

        fn wall_ns(&self) -> u64 {
            self.0.1.load(Ordering::Relaxed)
        }
    }

    fn clock(hands: &Hands, not_before_s: u64) -> Clock {
        Clock::new(hands.clone(), Timestamp::from_unix_ns((BEGIN_S + not_before_s) * S))
    }

    /// Seconds since the begin.
    fn now(clock: &Clock) -> f64 {
        (clock.now().unix_ns() - BEGIN_S * S) as f64 / 1e9
    }

    #[test]
    fn it_goes_at_a_steady_pace_whatever_the_wall_clock_does() {
        for step in [3_600, -3_600] {
            let hands = Hands::new();
            let clock = clock(&hands, 0);
            hands.pass(100);
            assert!((now(&clock) - 100.0).abs() < 1e-6);
            hands.step(step);
            assert!((now(&clock) - 100.0).abs() < 1e-6, "nothing has passed");
            hands.pass(100);
            let tenth = 10.0_f64.copysign(step as f64);
            assert!((now(&clock) - 200.0 - tenth).abs() < 1e-6);
            // It gets there in the end, and stays.
            for _ in 0..40 {
                hands.pass(1_000);
                now(&clock);
            }
            assert!(clock.ahead_seconds().abs() < 1e-6);
        }
    }

    #[test]
    fn it_never_begins_before_what_was() {
        let hands = Hands::new();
        let behind = clock(&hands, 3_600);
        assert!((now(&behind) - 3_600.0).abs() < 1e-6);
        hands.pass(10);
        assert!((now(&behind) - 3_609.0).abs() < 1e-6, "it is not held up, either");
        assert!((behind.ahead_seconds() - 3_599.0).abs() < 1e-6);
        // Unless that cannot have been.
        assert!(now(&clock(&hands, 100_000)) < 11.0);
    }

    #[test]
    fn a_wall_clock_that_had_not_been_set_is_believed_when_it_is() {
        let hands = Hands::new();
        let clock = clock(&hands, 0);
        hands.step(10 * 365 * 86_400);
        assert!((now(&clock) - 315_360_000.0).abs() < 1e-3);
    }

    proptest! {
        #[test]
        fn it_never_goes_back_and_never_stands_still(
            moves in proptest::collection::vec((1..200_u64, -50_000..50_000_i64), 1..60),
        ) {
            let hands = Hands::new();
            let clock = clock(&hands, 0);
            let mut before = now(&clock);
            for (passes, steps) in moves {
                hands.step(steps);
                hands.pass(passes);
                let after = now(&clock);
                let passed = passes as f64;
                prop_assert!(after - before > 0.89 * passed);
                prop_assert!(after - before < 1.11 * passed || steps > 0);
                before = after;
            }
        }
    }
}
