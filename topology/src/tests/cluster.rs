//! What Kubernetes tells of addresses: who is named by it, when, and when not.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use proptest::prelude::*;

use super::world::*;
use crate::{
    who::cluster::{Cluster, MOST_OBJECTS, held::Span},
    *,
};

const CLUSTER_IP: &str = "10.96.0.7";

pub(super) fn shop(name: &str) -> ObjectName {
    ObjectName::new("shop", name)
}

pub(super) fn service(name: &str, address: &str, node_port: u16) -> ClusterChange {
    let ports = vec![ServicePort { name: "http".to_owned(), port: 80, node_port }];
    let addresses = vec![ip(address)];
    ClusterChange::Service(
        shop(name),
        Some(ClusterService { addresses, fronts: Vec::new(), ports }),
    )
}

/// The pods of a service, each with its address, at port 8080.
pub(super) fn slice(service: &str, pods: &[(&str, &str)]) -> ClusterChange {
    let endpoint = |(pod, address): &(&str, &str)| ClusterEndpoint {
        addresses: vec![ip(address)],
        ready: true,
        pod: Some((*pod).to_owned()),
    };
    let endpoints = pods.iter().map(endpoint).collect();
    let ports = vec![("http".to_owned(), 8080)];
    let slice = ClusterSlice { service: service.to_owned(), endpoints, ports };
    ClusterChange::Slice(shop(&format!("{service}-x")), Some(slice))
}

pub(super) fn node(name: &str, zone: &str, address: &str) -> ClusterChange {
    let node = ClusterNode { zone: zone.to_owned(), addresses: vec![ip(address)] };
    ClusterChange::Node(ObjectName::new("", name), Some(node))
}

impl World {
    pub(super) fn told(&mut self, changes: impl Into<Vec<ClusterChange>>) {
        let news = ClusterNews::Changed(changes.into());
        self.graph.take_cluster_news(news, self.now);
    }

    /// By port: who is at the other end, and by what that is known.
    pub(super) fn ends(&mut self) -> Vec<(u16, String, Basis)> {
        let view = self.view();
        let name = |id| {
            let node = view.nodes.iter().find(|node| node.id == id).unwrap();
            format!("{}/{}", node.namespace, node.name)
        };
        let end = |edge: &ViewEdge| (edge.server_port, name(edge.target), edge.resolved_by);
        let mut ends: Vec<_> = view.edges.iter().map(end).collect();
        ends.sort();
        ends
    }
}

pub(super) fn world() -> (World, NodeIx) {
    let mut world = World::new();
    let a = world.node("a", "10.0.0.1");
    (world, a)
}

pub(super) fn end(port: u16, name: &str, basis: Basis) -> (u16, String, Basis) {
    (port, name.to_owned(), basis)
}

#[test]
fn addresses_of_services_pods_and_hosts_are_named() {
    let (mut world, a) = world();
    world.told([
        service("cart", CLUSTER_IP, 30080),
        slice("cart", &[("cart-1", "10.1.0.4")]),
        node("far", "east", "10.0.0.9"),
        node("b", "east", "10.0.0.2"),
    ]);
    world.node("b", "10.0.0.2");
    world.pass(1);
    for (to, port) in [
        (CLUSTER_IP, 80),
        ("10.1.0.4", 8080),
        ("10.0.0.9", 30080),
        // A covered host's, too, whose own agent knows of nobody there.
        ("10.0.0.2", 30080),
        // A port of the host itself, and one of its own that is another's at the cluster's address.
        ("10.0.0.9", 22),
        ("10.0.0.1", 30080),
    ] {
        let half = world.client(a, "web", global("10.0.0.1"), global(to), port);
        world.exchange(half, 1, 1);
    }
    let half = world.server(a, "db", global("10.0.0.1"), global("10.1.0.4"), 5432);
    world.exchange(half, 1, 1);
    world.pass(12);
    let expected = [
        end(22, "/10.0.0.9", Basis::Address),
        end(80, "shop/cart", Basis::Kubernetes),
        end(5432, "/db", Basis::Kubernetes),
        end(8080, "shop/cart", Basis::Kubernetes),
        end(30080, "/a", Basis::HostAddress),
        end(30080, "shop/cart", Basis::Kubernetes),
    ];
    assert_eq!(world.ends(), expected);
    // A user's network is less than what the cluster says.
    let network = Network::new(ip("10.96.0.0"), 16, "services".to_owned()).unwrap();
    world.graph.set_rules(Rules { networks: vec![network], ..Rules::default() });
    world.pass(12);
    assert_eq!(world.ends()[1], end(80, "shop/cart", Basis::Kubernetes));
}

