//! A view of groups of services: by namespace, host or zone.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use super::view::{View, ViewEdge, ViewNode};
use crate::{base::id::Id, model::WorkloadKind, who::services::EXTERNAL};

/// What the nodes of an answer are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Grouping {
    /// Services.
    #[default]
    Service,
    /// All services of a namespace.
    Namespace,
    /// All workloads of a host.
    Node,
    /// All workloads of a zone's hosts.
    Zone,
    /// Workloads, on each host for themselves.
    Workload,
}

/// Name of the group of those that have none.
const NONE: &str = "none";

/// Name of the group of those whose host or zone is not known.
const UNKNOWN: &str = "unknown";

/// Group of a node: kind, namespace and name, which are in its id, too. One that is called so by chance has another id than
/// that of those that have none.
type Group<'a> = (WorkloadKind, &'a str, &'a str);

impl Grouping {
    /// Whether it needs more than is known of services: [`crate::Graph::slice_finer`].
    #[must_use]
    pub const fn is_finer(self) -> bool {
        matches!(self, Grouping::Node | Grouping::Zone | Grouping::Workload)
    }

    /// Whether the nodes are those of the view already.
    const fn is_as_it_is(self) -> bool {
        matches!(self, Grouping::Service | Grouping::Workload)
    }

    /// The group of a node. Peers that no agent covers are one, and what was folded stays so.
    fn of(self, node: &ViewNode) -> Group<'_> {
        let host = match node.hosts.as_slice() {
            [host] => Some(host.as_str()),
            _ => None,
        };
        match (self, node.kind) {
            (Grouping::Service | Grouping::Workload, kind) => (kind, &node.namespace, &node.name),
            (_, WorkloadKind::External) => (WorkloadKind::External, "", EXTERNAL),
            (_, WorkloadKind::Other) => (WorkloadKind::Other, &node.namespace, &node.name),
            (Grouping::Namespace, _) => match node.namespace.as_str() {
                "" => (WorkloadKind::Namespace, "", NONE),
                namespace => (WorkloadKind::Namespace, namespace, namespace),
            },
            (Grouping::Node, _) => match host {
                Some(host) => (WorkloadKind::Node, host, host),
                None => (WorkloadKind::Node, "", UNKNOWN),
            },
            (Grouping::Zone, _) => match node.zone.as_str() {
                "" => (WorkloadKind::Zone, "", UNKNOWN),
                zone => (WorkloadKind::Zone, zone, zone),
            },
        }
    }
}

impl View {
    /// Adds up all edges from one group to another; their port stays when it is the same for all, else it is 0. What
    /// the coverage says of edges holds for those that are added up.
    #[must_use]
    pub fn group(self, by: Grouping) -> View {
        if by.is_as_it_is() {
            return self;
        }
        let mut groups: BTreeMap<Id, ViewNode> = BTreeMap::new();
        let mut group_of: HashMap<Id, Id> = HashMap::new();
        for node in &self.nodes {
            let (kind, namespace, name) = by.of(node);
            let id = Id::of_node(kind, namespace, name);
            group_of.insert(node.id, id);
            let group = groups.entry(id).or_insert_with(|| ViewNode {
                id,
                kind,
                // Of a host and a zone it is in the id alone.
                namespace: match kind {
                    WorkloadKind::Node | WorkloadKind::Zone => String::new(),
                    _ => namespace.to_owned(),
                },
                name: name.to_owned(),
                hosts: Vec::new(),
                zone: String::new(),
                labels: BTreeMap::new(),
            });
            group.hosts.extend(node.hosts.iter().cloned());
        }
        for group in groups.values_mut() {
            let hosts: BTreeSet<String> = group.hosts.drain(..).collect();
            group.hosts.extend(hosts);
        }
        let mut sums: BTreeMap<(Id, Id), ViewEdge> = BTreeMap::new();
        for mut edge in self.edges {
            let ends = [edge.source, edge.target].map(|end| group_of.get(&end).copied());
            let [Some(source), Some(target)] = ends else { continue };
            (edge.source, edge.target) = (source, target);
            match sums.get_mut(&(source, target)) {
                Some(sum) => sum.fold_in(&edge),
                None => {
                    sums.insert((source, target), edge);
                }
            }
        }
        let mut edges: Vec<_> = sums.into_values().collect();
        for edge in &mut edges {
            edge.id = Id::of_edge(edge.source, edge.target, edge.server_port, edge.protocol);
        }
        edges.sort_unstable_by_key(|edge| edge.id);
        let nodes: Vec<_> = groups.into_values().map(Arc::new).collect();
        View { nodes, edges, ..self }
    }
}
