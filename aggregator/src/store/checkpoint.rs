//! Writes a snapshot whenever a restart would have too much to read.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{Instant, MissedTickBehavior, interval},
};

use super::Store;
use crate::state::Shared;

/// How often it is looked whether one is due.
const EVERY: Duration = Duration::from_secs(1);

/// Bytes of journal that are read in a moment: some eight million records, which take a second or two.
const FEW: u64 = 128 << 20;

/// Bytes of journal that are not to be read once more, should this one end soon, too.
const ONCE: u64 = 4 << 20;

/// The journal gets this many times as long as the last snapshot: so snapshots add at most half to what is written.
const TIMES: u64 = 2;

/// After one that failed, the next is tried this much later.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// Writes snapshots until `shutdown` says so. What cannot be written is said once, and counting goes on.
pub(crate) async fn run(shared: Arc<Shared>, mut shutdown: watch::Receiver<bool>) {
    let mut interval = interval(EVERY);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut not_before = Instant::now();
    let mut failing = false;
    // Who is killed again and again would take longer each time, and on a busy machine longer than anybody waits.
    let mut is_first = shared.store.since_snapshot() >= ONCE;
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            _ = shutdown.wait_for(|stop| *stop) => return,
        }
        if Instant::now() < not_before || !(is_first || is_due(&shared.store)) {
            continue;
        }
        let written = write(&shared).await;
        match &written {
            Ok(()) if failing => tracing::info!("snapshots can be written again"),
            Err(error) if !failing => tracing::error!("cannot write a snapshot: {error}"),
            _ => {}
        }
        failing = written.is_err();
        is_first &= failing;
        if failing {
            not_before = Instant::now() + AFTER_FAILURE;
        }
    }
}

fn is_due(store: &Store) -> bool {
    let last = store.last_bytes.load(std::sync::atomic::Ordering::Relaxed);
    store.journal.is_failing() || store.since_snapshot() >= FEW.max(TIMES * last)
}

/// Writes one.
pub(crate) async fn write(shared: &Arc<Shared>) -> std::io::Result<()> {
    let sharing = Arc::clone(shared);
    let written = spawn_blocking(move || sharing.store.checkpoint(sharing.held())).await;
    written.unwrap_or_else(|error| Err(std::io::Error::other(error)))
}
