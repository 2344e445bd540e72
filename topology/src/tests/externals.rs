//! External peers beyond so many of a service are one, and nothing of what they count is lost.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::world::*;
use crate::{model::WorkloadKind, *};

fn world(most: usize) -> (World, NodeIx) {
    let mut world = World::with(Config { max_external_peers: most, ..Config::default() });
    let node = world.node("a", "10.0.0.1");
    (world, node)
}

/// An address that nobody covers.
fn peer(number: u8) -> model::Address {
    global(&format!("192.0.2.{number}"))
}

/// What is published, added up by client, server and port without the names of external peers.
fn sums(world: &World) -> BTreeMap<(String, String, u16), EdgeTotals> {
    let mut sums: BTreeMap<_, EdgeTotals> = BTreeMap::new();
    for series in world.graph.published() {
        let name = |kind, name: &str| match kind {
            WorkloadKind::External => "external".to_owned(),
            _ => name.to_owned(),
        };
        let client = name(series.client_kind(), series.client());
        let server = name(series.server_kind(), series.server());
        sums.entry((client, server, series.server_port())).or_default().merge(series.totals());
    }
    sums
}

fn externals(view: &View) -> Vec<&str> {
    let external = view.nodes.iter().filter(|node| node.kind == WorkloadKind::External);
    external.map(|node| node.name.as_str()).collect()
}

#[test]
fn the_first_keep_their_names_and_the_others_are_one() {
    let (mut world, a) = world(2);
    let halves: Vec<_> =
        (1..=5).map(|n| world.client(a, "web", global("10.0.0.1"), peer(n), 443)).collect();
    for half in &halves {
        world.exchange(*half, 100, 10);
    }
    world.pass(12);
    let expected = [
        row("web", "192.0.2.1", 443, 1, 100, 10),
        row("web", "192.0.2.2", 443, 1, 100, 10),
        row("web", "external", 443, 3, 300, 30),
    ];
    assert_eq!(published(&world), expected);
    // Another port of a peer that has a name is its own; and who is named by the user always is.
    world.graph.set_rules(Rules {
        networks: vec![Network::new(ip("192.0.2.9"), 32, "printer".to_owned()).unwrap()],
        ..Rules::default()
    });
    for (number, port) in [(1, 80), (9, 443)] {
        let half = world.client(a, "web", global("10.0.0.1"), peer(number), port);
        world.exchange(half, 1, 1);
    }
    // Another service has its own peers.
    let half = world.client(a, "job", global("10.0.0.1"), peer(5), 443);
    world.exchange(half, 7, 7);
    for half in &halves {
        world.exchange(*half, 100, 10);
    }
    world.pass(12);
    let expected = [
        row("job", "192.0.2.5", 443, 1, 7, 7),
        row("web", "192.0.2.1", 80, 1, 1, 1),
        row("web", "192.0.2.1", 443, 2, 200, 20),
        row("web", "192.0.2.2", 443, 2, 200, 20),
        row("web", "external", 443, 6, 600, 60),
        row("web", "printer", 443, 1, 1, 1),
    ];
    assert_eq!(published(&world), expected);
    let by: BTreeMap<_, _> = {
        let view = world.view();
        let name = |id| view.nodes.iter().find(|node| node.id == id).unwrap().name.clone();
        view.edges.iter().map(|edge| (name(edge.target), edge.resolved_by)).collect()
    };
    assert_eq!(by["printer"], Basis::Cidr);
    assert_eq!(by["external"], Basis::Address);
}

#[test]
fn who_was_folded_stays_so_and_a_place_that_is_free_is_given_again() {
    let (mut world, a) = world(1);
    let first = world.client(a, "web", global("10.0.0.1"), peer(1), 443);
    world.exchange(first, 1, 1);
    world.pass(12);
    let second = world.client(a, "web", global("10.0.0.1"), peer(2), 443);
    world.exchange(second, 2, 2);
    world.pass(12);
    assert_eq!(externals(&world.view()).len(), 2);
    world.graph.retire_half(first, world.now);
    world.pass(4_000);
    let third = world.client(a, "web", global("10.0.0.1"), peer(3), 443);
    world.exchange(third, 3, 3);
    world.exchange(second, 2, 2);
    // After a restart as before it.
    let stored = world.graph.snapshot();
    let config = Config { max_external_peers: 1, ..Config::default() };
    world.graph = Graph::resume(config, stored);
    world.pass(12);
    let all = published(&world);
    assert!(all.contains(&row("web", "external", 443, 2, 4, 4)), "{all:?}");
    assert!(all.contains(&row("web", "192.0.2.3", 443, 1, 3, 3)), "{all:?}");
}

proptest! {
    #[test]
    fn folding_external_peers_keeps_totals(
        edges in proptest::collection::vec(
            (0_u8..3, 1_u8..20, 80_u16..83, any::<bool>(), 1_u64..1000),
            1..40,
        ),
        most in 0_usize..6,
        restart in any::<bool>(),
    ) {
        let [mut all, mut few] = [usize::MAX, most].map(|most| {
            let (mut world, a) = world(most);
            for (turn, (service, number, port, serves, bytes)) in edges.iter().enumerate() {
                let name = format!("s{service}");
                let local = global("10.0.0.1");
                let half = if *serves {
                    world.server(a, &name, local, peer(*number), port + 10 * u16::from(*service))
                } else {
                    world.client(a, &name, local, peer(*number), *port)
                };
                world.exchange(half, *bytes, 1);
                if turn % 5 == 4 {
                    world.pass(3);
                }
                if restart && turn == edges.len() / 2 {
                    let stored = world.graph.snapshot();
                    let config = Config { max_external_peers: most, ..Config::default() };
                    world.graph = Graph::resume(config, stored);
                }
            }
            world.pass(15);
            world
        });
        prop_assert_eq!(sums(&all), sums(&few));
        let (all, few) = (all.view(), few.view());
        let total = |view: &View| {
            view.edges.iter().fold(EdgeTotals::default(), |mut sum, edge| {
                sum.merge(&edge.totals);
                sum
            })
        };
        prop_assert_eq!(total(&all), total(&few));
        // Per service so many, and one for the rest.
        let services = 3;
        prop_assert!(externals(&few).len() <= services * most + 1);
        for service in few.nodes.iter().filter(|node| node.kind == WorkloadKind::Process) {
            let touches = |edge: &&ViewEdge| edge.source == service.id || edge.target == service.id;
            let mut peers: Vec<_> = few
                .edges
                .iter()
                .filter(touches)
                .map(|edge| if edge.source == service.id { edge.target } else { edge.source })
                .collect();
            peers.sort_unstable();
            peers.dedup();
            prop_assert!(peers.len() <= most + 1, "{:?}", peers.len());
        }
    }
}
