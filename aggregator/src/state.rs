//! What ingest, ticker and readers share.

use std::{
    sync::{
        MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::timeout;
use topology::{Grouping, Rank, Sums, Timestamp, View, Window, Zones};

use crate::{
    clock::Clock,
    config::{Budget, Config},
    core::{Core, Held},
    http::{Answers, Kept},
    ingest::Streams,
    metrics::Metrics,
    store::Store,
};

/// How long a reader waits for the journal. On a disk that is slower than that, an answer may be ahead of what
/// a crash would leave.
const DURABLE_WAIT: Duration = Duration::from_secs(5);

/// What ingest, ticker and readers share.
pub struct Shared {
    core: Held<Core>,
    pub(crate) clock: Clock,
    ready: AtomicBool,
    pub(crate) store: Store,
    /// The aggregator's own metrics.
    pub metrics: Metrics,
    /// The streams that are open.
    pub(crate) streams: Streams,
    /// Whose turn it is to make an answer out of the whole graph.
    pub(crate) answers: Answers,
    /// Answers that were made of late, for whoever asks for the same.
    pub(crate) kept: Kept,
    /// What steps that are over add up to.
    sums: Sums,
    /// Whether `/metrics` has the `traces_service_graph_…` series.
    pub service_graph_metrics: bool,
    /// Nodes that are missed when they do not report.
    pub expected_nodes: Vec<String>,
    /// How much room there is for what agents report.
    pub budget: Budget,
}

impl Shared {
    /// Not ready yet.
    pub(crate) fn new(
        core: Core,
        store: Store,
        clock: Clock,
        metrics: Metrics,
        config: &Config,
    ) -> Self {
        Self {
            core: Held::new(core),
            clock,
            ready: AtomicBool::new(false),
            store,
            answers: Answers::new(metrics.answers_cut.clone()),
            kept: Kept::default(),
            sums: Sums::default(),
            metrics,
            streams: Streams::default(),
            service_graph_metrics: config.service_graph_metrics,
            expected_nodes: config.expected_nodes.clone(),
            budget: config.budget,
        }
    }

    /// The aggregator's time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The state. It is held for one batch, or while a few things are taken out of it; never across an await.
    pub fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock()
    }

    /// What [`core`](Self::core) locks.
    pub(crate) const fn held(&self) -> &Held<Core> {
        &self.core
    }

    /// Waits until the journal has everything up to a position, so that a crash cannot take back what is about to
    /// be said; returns whether it has. It is not waited for while it cannot be written, or the disk hangs.
    pub(crate) async fn until_durable(&self, position: u64) -> bool {
        let journal = self.store.journal();
        let mut durable = journal.durable();
        if *durable.borrow_and_update() >= position {
            return true;
        }
        if !journal.is_behind() {
            journal.hurry();
            let reached = durable.wait_for(|durable| *durable >= position);
            if matches!(timeout(DURABLE_WAIT, reached).await, Ok(Ok(_))) {
                return true;
            }
        }
        self.metrics.store.answers_ahead.inc();
        false
    }

    /// The graph over a window of time, as of now, to be grouped as said: from memory as far as that goes, else from the
    /// history, which is read while nothing is held. Nor is anything held while it is added up.
    pub fn view(&self, asked: Window, by: Grouping, now: Timestamp) -> View {
        self.kept.read();
        Core::view_all(&self.core, &self.sums, self.store.history(), (asked, by), now)
    }

    /// The same, where all but some nodes are folded into one.
    pub(crate) fn folded(&self, asked: Window, limit: usize, rank: Rank, now: Timestamp) -> View {
        self.kept.read();
        let asked = (asked, limit, rank);
        Core::folded_all(&self.core, &self.sums, self.store.history(), asked, now)
    }

    /// Adds up what the next answers will need. To be called when no reader waits.
    pub(crate) fn prepare_views(&self) {
        self.sums.prepare();
    }

    /// Which hosts are in which zones, as the rules say.
    pub(crate) fn set_zones(&self, zones: Zones) {
        self.core().set_zones(zones);
    }

    /// Whether agents can connect and what was stored is back.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// Sets what [`is_ready`](Self::is_ready) says.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }
}
