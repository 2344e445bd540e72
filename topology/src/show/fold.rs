//! Keeps an answer small without losing anything of its totals.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use super::{
    rank::Rank,
    view::{View, ViewEdge, ViewNode},
};
use crate::{base::id::Id, model::WorkloadKind, who::services::OTHER};

impl View {
    /// Keeps the `limit` nodes that are highest by `rank` and folds the rest into one more node of
    /// kind `other`. Edges of folded nodes are added up per pair of ends; their port stays when it
    /// is the same for all, else it is 0.
    #[must_use]
    pub fn fold(mut self, limit: usize, rank: Rank) -> View {
        if self.nodes.len() <= limit {
            return self;
        }
        let other = Id::of_node(WorkloadKind::Other, "", OTHER);
        let ranks = rank.of_nodes(&self.edges);
        // What was folded before is part of the rest, however much it is.
        self.nodes.sort_by_cached_key(|node| {
            (node.id == other, Reverse(ranks.get(&node.id).copied().unwrap_or(0)), node.id)
        });
        let folded = self.nodes.split_off(limit);
        let kept: HashSet<Id> = self.nodes.iter().map(|node| node.id).collect();
        let end = |id: Id| if kept.contains(&id) { id } else { other };
        let mut edges = Vec::new();
        let mut sums: BTreeMap<(Id, Id), ViewEdge> = BTreeMap::new();
        for mut edge in self.edges {
            let ends = (end(edge.source), end(edge.target));
            if ends == (edge.source, edge.target) {
                edges.push(edge);
                continue;
            }
            (edge.source, edge.target) = ends;
            match sums.get_mut(&ends) {
                Some(sum) => sum.fold_in(&edge),
                None => {
                    sums.insert(ends, edge);
                }
            }
        }
        for mut edge in sums.into_values() {
            edge.id = Id::of_edge(edge.source, edge.target, edge.server_port, edge.protocol);
            edges.push(edge);
        }
        edges.sort_unstable_by_key(|edge| edge.id);
        let hosts: BTreeSet<String> =
            folded.iter().flat_map(|node| node.hosts.iter().cloned()).collect();
        self.nodes.push(Arc::new(ViewNode::other(hosts.into_iter().collect())));
        self.nodes.sort_unstable_by_key(|node| node.id);
        View { edges, ..self }
    }
}

impl ViewNode {
    /// What stands for the rest, which was on these hosts.
    #[must_use]
    pub fn other(hosts: Vec<String>) -> Self {
        ViewNode {
            id: Id::of_node(WorkloadKind::Other, "", OTHER),
            kind: WorkloadKind::Other,
            namespace: String::new(),
            name: OTHER.to_owned(),
            hosts,
            zone: String::new(),
            labels: BTreeMap::new(),
        }
    }
}

impl ViewEdge {
    /// Adds up two edges of the same ends.
    pub fn fold_in(&mut self, other: &ViewEdge) {
        if self.server_port != other.server_port {
            self.server_port = 0;
        }
        self.seen_by = self.seen_by.merge(other.seen_by);
        self.resolved_by = self.resolved_by.min(other.resolved_by);
        self.pending &= other.pending;
        self.connections_open = self.connections_open.saturating_add(other.connections_open);
        self.totals.merge(&other.totals);
    }
}
