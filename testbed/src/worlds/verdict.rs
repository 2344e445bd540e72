//! The graph that was served, beside the truth.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
};

use super::plan::World;
use crate::{fleet::Graph, truth::Truth};

/// What comes of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Edges that there were.
    pub true_edges: usize,
    /// Edges that were served.
    pub served_edges: usize,
    /// Edges that were served, and were there.
    pub common_edges: usize,
    /// Everything that is wrong, in words; nothing when all is exact.
    pub wrong: String,
}

impl Verdict {
    /// Compares what was served with what happened in a world.
    #[must_use]
    pub fn new(world: &World, truth: &Truth, graph: &Graph) -> Self {
        let mut wrong = graph.must_equal(truth).err().unwrap_or_default();
        kinds(world, graph, &mut wrong);
        sides(world, truth, graph, &mut wrong);
        Self {
            true_edges: truth.len(),
            served_edges: graph.edges.len(),
            common_edges: graph.edges.keys().filter(|name| truth.contains_key(name)).count(),
            wrong,
        }
    }

    /// Whether every edge, every count and every kind is right.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.wrong.is_empty()
    }

    /// How much of what was served was there.
    #[must_use]
    pub fn precision(&self) -> f64 {
        self.common_edges as f64 / self.served_edges.max(1) as f64
    }

    /// How much of what was there was served.
    #[must_use]
    pub fn recall(&self) -> f64 {
        self.common_edges as f64 / self.true_edges.max(1) as f64
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = if self.is_exact() { "exact" } else { "WRONG" };
        let (precision, recall) = (self.precision(), self.recall());
        write!(formatter, "precision {precision:.3}, recall {recall:.3}, {exact}")
    }
}

/// Everybody is taken for what they are.
fn kinds(world: &World, graph: &Graph, wrong: &mut String) {
    let workloads = world.workloads.iter().map(|workload| (workload.shown.as_str(), workload.kind));
    let hosts = world.hosts.iter().map(|host| (host.name.as_str(), "host"));
    let kinds: BTreeMap<_, _> = workloads.chain(hosts).collect();
    for node in graph.nodes.values() {
        let kind = kinds.get(node.name.as_str()).copied().unwrap_or("external");
        if node.kind != kind {
            let _ = writeln!(wrong, "{} is {kind}, not {}", node.name, node.kind);
        }
    }
}

/// Every edge was seen from those sides on which there is an agent.
fn sides(world: &World, truth: &Truth, graph: &Graph, wrong: &mut String) {
    let covered = |name: &str| {
        let mut workloads = world.workloads.iter().filter(|workload| workload.shown == name);
        workloads.any(|it| world.hosts.get(it.place.host()).is_some_and(|host| host.agent))
    };
    for (name, count) in truth.iter().filter(|(_, count)| count.connections > 0) {
        let Some(document) = graph.documents.get(name) else { continue };
        let sides = match (covered(&name.client), covered(&name.server)) {
            (true, true) => "both",
            (true, false) => "client",
            _ => "server",
        };
        if document["seen_by"] != sides {
            let seen = &document["seen_by"];
            let _ = writeln!(wrong, "{name:?} ({count:?}) was seen by {sides}, not {seen}");
        }
    }
}
