//! What somebody sees who may see some namespaces only.

use std::collections::HashSet;

use topology::{Id, View};

use crate::config::Grant;

/// The nodes of the namespaces, the edges with at least one end in them, and the other ends of
/// those edges. The names of hosts that are silent are left out: they are nobody's namespace.
pub(super) fn restrict(mut view: View, grant: &Grant) -> View {
    let Some(namespaces) = &grant.namespaces else { return view };
    let own = view.nodes.iter().filter(|node| namespaces.contains(&node.namespace));
    let own: HashSet<Id> = own.map(|node| node.id).collect();
    view.edges.retain(|edge| own.contains(&edge.source) || own.contains(&edge.target));
    let ends = view.edges.iter().flat_map(|edge| [edge.source, edge.target]);
    let seen: HashSet<Id> = ends.chain(own.iter().copied()).collect();
    view.nodes.retain(|node| seen.contains(&node.id));
    view.coverage.nodes_silent.clear();
    view
}
