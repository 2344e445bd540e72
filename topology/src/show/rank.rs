//! What comes first.

use std::{cmp::Reverse, collections::HashMap};

use super::view::{View, ViewEdge};
use crate::{
    base::{
        id::Id,
        totals::{EdgeTotals, Measure},
    },
    model::HistogramKind,
};

/// By what edges and nodes are put in order, highest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rank {
    /// Payload bytes in both directions.
    #[default]
    Bytes,
    /// Connections established.
    Connections,
    /// Attempts that failed.
    Failures,
    /// The 99th percentile of the round-trip time.
    Rtt,
}

impl Rank {
    /// How high an edge is; only good to be compared with others of the same rank.
    fn of_edge(self, edge: &ViewEdge) -> u64 {
        self.of_totals(&edge.totals)
    }

    /// How high an edge is that moved so much.
    pub(super) fn of_totals(self, totals: &EdgeTotals) -> u64 {
        match self {
            Rank::Bytes => totals.bytes(),
            Rank::Connections => totals.get(Measure::Connections),
            Rank::Failures => totals.failures(),
            Rank::Rtt => {
                let p99 = totals.histogram(HistogramKind::Rtt).quantile(0.99);
                // Whole nanoseconds; the conversion stays at the most.
                p99.map_or(0, |seconds| (seconds * 1e9) as u64)
            }
        }
    }

    /// How high each node is: the sum of its edges, or, of times, the longest.
    pub(super) fn of_nodes(self, edges: &[ViewEdge]) -> HashMap<Id, u64> {
        let mut nodes: HashMap<Id, u64> = HashMap::new();
        for edge in edges {
            let high = self.of_edge(edge);
            for end in [edge.source, edge.target] {
                let node = nodes.entry(end).or_default();
                *node = match self {
                    Rank::Rtt => high.max(*node),
                    _ => node.saturating_add(high),
                };
            }
        }
        nodes
    }
}

impl View {
    /// Puts the edges in order, highest first.
    #[must_use]
    pub fn sorted(mut self, rank: Rank) -> View {
        self.edges.sort_by_cached_key(|edge| (Reverse(rank.of_edge(edge)), edge.id));
        self
    }
}
