//! What an answer may be missing.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use super::view::{SeenBy, View, ViewEdge, ViewNode};
use crate::{
    Graph,
    base::{
        id::Id,
        time::{Timestamp, Window},
        totals::Measure,
    },
    count::history::Lost,
    model::{ProgramState, WorkloadKind},
    nodes::told::{Hole, HoleReason},
    who::cluster::facts::ClusterKind,
};

/// What an answer may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Nothing is missing: every expected node reports, all its programs count, nothing was
    /// lost or folded in the window, none was silent in it, what was folded in time lies in it wholly, every edge was
    /// seen from each covered side, the window does not reach back before the history, and a cluster that is watched is
    /// heard.
    pub complete: bool,
    /// Nodes seen within [`crate::Config::node_memory`], or named in the configuration.
    pub nodes_expected: usize,
    /// Expected nodes that are connected.
    pub nodes_reporting: usize,
    /// Names of the expected nodes that are not, in order.
    pub nodes_silent: Vec<String>,
    /// Events lost in the window.
    pub events_lost: u64,
    /// Batches lost in the window.
    pub batches_lost: u64,
    /// Inserts that a full table refused in the window.
    pub inserts_refused: u64,
    /// What was folded in the window: halves, workloads and edges that are counted together with others, in an
    /// edge of a node of kind `other`, to stay within a budget.
    pub series_folded: u64,
    /// Edges of the answer with connections that only one side has seen although
    /// the other is covered.
    pub edges_one_sided: usize,
    /// How far back the history goes, for what was asked: that of services may go further than that of workloads and
    /// hosts.
    pub history_from: Timestamp,
    /// Between workloads on their hosts: when the graph began. The history of these may begin later, and what is asked
    /// for from before it is not complete.
    pub begun: Option<Timestamp>,
    /// A program of a connected node should count and does not.
    pub programs_failed: bool,
    /// Kinds of objects of a cluster that should be watched and are not now, or have not been listed yet: who has its
    /// addresses is known as it was told last, or not at all.
    pub kubernetes_unheard: Vec<ClusterKind>,
    /// Stretches of the window of which something is not known of an expected node, in order.
    pub holes: Vec<Hole>,
    /// How many more there are.
    pub holes_left_out: u64,
}

/// Holes in one answer.
const MOST_HOLES: usize = 100;

impl Coverage {
    /// Sets what follows from the rest.
    pub(super) fn conclude(&mut self, asked: Window, window: Window) {
        self.complete = self.nodes_silent.is_empty()
            && (self.events_lost, self.batches_lost, self.inserts_refused) == (0, 0, 0)
            && self.series_folded == 0
            && self.edges_one_sided == 0
            && asked.to >= self.history_from
            && window.from >= self.history_from
            && (asked.from >= self.history_from
                || self.begun.is_none_or(|begun| self.history_from <= begun))
            && !self.programs_failed
            && self.kubernetes_unheard.is_empty()
            && self.holes_left_out == 0
            && self.holes.iter().all(|hole| hole.lies_wholly_in(window));
    }
}

impl Hole {
    /// Whether all that is not known of it is when in the window something happened.
    fn lies_wholly_in(&self, window: Window) -> bool {
        self.reason == HoleReason::Folded && self.from >= window.from && self.to <= window.to
    }
}

impl View {
    /// How many of its edges only one side has seen, although the other is covered.
    #[must_use]
    pub fn one_sided(&self) -> usize {
        one_sided(&self.nodes, &self.edges)
    }
}

/// How many edges only one side has seen, although the other is covered.
pub(crate) fn one_sided(nodes: &[Arc<ViewNode>], edges: &[ViewEdge]) -> usize {
    let uncovered: HashSet<Id> = nodes
        .iter()
        .filter(|node| matches!(node.kind, WorkloadKind::External | WorkloadKind::Other))
        .map(|node| node.id)
        .collect();
    let is_one_sided = |edge: &&ViewEdge| {
        let missing = match edge.seen_by {
            SeenBy::Both => return false,
            SeenBy::Client => edge.target,
            SeenBy::Server => edge.source,
        };
        let connected = edge.connections_open > 0 || edge.totals.get(Measure::Connections) > 0;
        !edge.pending && connected && !uncovered.contains(&missing)
    };
    edges.iter().filter(is_one_sided).count()
}

impl Graph {
    /// What is not known of a window because nodes have not told it, or not in detail; and how much more there is.
    #[must_use]
    pub fn holes(&self, window: Window) -> (Vec<Hole>, u64) {
        let now = self.clock;
        let mut left_out = 0;
        let mut holes = Vec::new();
        for node in self.nodes() {
            let (found, forgotten) = node.told.holes(window, node.connected(), now);
            left_out += forgotten;
            holes.extend(found.map(|(from, to, reason)| Hole {
                from,
                to,
                reason,
                node: node.name().to_owned(),
            }));
        }
        let never = |name: &&String| self.nodes.find(name).is_none();
        holes.extend(self.config.expected_nodes.iter().filter(never).map(|name| Hole {
            from: window.from.max(self.history.first()),
            to: window.to,
            reason: HoleReason::Silent,
            node: name.clone(),
        }));
        holes.sort_unstable();
        left_out += holes.len().saturating_sub(MOST_HOLES) as u64;
        holes.truncate(MOST_HOLES);
        (holes, left_out)
    }

    pub(crate) fn coverage(
        &self,
        asked: Window,
        window: Window,
        lost: Lost,
        edges_one_sided: usize,
    ) -> Coverage {
        let mut expected: BTreeMap<&str, bool> =
            self.config.expected_nodes.iter().map(|name| (name.as_str(), false)).collect();
        expected.extend(self.nodes().map(|node| (node.name(), node.connected())));
        let nodes_reporting = expected.values().filter(|connected| **connected).count();
        let silent = expected.iter().filter(|(_, connected)| !**connected);
        let nodes_silent: Vec<_> = silent.map(|(name, _)| (*name).to_owned()).collect();
        let failed = |node: &crate::Node| {
            node.connected()
                && node.programs().iter().any(|program| program.state == ProgramState::Failed)
        };
        let mut coverage = Coverage {
            complete: false,
            nodes_expected: expected.len(),
            nodes_reporting,
            nodes_silent,
            events_lost: lost.events,
            batches_lost: lost.batches,
            inserts_refused: lost.inserts,
            series_folded: lost.folded,
            edges_one_sided,
            history_from: self.history.from().unwrap_or(self.clock),
            begun: None,
            programs_failed: self.nodes().any(failed),
            kubernetes_unheard: self.cluster_unheard(),
            holes: Vec::new(),
            holes_left_out: 0,
        };
        (coverage.holes, coverage.holes_left_out) = self.holes(window);
        coverage.conclude(asked, window);
        coverage
    }
}