#[test]
fn pods_of_covered_hosts_go_by_what_their_agents_say() {
    let (mut world, a) = world();
    let b = world.node("b", "10.0.0.2");
    let pods = ["10.1.0.4", "10.1.0.5"];
    for pod in pods {
        let half = world.client(b, "cart-app", global(pod), global("192.0.2.1"), 443);
        world.exchange(half, 1, 1);
    }
    world.told([
        service("cart", CLUSTER_IP, 0),
        slice("cart", &[("cart-1", pods[0]), ("cart-2", pods[1])]),
        service("half", "10.96.0.8", 0),
        slice("half", &[("cart-1", pods[0]), ("away", "10.1.7.7")]),
        service("none", "10.96.0.9", 0),
    ]);
    for to in [pods[0], CLUSTER_IP, "10.96.0.8", "10.96.0.9"] {
        let port = if to == pods[0] { 8080 } else { 80 };
        let half = world.client(a, "web", global("10.0.0.1"), global(to), port);
        world.exchange(half, 1, 1);
    }
    world.pass(12);
    let ends: Vec<_> = world.ends().into_iter().filter(|(port, ..)| *port != 443).collect();
    let expected = [
        // All of its pods are of one service that an agent knows.
        end(80, "/cart-app", Basis::Kubernetes),
        // Some are.
        end(80, "shop/half", Basis::Kubernetes),
        // It has none.
        end(80, "shop/none", Basis::Kubernetes),
        end(8080, "/cart-app", Basis::WorkloadAddress),
    ];
    assert_eq!(ends, expected);
}

#[test]
fn what_both_ends_of_a_service_address_count_is_counted_once() {
    for (server_first, other_pod) in [(false, false), (true, false), (false, true), (true, true)] {
        let (mut world, a) = world();
        let b = world.node("b", "10.0.0.2");
        let mut pods = vec![("cart-1", "10.1.0.4")];
        if other_pod {
            pods.push(("away", "10.1.7.7"));
        }
        // The same port on both sides: without a meeting both would count for one edge.
        let mut told = service("cart", CLUSTER_IP, 0);
        if let ClusterChange::Service(_, Some(service)) = &mut told {
            service.ports[0].port = 8080;
        }
        world.told([told, slice("cart", &pods)]);
        let mut client = None;
        for at in 0..2 {
            if (at == 0) == server_first {
                let half =
                    world.server(b, "cart-app", global("10.1.0.4"), global("10.2.0.3"), 8080);
                world.exchange(half, 10, 100);
            } else {
                let half = world.client(a, "web", global("10.2.0.3"), global(CLUSTER_IP), 8080);
                world.exchange(half, 100, 10);
                client = Some(half);
            }
            // Beyond settling: what was published apart is not owed twice.
            world.pass(14);
        }
        world.pass(20);
        // As much again goes to the pod that nobody covers.
        if other_pod {
            world.exchange(client.unwrap(), 7, 7);
            world.pass(30);
        }
        let of = |world: &mut World, server: &str| -> (u64, u64) {
            let edges = world.edges();
            let edges = edges.iter().filter(|edge| edge.1 == server);
            edges.fold((0, 0), |sum, edge| (sum.0 + edge.3, sum.1 + edge.4))
        };
        let (app, apart) = (of(&mut world, "cart-app"), of(&mut world, "external cart"));
        let all = (app.0 + apart.0, app.1 + apart.1);
        let expected = if other_pod { (2, 107) } else { (1, 100) };
        assert_eq!(all, expected, "{server_first} {other_pod} {:?}", world.edges());
        if server_first {
            assert_eq!(app, (1, 100), "{other_pod} {:?}", world.edges());
        }
    }
}

