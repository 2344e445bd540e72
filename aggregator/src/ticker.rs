//! Lets time pass in the graph.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

use crate::state::Shared;

/// How often links are looked at: settling and history are in steps of seconds.
const EVERY: Duration = Duration::from_secs(1);

/// A wall clock that is further away than this was set, or is about to be.
const FAR_SECONDS: f64 = 60.0;

/// Ticks until `shutdown` says so.
pub async fn run(shared: Arc<Shared>, mut shutdown: watch::Receiver<bool>) {
    let mut interval = interval(EVERY);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut far = false;
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            _ = shutdown.wait_for(|stop| *stop) => return,
        }
        let timer = shared.metrics.tick_seconds.start_timer();
        let now = shared.now();
        {
            let mut core = shared.core();
            core.tick(now);
            shared.metrics.kubernetes.set(core.graph(), now);
        }
        timer.observe_duration();
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
