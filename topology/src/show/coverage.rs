//! What an answer may be missing.

use std::collections::BTreeMap;

use crate::{
    Graph,
    base::time::{Timestamp, Window},
    count::history::Lost,
    model::ProgramState,
};

/// What an answer may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Nothing is missing: every expected node reports, all its programs count, nothing was
    /// lost in the window, every edge was seen from each covered side, and the window does not
    /// reach back before the history.
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
    /// Series that were folded to stay within a budget. There is none yet.
    pub series_folded: u64,
    /// Edges of the answer with connections that only one side has seen although
    /// the other is covered.
    pub edges_one_sided: usize,
    /// How far back the history goes.
    pub history_from: Timestamp,
}

impl Graph {
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
        let history_from = self.history.from().unwrap_or(self.clock);
        Coverage {
            complete: nodes_silent.is_empty()
                && lost == Lost::default()
                && edges_one_sided == 0
                && asked.to >= history_from
                && window.from >= history_from
                && !self.nodes().any(failed),
            nodes_expected: expected.len(),
            nodes_reporting,
            nodes_silent,
            events_lost: lost.events,
            batches_lost: lost.batches,
            inserts_refused: lost.inserts,
            series_folded: 0,
            edges_one_sided,
            history_from,
        }
    }
}