#[test]
fn an_address_that_another_service_gets_draws_no_edge_to_the_wrong_one() {
    for gap in [0, 1, 3, 8, 14, 40] {
        let (mut world, a) = world();
        world.told([slice("old", &[("old-1", "10.1.0.4")])]);
        world.pass(1);
        let half = world.client(a, "web", global("10.0.0.1"), global("10.1.0.4"), 8080);
        world.exchange(half, 100, 0);
        world.pass(30);
        // Told just after it ended.
        world.told([slice("old", &[])]);
        world.pass(1);
        world.exchange(half, 10, 0);
        world.pass(gap);
        world.told([slice("new", &[("new-1", "10.1.0.4")])]);
        world.pass(1);
        world.exchange(half, 1000, 0);
        world.pass(30);
        world.exchange(half, 10_000, 0);
        world.pass(5);
        let bytes = |name: &str| {
            let edges = published(&world);
            edges.iter().find(|edge| edge.1 == name).map_or(0, |edge| edge.4)
        };
        let (old, new, nobody) = (bytes("old"), bytes("new"), bytes("10.1.0.4"));
        assert_eq!(old + new + nobody, 11_110, "{gap}");
        assert!([100, 110].contains(&old), "{gap}: {old}");
        // What was counted around the change is nobody's.
        assert_eq!(new, 10_000, "{gap}");
    }
}

#[test]
fn a_link_that_settles_later_goes_to_whose_address_it_was_at_first_or_to_nobody() {
    let (mut world, a) = world();
    world.told([slice("old", &[("old-1", "10.1.0.4")])]);
    world.pass(30);
    let half = world.client(a, "web", global("10.0.0.1"), global("10.1.0.4"), 8080);
    world.exchange(half, 100, 0);
    world.pass(2);
    world.told([slice("old", &[]), slice("new", &[("new-1", "10.1.0.4")])]);
    world.pass(20);
    assert_eq!(published(&world), [row("web", "10.1.0.4", 8080, 1, 100, 0)]);
}

#[test]
fn what_happened_while_nobody_listened_is_nobodys() {
    let (mut world, a) = world();
    world.told([node("far", "east", "10.0.0.9"), slice("old", &[("old-1", "10.1.0.4")])]);
    world.pass(30);
    // The aggregator is not there for a minute, and told what has changed when it is back.
    let stored = world.graph.snapshot();
    world.graph = Graph::resume(Config::default(), stored);
    world.now = world.now.plus(Duration::from_secs(60));
    world.graph.restarted(world.now);
    for kind in ClusterKind::ALL {
        let (_, lost) = world.graph.cluster_state(kind);
        assert_eq!(lost, Some(world.now.minus(Duration::from_secs(60))), "{kind:?}");
    }
    world.pass(1);
    let connection = world.connect("a", incarnation(1, 1, 1)).unwrap();
    assert_eq!(connection.node, a);
    world.told([slice("old", &[]), slice("new", &[("new-1", "10.1.0.4")])]);
    for kind in ClusterKind::ALL {
        world.graph.take_cluster_news(ClusterNews::Watched(kind), world.now);
        assert_eq!(world.graph.cluster_state(kind).1, None);
    }
    let at = |world: &mut World, seconds_ago: u64, port: u16| {
        let half = world.client(a, "web", global("10.0.0.1"), global("10.1.0.4"), port);
        let moment = world.now.minus(Duration::from_secs(seconds_ago));
        let mut late = world.graph.begin_late(moment, world.now);
        if let Some(late) = &mut late {
            late.note(&world.graph, half);
        }
        world.exchange(half, 1, 1);
        if let Some(late) = late {
            world.graph.end_late(late, world.now);
        }
    };
    at(&mut world, 30, 1);
    at(&mut world, 75, 2);
    world.pass(2);
    at(&mut world, 0, 3);
    world.pass(20);
    let ends: Vec<_> = world.ends().into_iter().map(|(port, name, _)| (port, name)).collect();
    // The oldest was told of too late to be sure: it settles when the address is another's.
    let nobody = "/10.1.0.4".to_owned();
    assert_eq!(ends, [(1, nobody.clone()), (2, nobody), (3, "shop/new".to_owned())]);
}

