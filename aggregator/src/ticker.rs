//! Lets time pass in the graph.
//!
//! A tick looks once at every link that has changed, however often it has. Whoever wants to know anything of a graph that
//! is not large has one made first, and so does the end of a step, so that what is gained is placed in the right one. Between these a tick tells
//! nobody anything: where links are many and it takes its time, it may wait until there is more for it to do. What has
//! to be watched over some seconds is, by a glance each second.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};

use crate::state::Shared;

/// How often links are looked at, as long as that costs next to nothing: settling and history are in steps of seconds.
const EVERY: Duration = Duration::from_secs(1);

/// Ticks take at most one part of so many of the time, but for those that end steps; and where somebody reads.
const REST: u32 = 50;
const REST_READ: u32 = 4;

/// A wall clock that is further away than this was set, or is about to be.
const FAR_SECONDS: f64 = 60.0;

/// When a tick is worth it.
struct Pace {
    begun: Instant,
    took: Duration,
}

impl Pace {
    /// Whether it is, for somebody who reads or for nobody.
    fn is_due(&self, is_read: bool, now: Instant) -> bool {
        let rest = if is_read { REST_READ } else { REST };
        self.begun + self.took.saturating_mul(rest) <= now
    }

    /// There was one, from and to these moments.
    fn ticked(&mut self, begun: Instant, ended: Instant) {
        *self = Pace { begun, took: ended.saturating_duration_since(begun) };
    }
}

/// Ticks until `shutdown` says so.
pub async fn run(shared: Arc<Shared>, mut shutdown: watch::Receiver<bool>) {
    let mut interval = interval(EVERY);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut far = false;
    let mut pace = Pace { begun: Instant::now(), took: Duration::ZERO };
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            _ = shutdown.wait_for(|stop| *stop) => return,
        }
        // Where it may take long without holding up those who share this thread.
        let looking = Arc::clone(&shared);
        let is_due = pace.is_due(shared.kept.is_read(), Instant::now());
        match spawn_blocking(move || look(&looking, is_due)).await {
            Ok(Some((begun, ended))) => pace.ticked(begun, ended),
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "a tick failed"),
        }
        let ahead = shared.clock.ahead_seconds();
        shared.metrics.clock_ahead_seconds.set(ahead);
        let was_far = std::mem::replace(&mut far, ahead.abs() > FAR_SECONDS);
        if far && !was_far {
            tracing::warn!(
                seconds = ahead,
                "the aggregator's time is ahead of the wall clock, which was set; it comes back \
                 slowly, and nothing is misplaced"
            );
        } else if was_far && !far {
            tracing::info!("the aggregator's time is that of the wall clock again");
        }
    }
}

/// Ticks, from and to these moments, where that is due or a step is over; else glances.
fn look(shared: &Shared, is_due: bool) -> Option<(Instant, Instant)> {
    let now = shared.now();
    let mut core = shared.held().lock_for_long();
    let begun = Instant::now();
    let ticked = if is_due || core.graph().is_step_over(now) {
        shared.kept.ticks();
        let timer = shared.metrics.tick_seconds.start_timer();
        core.tick(now);
        timer.observe_duration();
        shared.kept.ticked(core.is_large());
        Some((begun, Instant::now()))
    } else {
        core.glance(now);
        None
    };
    shared.metrics.kubernetes.set(core.graph(), now);
    ticked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_that_take_long_are_seldom() {
        let begun = Instant::now();
        let mut pace = Pace { begun, took: Duration::ZERO };
        assert!(pace.is_due(false, begun));
        pace.ticked(begun, begun + Duration::from_millis(20));
        assert!(pace.is_due(false, begun + EVERY), "each second");
        pace.ticked(begun, begun + Duration::from_millis(100));
        assert!(!pace.is_due(false, begun + 4 * EVERY));
        assert!(pace.is_due(false, begun + 5 * EVERY));
        pace.ticked(begun, begun + Duration::from_millis(500));
        assert!(!pace.is_due(true, begun + EVERY), "others want to do something, too");
        assert!(pace.is_due(true, begun + 2 * EVERY) && !pace.is_due(false, begun + 2 * EVERY));
    }
}
