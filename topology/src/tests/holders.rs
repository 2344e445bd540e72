//! Who had an address of a cluster, where that is not as plain as it looks.

use std::time::Duration;

use super::{
    cluster::{end, node, service, shop, slice, world},
    world::*,
};
use crate::*;

const CLUSTER_IP: &str = "10.96.0.7";
const POD: &str = "10.1.0.4";

fn connections(world: &mut World, server: &str) -> u64 {
    let edges = world.edges();
    edges.iter().filter(|edge| edge.1 == server).map(|edge| edge.3).sum()
}

#[test]
fn a_pod_that_goes_to_another_service_leaves_what_was_counted_to_the_first() {
    let moved = [
        [slice("old", &[]), slice("new", &[("pod-1", POD)])],
        [slice("new", &[("pod-1", POD)]), slice("old", &[])],
    ];
    for changes in moved {
        let (mut world, a) = world();
        world.told([node("far", "east", "10.0.0.9"), slice("old", &[("pod-1", POD)])]);
        world.pass(1);
        let half = world.client(a, "web", global("10.0.0.1"), global(POD), 8080);
        world.exchange(half, 1, 0);
        world.pass(60);
        let before = world.now.minus(Duration::from_secs(40));
        world.told(changes);
        world.exchange(half, 10, 0);
        world.pass(30);
        world.exchange(half, 100, 0);
        world.pass(5);
        // It comes late, and is of a step before.
        let mut late = world.graph.begin_late(before, world.now).unwrap();
        late.note(&world.graph, half);
        world.exchange(half, 1000, 0);
        world.graph.end_late(late, world.now);
        world.pass(5);
        let edges = published(&world);
        let bytes = |name: &str| edges.iter().find(|edge| edge.1 == name).map_or(0, |edge| edge.4);
        assert_eq!((bytes("new"), bytes("old"), bytes(POD)), (100, 1001, 10), "{edges:?}");
    }
}

#[test]
fn until_hosts_are_known_every_address_may_be_one_of_them() {
    for (known, pods) in [(false, 1), (true, 1), (true, 2)] {
        let (mut world, a) = world();
        if known {
            world.told([node("far", "east", "10.0.0.9")]);
        }
        // On the network of a host that is not known.
        let proxies = [slice("proxy", &[("proxy-1", POD)]), slice("logs", &[("logs-1", POD)])];
        world.told(proxies.into_iter().take(pods).collect::<Vec<_>>());
        world.pass(1);
        let half = world.client(a, "web", global("10.0.0.1"), global(POD), 22);
        world.exchange(half, 1, 1);
        let half = world.server(a, "db", global("10.0.0.1"), global(POD), 5432);
        world.exchange(half, 1, 1);
        world.pass(12);
        let other = if known && pods == 1 {
            ("shop/proxy", Basis::Kubernetes)
        } else {
            ("/10.1.0.4", Basis::Address)
        };
        let ends = world.ends();
        assert_eq!(ends[0], end(22, other.0, other.1), "{known} {pods}");
        assert_eq!(ends[1].2, other.1, "{known} {pods}");
    }
}

#[test]
fn a_link_that_was_held_back_asks_for_all_of_its_time() {
    let (mut world, _) = world();
    world.node("b", "10.0.0.2");
    world.told([node("far", "east", "10.0.0.9"), slice("old", &[("old-1", POD)])]);
    world.pass(30);
    world.graph.restarted(world.now);
    for kind in ClusterKind::ALL {
        world.graph.take_cluster_news(ClusterNews::Watched(kind), world.now);
    }
    let a = world.connect("a", incarnation(1, 1, 1)).unwrap().node;
    let half = world.client(a, "web", global("10.0.0.1"), global(POD), 8080);
    world.exchange(half, 1, 0);
    world.pass(20);
    assert!(world.series().is_empty(), "the other host may be about to tell who it is");
    world.told([slice("old", &[]), slice("new", &[("new-1", POD)])]);
    world.pass(120);
    assert_eq!(published(&world), [row("web", POD, 8080, 1, 1, 0)]);
}

#[test]
fn pods_without_an_agent_that_come_later_count_for_themselves() {
    let (mut world, a) = world();
    let b = world.node("b", "10.0.0.2");
    let mut told = service("cart", CLUSTER_IP, 0);
    if let ClusterChange::Service(_, Some(service)) = &mut told {
        service.ports[0].port = 8080;
    }
    world.told([told, slice("cart", &[("cart-1", POD)])]);
    let server = world.server(b, "cart-app", global(POD), global("10.2.0.3"), 8080);
    world.exchange(server, 10, 100);
    let client = world.client(a, "web", global("10.2.0.3"), global(CLUSTER_IP), 8080);
    world.exchange(client, 100, 10);
    world.pass(30);
    world.told([slice("cart", &[("cart-1", POD), ("away", "10.1.7.7")])]);
    world.pass(30);
    for _ in 0..3 {
        world.exchange(client, 7, 7);
        world.pass(30);
    }
    let sums = (connections(&mut world, "cart-app"), connections(&mut world, "external cart"));
    assert_eq!(sums, (1, 3), "{:?}", world.edges());
}

#[test]
fn a_clock_that_was_ahead_leaves_addresses_with_those_who_have_them() {
    let (mut world, _) = world();
    world.told([node("far", "east", "10.0.0.9"), slice("old", &[("old-1", POD)])]);
    world.pass(1);
    world.now = world.now.minus(Duration::from_secs(86_400));
    world.graph.restarted(world.now);
    assert_eq!(world.graph.cluster_state(ClusterKind::Slices).1, Some(world.now));
    let connection = world.connect("a", incarnation(1, 1, 1)).unwrap();
    let half = world.client(connection.node, "web", global("10.0.0.1"), global(POD), 8080);
    world.exchange(half, 1, 1);
    world.pass(15);
    assert_eq!(world.ends(), [end(8080, "shop/old", Basis::Kubernetes)]);
}

#[test]
fn a_pod_of_a_covered_host_that_nobody_is_known_at_is_named_by_the_cluster() {
    let (mut world, a) = world();
    let b = world.node("b", "10.0.0.2");
    let address =
        |ip, network_namespace| model::NodeAddress { address: global(ip), network_namespace };
    world.graph.set_addresses(b, vec![address("10.0.0.2", ROOT), address(POD, 7)]);
    world.graph.set_host_namespace(b, Some(ROOT));
    world.told([node("far", "east", "10.0.0.9"), slice("cart", &[("cart-1", POD)])]);
    world.pass(1);
    for (to, port) in [(POD, 8080), ("10.0.0.2", 9090)] {
        let half = world.client(a, "web", global("10.0.0.1"), global(to), port);
        world.exchange(half, 1, 1);
    }
    world.pass(12);
    let expected = [end(8080, "shop/cart", Basis::Kubernetes), end(9090, "/b", Basis::HostAddress)];
    assert_eq!(world.ends(), expected);
    assert_eq!(world.graph.cluster_names(ClusterKind::Slices), [shop("cart-x")]);
}