#[test]
fn zones_of_hosts_are_known_and_the_user_wins() {
    let (mut world, _) = world();
    world.node("b", "10.0.0.2");
    world.node("c", "10.0.0.3");
    world.told([
        node("a", "east", "10.0.0.1"),
        // An agent may call its host something else.
        node("ip-10-0-0-2", "west", "10.0.0.2"),
        node("c", "", "10.0.0.3"),
    ]);
    let known = world.graph.cluster_zones();
    let zones = Zones::new(vec![("a".to_owned(), "here".to_owned())]).or(known);
    assert_eq!(zones.of("a"), Some("here"));
    assert_eq!((zones.of("b"), zones.of("c"), zones.of("d")), (Some("west"), None, None));
    world.told([node("a", "north", "10.0.0.1")]);
    assert_eq!(world.graph.cluster_zones()["a"], "north");
}

#[test]
fn more_than_there_is_room_for_is_refused_and_counted() {
    let mut cluster = Cluster::default();
    let now = Timestamp::from_unix_ns(1_000_000_000_000);
    let many = |name: &str, first: u32| {
        let endpoint = |at: u32| ClusterEndpoint {
            addresses: vec![IpAddr::V4((0x0a00_0000 + at).into())],
            ready: true,
            pod: None,
        };
        let endpoints = (first..first + 3_000).map(endpoint).collect();
        let ports = vec![(String::new(), 80)];
        let slice = ClusterSlice { service: name.to_owned(), endpoints, ports };
        ClusterChange::Slice(shop(name), Some(slice))
    };
    cluster
        .take(ClusterNews::Changed(vec![many("one", 0), many("two", 30_000)]), now, &|_, _| None);
    assert_eq!((cluster.len(ClusterKind::Slices), cluster.refused()), (1, 1));
    // Once there is room, it is taken.
    assert!(cluster.is_new(&many("two", 30_000)));
    let gone = ClusterChange::gone(ClusterKind::Slices, shop("one"));
    cluster.take(ClusterNews::Changed(vec![gone, many("two", 30_000)]), now, &|_, _| None);
    assert_eq!((cluster.len(ClusterKind::Slices), cluster.refused()), (1, 1));
}

/// Some objects, of few names and addresses.
#[test]
fn objects_that_claim_nothing_have_a_limit_too() {
    let mut cluster = Cluster::default();
    let now = Timestamp::from_unix_ns(1_000_000_000_000);
    let some = |kind: ClusterKind, number: usize| {
        let (name, service) = (shop(&number.to_string()), number.to_string());
        match kind {
            ClusterKind::Services => ClusterChange::Service(name, Some(ClusterService::default())),
            ClusterKind::Slices => {
                let slice = ClusterSlice { service, ..ClusterSlice::default() };
                ClusterChange::Slice(name, Some(slice))
            }
            ClusterKind::Nodes => ClusterChange::Node(name, Some(ClusterNode::default())),
        }
    };
    for (at, kind) in ClusterKind::ALL.into_iter().enumerate() {
        let many = (0..MOST_OBJECTS + 1).map(|number| some(kind, number)).collect();
        cluster.take(ClusterNews::Changed(many), now, &|_, _| None);
        assert_eq!((cluster.len(kind), cluster.refused()), (MOST_OBJECTS, at as u64 + 1));
        // One that is known may change; another has room when one is gone.
        let gone = ClusterChange::gone(kind, shop("0"));
        let changes = vec![some(kind, 1), gone, some(kind, MOST_OBJECTS)];
        cluster.take(ClusterNews::Changed(changes), now, &|_, _| None);
        assert_eq!((cluster.len(kind), cluster.refused()), (MOST_OBJECTS, at as u64 + 1));
    }
}

