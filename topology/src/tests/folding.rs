//! Folding keeps totals, and every end of an edge is a node.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::world::*;
use crate::{model::WorkloadKind, *};

fn sum(view: &View) -> (EdgeTotals, u64) {
    let mut totals = EdgeTotals::default();
    let mut open = 0;
    for edge in &view.edges {
        totals.merge(&edge.totals);
        open += edge.connections_open;
    }
    (totals, open)
}

fn assert_sound(view: &View) {
    let nodes: BTreeSet<_> = view.nodes.iter().map(|node| node.id).collect();
    assert_eq!(nodes.len(), view.nodes.len());
    let edges: BTreeSet<_> = view.edges.iter().map(|edge| edge.id).collect();
    assert_eq!(edges.len(), view.edges.len());
    for edge in &view.edges {
        assert!(nodes.contains(&edge.source) && nodes.contains(&edge.target));
    }
}

/// Edges between processes `p0`... : client, server, port, bytes.
fn graph(edges: &[(u8, u8, u16, u32)]) -> View {
    let mut world = World::new();
    let a = world.node("a", "10.0.0.1");
    for (client, server, port, bytes) in edges {
        let at = |n: &u8| global(&format!("10.1.0.{n}"));
        let half = world.client(a, &format!("p{client}"), at(client), at(server), *port);
        world.exchange(half, u64::from(*bytes), 1);
        world.graph.add_bucket(half, HistogramKind::Rtt, *port, 1);
    }
    world.pass(11);
    world.view()
}

#[test]
fn the_busiest_stay() {
    let view = graph(&[(1, 2, 80, 1000), (3, 4, 80, 10), (3, 4, 81, 10), (5, 2, 80, 1)]);
    let all = view.nodes.len();
    let folded = view.clone().fold(2, Rank::Bytes);
    assert_eq!((all, folded.nodes.len()), (5, 3));
    let kinds: Vec<_> =
        folded.nodes.iter().filter(|node| node.kind == WorkloadKind::Other).collect();
    assert_eq!((kinds.len(), kinds[0].name.as_str()), (1, "other"));
    assert_eq!(folded.edges.len(), 3);
    let inner = folded.edges.iter().find(|edge| edge.source == edge.target).unwrap();
    assert_eq!((inner.server_port, inner.totals.get(Measure::Connections)), (0, 2));
    assert_eq!(sum(&folded), sum(&view));
    assert_eq!(view.clone().fold(5, Rank::Bytes), view);
}

proptest! {
    #[test]
    fn folding_keeps_totals(
        edges in proptest::collection::vec((1_u8..30, 1_u8..30, 80_u16..83, any::<u32>()), 0..40),
        limit in 0_usize..35,
    ) {
        let view = graph(&edges);
        assert_sound(&view);
        let folded = view.clone().fold(limit, Rank::Bytes);
        assert_sound(&folded);
        prop_assert_eq!(sum(&folded), sum(&view));
        prop_assert!(folded.nodes.len() <= limit.max(view.nodes.len().min(limit)) + 1);
        prop_assert_eq!(&folded.coverage, &view.coverage);
        for grouped in [view.clone(), folded].map(|view| view.group(Grouping::Namespace)) {
            assert_sound(&grouped);
            prop_assert_eq!(sum(&grouped), sum(&view));
        }
    }
}
