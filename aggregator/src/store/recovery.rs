//! After a crash: agents say again what they have counted since the snapshot. Until they have,
//! `/metrics` would show less than it did before, so it shows nothing.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval},
};
use topology::NodeIx;

use crate::{clock, state::Shared};

/// How long is waited at most: a node that is gone must not keep the others from being seen.
const AT_MOST: Duration = Duration::from_secs(15);

const EVERY: Duration = Duration::from_millis(100);

/// Waits until these nodes have caught up, or for as long as may be, and ends the recovery.
pub(crate) async fn run(
    shared: Arc<Shared>,
    awaited: Vec<NodeIx>,
    mut shutdown: watch::Receiver<bool>,
) {
    let begin = Instant::now();
    let mut interval = interval(EVERY);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut back_at = None;
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            _ = shutdown.wait_for(|stop| *stop) => return,
        }
        let late = begin.elapsed() >= AT_MOST;
        let mut graph = shared.graph();
        if back_at.is_none() && awaited.iter().all(|node| graph.has_caught_up(*node)) {
            // What they brought is looked at all at once; links that are new have to settle.
            graph.hold(false);
            back_at = Some(clock::now());
        }
        if back_at.is_some() {
            graph.tick(clock::now());
        }
        if late || back_at.is_some_and(|at| graph.has_settled(at)) {
            graph.hold(false);
            graph.tick(clock::now());
            let missing: Vec<_> = awaited
                .iter()
                .filter_map(|ix| graph.node(*ix))
                .filter(|node| !node.connected())
                .map(|node| node.name().to_owned())
                .collect();
            drop(graph);
            shared.set_recovering(false);
            if missing.is_empty() {
                tracing::info!("the agents are back");
            } else {
                tracing::warn!(?missing, "these agents did not come back in time");
            }
            return;
        }
    }
}