fn change() -> impl Strategy<Value = ClusterChange> {
    let names = || proptest::sample::select(vec!["a", "b", "c"]);
    let addresses = || proptest::collection::vec(0_u8..4, 0..3);
    let address = |kind: u8| move |at: u8| ip(&format!("10.{kind}.0.{at}"));
    let service = (names(), addresses(), 0_u16..2).prop_map(move |(name, at, node_port)| {
        let port = ServicePort { name: "http".to_owned(), port: 80, node_port: node_port * 30_000 };
        let addresses: Vec<_> = at.into_iter().map(address(1)).collect();
        let there = !addresses.is_empty();
        let service = ClusterService { addresses, fronts: Vec::new(), ports: vec![port] };
        ClusterChange::Service(shop(name), there.then_some(service))
    });
    let slice = (names(), names(), addresses()).prop_map(move |(name, service, at)| {
        let endpoint = |at: u8| ClusterEndpoint {
            addresses: vec![address(1)(at)],
            ready: at > 0,
            pod: Some(format!("{service}-{at}")),
        };
        let endpoints: Vec<_> = at.into_iter().map(endpoint).collect();
        let there = !endpoints.is_empty();
        let ports = vec![("http".to_owned(), 8080)];
        let slice = ClusterSlice { service: service.to_owned(), endpoints, ports };
        ClusterChange::Slice(shop(name), there.then_some(slice))
    });
    let node = (names(), addresses()).prop_map(move |(name, at)| {
        let addresses: Vec<_> = at.into_iter().map(address(1)).collect();
        let there = !addresses.is_empty();
        let node = ClusterNode { zone: name.to_owned(), addresses };
        ClusterChange::Node(ObjectName::new("", name), there.then_some(node))
    });
    prop_oneof![service, slice, node]
}

/// Every answer there is.
fn answers(cluster: &Cluster, from: Timestamp, to: Timestamp) -> Vec<Option<ObjectName>> {
    let mut all = Vec::new();
    for at in 0..4 {
        for port in [None, Some(80), Some(8080), Some(30_000)] {
            for covered in [false, true] {
                let span = Span { from, to };
                let who = cluster.who(ip(&format!("10.1.0.{at}")), port, covered, span);
                all.push(who.map(|(name, _)| ObjectName::clone(name)));
            }
        }
    }
    all
}

proptest! {
    /// Each object as it is at last, in whatever order they come.
    #[test]
    fn the_order_of_objects_tells_nothing(
        changes in proptest::collection::vec(change(), 1..12),
        order in any::<u64>(),
    ) {
        let now = Timestamp::from_unix_ns(1_000_000_000_000);
        let mut seen = BTreeSet::new();
        let last = changes.into_iter().rev();
        let last: Vec<_> = last.filter(|one| seen.insert((one.kind(), one.name().clone()))).collect();
        let mut other = last.clone();
        let by = |one: &ClusterChange| {
            use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
            let hasher = BuildHasherDefault::<DefaultHasher>::default();
            hasher.hash_one((order, one.kind(), one.name()))
        };
        other.sort_by_key(by);
        let made = |changes: Vec<ClusterChange>| {
            let mut cluster = Cluster::default();
            for change in changes {
                cluster.take(ClusterNews::Changed(vec![change]), now, &|_, _| None);
            }
            cluster
        };
        prop_assert_eq!(answers(&made(last), now, now), answers(&made(other), now, now));
    }

    /// What was stored goes on as what was not; and nobody has what nobody claims.
    #[test]
    fn what_is_stored_is_the_same(
        before in proptest::collection::vec((change(), 0_u64..30), 0..12),
        after in proptest::collection::vec((change(), 0_u64..30), 0..12),
    ) {
        let mut now = Timestamp::from_unix_ns(1_000_000_000_000);
        let mut cluster = Cluster::default();
        for (change, wait) in before {
            now = now.plus(Duration::from_secs(wait));
            cluster.take(ClusterNews::Changed(vec![change]), now, &|_, _| None);
        }
        let bytes = postcard::to_stdvec(&cluster).unwrap();
        let mut stored: Cluster = postcard::from_bytes(&bytes).unwrap();
        stored.resume();
        for (change, wait) in after {
            now = now.plus(Duration::from_secs(wait));
            for cluster in [&mut cluster, &mut stored] {
                cluster.take(ClusterNews::Changed(vec![change.clone()]), now, &|_, _| None);
                prop_assert!(!cluster.is_new(&change));
            }
            let from = now.minus(Duration::from_secs(15));
            prop_assert_eq!(answers(&cluster, from, now), answers(&stored, from, now));
        }
        for kind in ClusterKind::ALL {
            for name in cluster.names(kind) {
                let gone = ClusterChange::gone(kind, name);
                cluster.take(ClusterNews::Changed(vec![gone]), now, &|_, _| None);
            }
        }
        let later = now.plus(Duration::from_secs(30));
        prop_assert!(answers(&cluster, later, later).iter().all(Option::is_none));
        cluster.turn(now.plus(Duration::from_secs(601)));
        prop_assert!(cluster.held().is_empty());
    }
}
