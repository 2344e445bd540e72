//! Stores the graph every few seconds.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};

use super::Store;
use crate::state::Shared;

/// How old a snapshot gets.
const EVERY: Duration = Duration::from_secs(10);

/// Stores until `shutdown` says so. What cannot be stored is said once, and counting goes on.
pub(crate) async fn run(
    store: Arc<Store>,
    shared: Arc<Shared>,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut interval = interval(EVERY);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            _ = shutdown.wait_for(|stop| *stop) => return,
        }
        if shared.is_recovering() {
            // It would no longer say whom to wait for.
            continue;
        }
        let saved = save(&store, &shared, false).await;
        match &saved {
            Ok(()) if failing => tracing::info!("snapshots can be written again"),
            Err(error) if !failing => tracing::error!(
                "cannot write a snapshot, a restart would go on from an older one: {error}"
            ),
            _ => {}
        }
        failing = saved.is_err();
    }
}

/// Stores once.
pub(crate) async fn save(store: &Arc<Store>, shared: &Arc<Shared>, last: bool) -> io::Result<()> {
    let (store, sharing) = (Arc::clone(store), Arc::clone(shared));
    let saved = spawn_blocking(move || store.save(&sharing, last)).await;
    let saved = saved.unwrap_or_else(|error| Err(io::Error::other(error)));
    let metrics = &shared.metrics;
    let counter = if saved.is_ok() { &metrics.snapshots } else { &metrics.snapshots_failed };
    counter.inc();
    saved
}
