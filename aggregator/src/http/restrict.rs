//! What somebody sees who may see some namespaces only.

use std::{collections::HashSet, sync::Arc};

use topology::{Coverage, Id, View};

use crate::config::Grant;

/// The nodes of the namespaces, the edges with at least one end in them, and the other ends of
/// those edges, by their names alone: on which hosts they run and what labels they have is not told. Hosts are
/// nobody's namespace, so what the coverage says of the fleet is left out, but for whether it is complete.
pub(super) fn restrict(mut view: View, grant: &Grant) -> View {
    let Some(namespaces) = &grant.namespaces else { return view };
    let own = view.nodes.iter().filter(|node| namespaces.contains(&node.namespace));
    let own: HashSet<Id> = own.map(|node| node.id).collect();
    view.edges.retain(|edge| own.contains(&edge.source) || own.contains(&edge.target));
    let ends = view.edges.iter().flat_map(|edge| [edge.source, edge.target]);
    let seen: HashSet<Id> = ends.chain(own.iter().copied()).collect();
    view.nodes.retain(|node| seen.contains(&node.id));
    for node in view.nodes.iter_mut().filter(|node| !own.contains(&node.id)) {
        let node = Arc::make_mut(node);
        (node.hosts, node.labels) = Default::default();
    }
    view.coverage = Coverage {
        complete: view.coverage.complete,
        edges_one_sided: view.one_sided(),
        history_from: view.coverage.history_from,
        ..Coverage::default()
    };
    view
}
