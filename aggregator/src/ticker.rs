//! Lets time pass in the graph.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

use crate::{clock, state::Shared};

/// How often links are looked at: settling and history are in steps of seconds.
const EVERY: Duration = Duration::from_secs(1);

/// Ticks until `shutdown` says so.
pub async fn run(shared: Arc<Shared>, mut shutdown: watch::Receiver<bool>) {
    let mut interval = interval(EVERY);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            _ = shutdown.wait_for(|stop| *stop) => return,
        }
        let timer = shared.metrics.tick_seconds.start_timer();
        shared.core().tick(clock::now());
        timer.observe_duration();
    }
}
