//! Lets time pass in the graph.
//!
//! A tick looks once at every link that has changed, however often it has. Whoever wants to know anything has one made
//! first, and so does the end of a step, so that what is gained is placed in the right one. Between these a tick tells
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

/// Ticks take at most one part of so many of the time, but for those that end steps or that readers ask for.
const REST: u32 = 50;

/// A wall clock that is further away than this was set, or is about to be.
const FAR_SECONDS: f64 = 60.0;

/// When a tick is worth it.
struct Pace {
    due: Instant,
}

impl Pace {
    fn is_due(&self, now: Instant) -> bool {
        self.due <= now
    }

    /// There was one, from and to these moments.
    fn ticked(&mut self, begun: Instant, ended: Instant) {
        self.due = begun + ended.saturating_duration_since(begun).saturating_mul(REST);
    }
}

/// Ticks until `shutdown` says so.
pub async fn run(shared: Arc<Shared>, mut shutdown: watch::Receiver<bool>) {
    let mut interval = interval(EVERY);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut far = false;
    let mut pace = Pace { due: Instant::now() };
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            _ = shutdown.wait_for(|stop| *stop) => return,
        }
        // Where it may take long without holding up those who share this thread.
        let looking = Arc::clone(&shared);
        let is_due = pace.is_due(Instant::now());
        match spawn_blocking(move || look(&looking, is_due)).await {
            Ok(Some((begun, ended))) => pace.ticked(begun, ended),
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "a tick failed"),
        }
        // Who waits for it has one made that was not worth it so far.
        shared.ticked.notify_waiters();
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
        let timer = shared.metrics.tick_seconds.start_timer();
        core.tick(now);
        timer.observe_duration();
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
        let mut pace = Pace { due: begun };
        assert!(pace.is_due(begun));
        pace.ticked(begun, begun + Duration::from_millis(20));
        assert!(pace.is_due(begun + EVERY), "each second");
        pace.ticked(begun, begun + Duration::from_millis(100));
        assert!(!pace.is_due(begun + 4 * EVERY));
        assert!(pace.is_due(begun + 5 * EVERY));
    }
}
