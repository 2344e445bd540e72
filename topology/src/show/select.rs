//! The part of a view that somebody asks for.

use std::collections::{HashMap, HashSet};

use super::view::{View, ViewEdge, ViewNode};
use crate::base::id::Id;

/// Which part of a view; the default is all of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selection {
    /// Only nodes of this namespace, and whom they talk to.
    pub namespace: Option<String>,
    /// Only nodes that were seen on this host, and whom they talk to.
    pub host: Option<String>,
    /// Only nodes whose name contains this, in whatever case, and whom they talk to.
    pub name: Option<String>,
    /// Only edges that moved at least so many payload bytes per second, over the window.
    pub min_bytes_per_second: Option<f64>,
    /// Only what is around a node.
    pub focus: Option<Focus>,
}

/// What is around a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Focus {
    /// The node.
    pub id: Id,
    /// How many edges away from it a node may be, in either direction.
    pub depth: usize,
}

impl Selection {
    /// Whether nothing is left out.
    #[must_use]
    pub fn is_all(&self) -> bool {
        *self == Selection::default()
    }

    fn has(&self, node: &ViewNode) -> bool {
        self.namespace.as_ref().is_none_or(|namespace| node.namespace == *namespace)
            && self.host.as_ref().is_none_or(|host| node.hosts.contains(host))
            && self.name.as_ref().is_none_or(|part| contains(&node.name, part))
    }
}

/// Whether a name contains a part, in whatever case.
fn contains(name: &str, part: &str) -> bool {
    name.to_lowercase().contains(&part.to_lowercase())
}

impl View {
    /// Leaves out what was not asked for. Every end of an edge that stays is a node that stays; what the coverage
    /// says of the fleet and of time holds for the whole graph, what it says of edges, for those that stay.
    #[must_use]
    pub fn select(mut self, selection: &Selection) -> View {
        if selection.is_all() {
            return self;
        }
        let seconds = self.window.to.since(self.window.from).as_secs_f64();
        let least = selection.min_bytes_per_second.unwrap_or(0.0) * seconds;
        let own = self.nodes.iter().filter(|node| selection.has(node));
        let own: HashSet<Id> = own.map(|node| node.id).collect();
        self.edges.retain(|edge| {
            edge.totals.bytes() as f64 >= least
                && (own.contains(&edge.source) || own.contains(&edge.target))
        });
        let mut stay: HashSet<Id> =
            self.edges.iter().flat_map(|edge| [edge.source, edge.target]).collect();
        if let Some(focus) = selection.focus {
            stay = around(focus, &self.edges);
            self.edges.retain(|edge| stay.contains(&edge.source) && stay.contains(&edge.target));
        }
        self.nodes.retain(|node| stay.contains(&node.id));
        self.coverage.edges_one_sided = self.one_sided();
        self
    }
}

/// The nodes that are no more edges away from one than asked for.
fn around(focus: Focus, edges: &[ViewEdge]) -> HashSet<Id> {
    let mut neighbours: HashMap<Id, Vec<Id>> = HashMap::new();
    for edge in edges {
        neighbours.entry(edge.source).or_default().push(edge.target);
        neighbours.entry(edge.target).or_default().push(edge.source);
    }
    let mut found = HashSet::from([focus.id]);
    let mut rim = vec![focus.id];
    for _ in 0..focus.depth {
        let next = rim.iter().filter_map(|id| neighbours.get(id)).flatten();
        rim = next.copied().filter(|id| found.insert(*id)).collect();
        if rim.is_empty() {
            break;
        }
    }
    found
}
