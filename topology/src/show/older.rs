//! What somebody else has kept, together with what the graph still has.

use std::{collections::HashMap, sync::Arc};

use super::{
    coverage::one_sided,
    view::{View, ViewEdge, ViewNode},
};
use crate::{
    base::{
        id::Id,
        time::{Timestamp, Window},
    },
    count::history::Lost,
};

/// What was kept of a stretch of time before that of a [`View`].
#[derive(Clone, Debug, Default)]
pub struct Older {
    /// The stretch, snapped outward to what is stored; empty when nothing of it is.
    pub window: Window,
    /// From when on anything is stored; `None` when nothing is.
    pub stored_from: Option<Timestamp>,
    /// What was lost in it.
    pub lost: Lost,
    /// The ends of all edges.
    pub nodes: Vec<Arc<ViewNode>>,
    /// Its edges; connections are open at its end.
    pub edges: Vec<ViewEdge>,
}

impl View {
    /// The view with what was kept of the time before it. `asked` is the whole window.
    #[must_use]
    pub fn with_older(mut self, older: Older, asked: Window) -> View {
        let ends_before = self.window.from >= self.window.to;
        if older.window.from < older.window.to {
            self.window.from = older.window.from;
            if ends_before {
                self.window.to = older.window.to;
            }
        }
        let at: HashMap<Id, usize> =
            self.edges.iter().enumerate().map(|(at, edge)| (edge.id, at)).collect();
        for mut edge in older.edges {
            match at.get(&edge.id).and_then(|at| self.edges.get_mut(*at)) {
                Some(known) => known.add_older(&edge, ends_before),
                None => {
                    if !ends_before {
                        edge.connections_open = 0;
                    }
                    self.edges.push(edge);
                }
            }
        }
        self.edges.sort_unstable_by_key(|edge| edge.id);
        // What is known now is better than what was known then: the first of two stays.
        self.nodes.extend(older.nodes);
        self.nodes.sort_by_key(|node| node.id);
        self.nodes.dedup_by_key(|node| node.id);
        let coverage = &mut self.coverage;
        coverage.events_lost = coverage.events_lost.saturating_add(older.lost.events);
        coverage.batches_lost = coverage.batches_lost.saturating_add(older.lost.batches);
        coverage.inserts_refused = coverage.inserts_refused.saturating_add(older.lost.inserts);
        coverage.series_folded = coverage.series_folded.saturating_add(older.lost.folded);
        if let Some(stored_from) = older.stored_from {
            coverage.history_from = coverage.history_from.min(stored_from);
        }
        coverage.edges_one_sided = one_sided(&self.nodes, &self.edges);
        coverage.conclude(asked, self.window);
        self
    }
}

impl ViewEdge {
    fn add_older(&mut self, older: &ViewEdge, ends_before: bool) {
        self.totals.merge(&older.totals);
        self.seen_by = self.seen_by.merge(older.seen_by);
        self.resolved_by = self.resolved_by.min(older.resolved_by);
        // It was published then.
        self.pending = false;
        if ends_before {
            self.connections_open = older.connections_open;
        }
    }
}
