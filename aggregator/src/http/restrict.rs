//! What somebody sees who may see some namespaces only.

use std::collections::HashSet;

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
    view = view.by_names_alone(|node| !own.contains(&node.id));
    view.coverage = Coverage {
        complete: view.coverage.complete,
        edges_one_sided: view.one_sided(),
        history_from: view.coverage.history_from,
        kubernetes_unheard: view.coverage.kubernetes_unheard,
        ..Coverage::default()
    };
    view
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use topology::{
        Basis, EdgeTotals, SeenBy, Timestamp, ViewEdge, ViewNode, Window, model::WorkloadKind,
    };

    use super::*;
    use crate::config::Role;

    fn node(namespace: &str, name: &str, host: &str) -> Arc<ViewNode> {
        let id = Id::of_node(WorkloadKind::Pod, namespace, &format!("{name}\0{host}"));
        Arc::new(ViewNode {
            id,
            kind: WorkloadKind::Pod,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            hosts: vec![host.to_owned()],
            zone: String::new(),
            labels: [("secret".to_owned(), host.to_owned())].into(),
        })
    }

    #[test]
    fn no_id_gives_the_host_of_a_foreign_workload_away() {
        let nodes =
            vec![node("shop", "web", "a"), node("bank", "db", "b"), node("bank", "db", "c")];
        let edge = |server: usize, connections_open| ViewEdge {
            id: Id::of_edge(nodes[0].id, nodes[server].id, 80, "tcp"),
            source: nodes[0].id,
            target: nodes[server].id,
            server_port: 80,
            protocol: "tcp",
            seen_by: SeenBy::Both,
            resolved_by: Basis::BothHalves,
            pending: false,
            connections_open,
            totals: EdgeTotals::default(),
        };
        let moment = Timestamp::default();
        let view = View {
            window: Window { from: moment, to: moment },
            coverage: Coverage::default(),
            edges: vec![edge(1, 3), edge(2, 4)],
            nodes: nodes.clone(),
        };
        let namespaces = Some([String::from("shop")].into());
        let grant = Grant { name: String::new(), role: Role::Read, namespaces };
        let view = restrict(view, &grant);
        let db = Id::of_node(WorkloadKind::Pod, "bank", "db");
        assert_eq!((view.nodes.len(), view.edges.len()), (2, 1));
        assert!(view.nodes.contains(&nodes[0]));
        let foreign = view.nodes.iter().find(|node| node.id == db).unwrap();
        assert!(foreign.hosts.is_empty() && foreign.labels.is_empty());
        let edge = &view.edges[0];
        assert_eq!((edge.target, edge.connections_open), (db, 7));
        assert_eq!(edge.id, Id::of_edge(nodes[0].id, db, 80, "tcp"));
    }
}
