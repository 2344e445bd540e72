//! The graph as something that can be stored, and back.
//!
//! All that later numbers depend on is in it: halves and their totals, links, what was published, who
//! is who, the running step of the history. Steps that are over are not.

use serde::{Deserialize, Serialize};

use super::{Graph, expire::Forgetting, questions::Questions, signals::Signals};
use crate::{
    base::time::Timestamp,
    config::Config,
    count::{edges::Edges, half::Halves, history, link::Links},
    model::Role,
    nodes::Nodes,
    who::{
        cluster::Cluster,
        evidence::{Change, Evidence},
        services::Services,
    },
};

/// The layout of a [`Snapshot`]: to be raised whenever a stored type changes.
pub const SNAPSHOT_VERSION: u32 = 15;

/// A graph as of one moment. What is large in it is shared with the graph until that changes, so that
/// making it costs next to nothing and writing it needs no graph.
#[derive(Serialize, Deserialize)]
pub struct Snapshot {
    clock: Timestamp,
    nodes: Nodes,
    services: Services,
    cluster: Cluster,
    halves: Halves,
    links: Links,
    edges: Edges,
    history: history::Stored,
    halves_folded: u64,
    signals: Signals,
    questions: Questions,
    forgetting: Forgetting,
}

impl Graph {
    /// The graph as it is now, to be stored for [`Graph::resume`].
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            clock: self.clock,
            nodes: self.nodes.stored(),
            services: self.services.stored(),
            cluster: self.cluster.stored(),
            halves: self.halves.stored(),
            links: self.links.stored(),
            edges: self.edges.stored(),
            history: self.history.stored(),
            halves_folded: self.halves_folded,
            signals: self.signals.clone(),
            questions: self.questions.clone(),
            forgetting: self.forgetting.clone(),
        }
    }

    /// A graph that goes on where another one was stored. Given the same calls, it answers like that one.
    #[must_use]
    pub fn resume(config: Config, stored: Snapshot) -> Self {
        let mut graph = Graph {
            clock: stored.clock,
            nodes: stored.nodes,
            services: stored.services,
            cluster: stored.cluster,
            halves: stored.halves,
            links: stored.links,
            edges: stored.edges,
            halves_folded: stored.halves_folded,
            signals: stored.signals,
            questions: stored.questions,
            forgetting: stored.forgetting,
            ..Graph::new(config)
        };
        graph.history.resume(stored.history);
        graph.nodes.resume();
        graph.services.resume(graph.config.max_series);
        graph.cluster.resume();
        graph.halves.resume(graph.config.max_halves);
        graph.links.resume();
        graph.links.keep_addresses(!graph.cluster.is_empty() || graph.cluster.has_changed());
        graph.count_translations();
        graph.edges.resume(graph.config.max_series, &graph.services);
        graph.share_out();
        graph.evidence = graph.evidence_anew();
        graph
    }

    /// The aggregator has started again: every stream there was has ended, and a clock that was ahead has been
    /// set right, which must not hold up time.
    pub fn restarted(&mut self, now: Timestamp) {
        if now < self.clock {
            self.clock = now;
            self.ticked_at = self.ticked_at.min(now);
            self.looked_at = self.looked_at.min(now);
            self.nodes.set_back(now);
            self.links.set_back(now);
            self.halves.set_back(now);
            self.history.set_back(now);
            self.cluster.set_back(now);
        }
        self.cluster.unheard_since(self.clock);
        let now = self.see(now);
        self.nodes.end_streams(now);
    }

    /// Everything that halves, listeners and addresses tell.
    fn evidence_anew(&self) -> Evidence {
        let mut evidence = Evidence::default();
        for half in self.halves.iter() {
            let served = (half.role() == Role::Server).then_some(half.id.2.server_port);
            evidence.half(half.place, served, half.service, Change::Comes);
            if half.ended.is_some() {
                evidence.half(half.place, served, half.service, Change::Ends);
            }
        }
        for (ix, node) in self.nodes.iter() {
            for address in &node.addresses {
                evidence.announce(ix, node.life.boot, address, true);
            }
            for listener in &node.listeners {
                if let Some(entry) = self.services.workload(listener.workload) {
                    evidence.listener(ix, node.life.boot, listener, entry.service, true);
                }
            }
            evidence.set_host_namespace(ix, node.host_namespace);
        }
        evidence
    }
}
