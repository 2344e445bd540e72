//! How large the graph is, for the aggregator's own metrics.

use crate::Graph;

/// Sizes of the graph, and what it could not use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Services known.
    pub services: usize,
    /// Halves known, ended ones that are still remembered included.
    pub halves: usize,
    /// Links known.
    pub links: usize,
    /// Links that will be looked at in the next tick.
    pub links_queued: usize,
    /// Edges with a place in the history, or with a link.
    pub edges: usize,
    /// Records for halves that were no longer known.
    pub stale_records: u64,
    /// Halves that there was no room for, counted together with others.
    pub halves_folded: u64,
    /// Edges that there was no room for, counted together with others.
    pub edges_folded: u64,
    /// Edges whose hosts and workloads are not told apart any more, for lack of room, since the start.
    pub edges_unplaced: u64,
    /// Workloads that there was no room for, counted as `other`.
    pub workloads_folded: u64,
    /// Series that are remembered, shown or not.
    pub series: usize,
    /// Series that were forgotten after they had not been shown for long: should one come again, it begins at 0.
    pub series_forgotten: u64,
}

impl Graph {
    /// Sizes of the graph.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            services: self.services.len(),
            halves: self.halves.len(),
            links: self.links.len(),
            links_queued: self.links.queue.len(),
            edges: self.edges.len(),
            stale_records: self.halves.stale_records,
            halves_folded: self.halves_folded,
            edges_folded: self.edges.folded,
            edges_unplaced: self.edges.unplaced,
            workloads_folded: self.services.folded,
            series: self.edges.series.len(),
            series_forgotten: self.edges.series.forgotten,
        }
    }
}
