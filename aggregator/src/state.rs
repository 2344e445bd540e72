//! What ingest, ticker and readers share.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::Semaphore;
use topology::Graph;

use crate::{config::Config, ingest::Sessions, metrics::Metrics};

/// Answers out of the whole graph that are made at a time.
const ANSWERS: usize = 4;

/// What ingest, ticker and readers share.
pub struct Shared {
    graph: Mutex<Graph>,
    ready: AtomicBool,
    recovering: AtomicBool,
    /// The aggregator's own metrics.
    pub metrics: Metrics,
    /// What agents have sent so far.
    pub sessions: Sessions,
    /// Whose turn it is to make an answer out of the whole graph.
    pub answers: Arc<Semaphore>,
    /// Random number of the state.
    pub instance: u64,
    /// Whether `/metrics` has the `traces_service_graph_…` series.
    pub service_graph_metrics: bool,
    /// Nodes that are missed when they do not report.
    pub expected_nodes: Vec<String>,
}

impl Shared {
    /// Not ready yet.
    #[must_use]
    pub fn new(
        graph: Graph,
        sessions: Sessions,
        metrics: Metrics,
        instance: u64,
        config: &Config,
    ) -> Self {
        Self {
            graph: Mutex::new(graph),
            ready: AtomicBool::new(false),
            recovering: AtomicBool::new(false),
            metrics,
            sessions,
            answers: Arc::new(Semaphore::new(ANSWERS)),
            instance,
            service_graph_metrics: config.service_graph_metrics,
            expected_nodes: config.expected_nodes.clone(),
        }
    }

    /// The graph. It is held for one batch, tick or answer; never across an await.
    pub fn graph(&self) -> MutexGuard<'_, Graph> {
        // A panic while it was held is a bug, but the numbers of the others are still right.
        self.graph.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether agents can connect and what was stored is back.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed) && !self.is_recovering()
    }

    /// Whether some of what was published before a crash may still be missing.
    pub fn is_recovering(&self) -> bool {
        // The numbers that it is about are behind the lock of the graph.
        self.recovering.load(Ordering::Relaxed)
    }

    /// Sets what [`is_recovering`](Self::is_recovering) says.
    pub fn set_recovering(&self, recovering: bool) {
        self.recovering.store(recovering, Ordering::Relaxed);
    }

    /// Sets what [`is_ready`](Self::is_ready) says.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }
}
