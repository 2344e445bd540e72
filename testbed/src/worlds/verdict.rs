//! The graph that was served, beside the truth.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
};

use super::{
    plan::World,
    ports::{Again, in_sums},
};
use crate::{
    fleet::{Graph, differences},
    truth::Truth,
};

/// What comes of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Edges that there were.
    pub true_edges: usize,
    /// Edges that were served.
    pub served_edges: usize,
    /// Edges that were served, and were there.
    pub common_edges: usize,
    /// Edges of which sums alone were compared: clients had one port one after the other.
    pub in_sums: usize,
    /// Everything that is wrong, in words; nothing when all is exact.
    pub wrong: String,
}

impl Verdict {
    /// Compares what was served, and what was published in `/metrics`, with what happened in a world, where some may be
    /// mixed: their sums count only where not everything is right without that.
    #[must_use]
    pub(super) fn new(
        world: &World,
        truth: &Truth,
        again: &[Again],
        graph: &Graph,
        published: &Truth,
    ) -> Self {
        let shown = [&graph.edges, published];
        let again = match shown.iter().all(|shown| differences(truth, shown).is_empty()) {
            true => &[],
            false => again,
        };
        let expected = in_sums(truth, again);
        let mut wrong = differences(&expected, &in_sums(&graph.edges, again));
        let lines = differences(&expected, &in_sums(published, again));
        if !lines.is_empty() {
            let _ = write!(wrong, "in /metrics:\n{lines}");
        }
        kinds(world, graph, &mut wrong);
        sides(world, truth, graph, &mut wrong);
        Self {
            true_edges: truth.len(),
            served_edges: graph.edges.len(),
            in_sums: truth.keys().filter(|name| again.iter().any(|it| it.mixes(name))).count(),
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
        write!(formatter, "precision {precision:.3}, recall {recall:.3}, {exact}")?;
        if self.in_sums > 0 {
            write!(formatter, " ({} edges in their sums: a port was used again)", self.in_sums)?;
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::worlds::{
        draw::draw,
        feature::Feature,
        plan::{Place, Workload},
    };

    /// Two workloads, one of them on a host without an agent.
    fn world() -> World {
        let workload = |shown: &str, host| Workload {
            program: shown.into(),
            leaf: None,
            shown: shown.into(),
            kind: "process",
            place: Place::Host(host),
            ears: Vec::new(),
        };
        let mut world = draw(1, &[Feature::External].into());
        let outside = world.hosts.len() - 1;
        world.workloads = vec![workload("web", 0), workload("db", 0), workload("bank", outside)];
        world
    }

    fn document() -> Value {
        let edge = |source, target, seen_by| {
            json!({"source": source, "target": target, "server_port": 80, "connections": 2, "connections_open": 0,
                "bytes_to_server": 10, "bytes_to_client": 20, "resets": {"by_client": 0, "by_server": 1},
                "failed": {"refused": 0, "timeout": 0, "unreachable": 0, "aborted": 0, "local": 0},
                "seen_by": seen_by})
        };
        json!({
            "coverage": {},
            "nodes": [{"id": "a", "name": "web", "kind": "process"}, {"id": "b", "name": "db", "kind": "process"},
                {"id": "c", "name": "10.0.0.1", "kind": "external"}],
            "edges": [edge("a", "b", "both"), edge("a", "c", "client"), edge("c", "b", "server")],
        })
    }

    fn verdict(change: impl FnOnce(&mut Value)) -> Verdict {
        let truth = Graph::parse(&document()).unwrap().edges;
        let mut served = document();
        change(&mut served);
        let graph = Graph::parse(&served).unwrap();
        Verdict::new(&world(), &truth, &[], &graph, &graph.edges)
    }

    #[test]
    fn whatever_differs_is_wrong() {
        let exact = verdict(|_| {});
        assert!(exact.is_exact(), "{}", exact.wrong);
        assert_eq!((exact.precision(), exact.recall()), (1.0, 1.0));
        let wrong = |pointer: &str, value: Value| {
            let verdict = verdict(|served| *served.pointer_mut(pointer).unwrap() = value);
            assert!(!verdict.is_exact(), "{pointer}");
            verdict
        };
        wrong("/edges/0/bytes_to_server", json!(11));
        wrong("/edges/0/connections_open", json!(1));
        wrong("/edges/0/resets/by_server", json!(0));
        wrong("/edges/0/failed/refused", json!(1));
        wrong("/edges/0/seen_by", json!("client"));
        wrong("/edges/1/seen_by", json!("both"));
        wrong("/nodes/1/kind", json!("external"));
        let moved = wrong("/edges/0/server_port", json!(81));
        assert!(moved.precision() < 1.0 && moved.recall() < 1.0);
    }

    #[test]
    fn what_is_published_has_to_be_the_truth_too() {
        let graph = Graph::parse(&document()).unwrap();
        let mut published = graph.edges.clone();
        let first = published.keys().next().unwrap().clone();
        published.remove(&first);
        assert!(!Verdict::new(&world(), &graph.edges, &[], &graph, &published).is_exact());
    }

    #[test]
    fn one_edge_more_or_less_is_told_apart() {
        let less = verdict(|served| drop(served["edges"].as_array_mut().unwrap().remove(0)));
        assert!(!less.is_exact() && less.precision() == 1.0 && less.recall() < 1.0, "{less}");
        let more = verdict(|served| {
            let mut edge = served["edges"][0].clone();
            edge["server_port"] = json!(81);
            served["edges"].as_array_mut().unwrap().push(edge);
        });
        assert!(!more.is_exact() && more.precision() < 1.0 && more.recall() == 1.0, "{more}");
    }
}
