//! The graph as something that can be stored, and back.
//!
//! All that later numbers depend on is in it: halves and their totals, links, what was published, who
//! is who. The steps of the history and the gains of the running one are not.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Graph, expire::Forgetting, questions::Questions, signals::Signals};
use crate::{
    base::time::Timestamp,
    config::Config,
    count::{edges::Edges, half::Halves, link::Links},
    nodes::{NodeIx, Nodes},
    who::{evidence::Evidence, services::Services},
};

/// The layout of a [`Snapshot`]: to be raised whenever a stored type changes.
pub const SNAPSHOT_VERSION: u32 = 2;

/// How long an agent that is back may take to open again what is to be opened: a half that it has
/// given up since the snapshot never comes.
const TELLING: Duration = Duration::from_secs(3);

/// A graph to be written, borrowed.
#[derive(Serialize)]
pub struct SnapshotRef<'a> {
    clock: Timestamp,
    nodes: &'a Nodes,
    services: &'a Services,
    evidence: &'a Evidence,
    halves: &'a Halves,
    links: &'a Links,
    edges: &'a Edges,
    halves_refused: u64,
    signals: &'a Signals,
    questions: &'a Questions,
    forgetting: &'a Forgetting,
}

/// A graph that was read, to be given to [`Graph::resume`].
#[derive(Deserialize)]
pub struct Snapshot {
    clock: Timestamp,
    nodes: Nodes,
    services: Services,
    evidence: Evidence,
    halves: Halves,
    links: Links,
    edges: Edges,
    halves_refused: u64,
    signals: Signals,
    questions: Questions,
    forgetting: Forgetting,
}

impl Graph {
    /// What has to be stored for [`Graph::resume`].
    #[must_use]
    pub const fn snapshot(&self) -> SnapshotRef<'_> {
        SnapshotRef {
            clock: self.clock,
            nodes: &self.nodes,
            services: &self.services,
            evidence: &self.evidence,
            halves: &self.halves,
            links: &self.links,
            edges: &self.edges,
            halves_refused: self.halves_refused,
            signals: &self.signals,
            questions: &self.questions,
            forgetting: &self.forgetting,
        }
    }

    /// A graph that goes on where another one was stored, with nobody connected. Also returns
    /// the nodes that were.
    #[must_use]
    pub fn resume(config: Config, stored: Snapshot, now: Timestamp) -> (Self, Vec<NodeIx>) {
        let mut graph = Graph {
            // A clock that was ahead and has been set right must not hold up time.
            clock: stored.clock.min(now),
            nodes: stored.nodes,
            services: stored.services,
            evidence: stored.evidence,
            halves: stored.halves,
            links: stored.links,
            edges: stored.edges,
            halves_refused: stored.halves_refused,
            signals: stored.signals,
            questions: stored.questions,
            forgetting: stored.forgetting,
            ..Graph::new(config)
        };
        let connected = graph.nodes.resume();
        graph.services.resume();
        graph.halves.resume();
        graph.links.resume(now);
        graph.edges.resume();
        graph.see(now);
        (graph, connected)
    }

    /// Leaves links as they are, however much comes in, until it is called with `false`: while some
    /// agents have said again what the graph had forgotten and others have not, one side of a
    /// link would seem to be ahead of the other.
    pub const fn hold(&mut self, held: bool) {
        self.held = held;
    }

    /// Whether a node's agent is back and has told everything that is known of its halves.
    #[must_use]
    pub fn has_caught_up(&self, ix: NodeIx) -> bool {
        self.nodes.get(ix).is_some_and(|node| {
            let told = |half: &crate::count::half::Half| {
                half.ended.is_some() || half.stream == node.last_stream
            };
            let told_for = self.clock.since(node.connected_at);
            let mut halves = node.halves.iter().filter_map(|ix| self.halves.get(*ix));
            node.connected() && (told_for >= TELLING || halves.all(told))
        })
    }

    /// Whether every link that was there at a moment has settled.
    #[must_use]
    pub fn has_settled(&self, at: Timestamp) -> bool {
        let mut queued = self.links.queue.iter().filter_map(|ix| self.links.get(*ix));
        queued.all(|link| link.settled || link.first_seen > at)
    }
}
