//! Names that are learned late, and rules that change.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::world::*;
use crate::{
    model::{HalfKey, Role, Workload, WorkloadKind},
    *,
};

const WEB: &str = "111111111111";
const WEB_2: &str = "222222222222";
const A: &str = "10.0.0.1";
const B: &str = "10.0.0.2";

fn container(name: &str, labels: &[(&str, &str)]) -> Workload {
    let label = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    let labels = labels.iter().map(label).collect();
    Workload { labels, ..named(WorkloadKind::Container, name) }
}

fn half_of(world: &mut World, node: NodeIx, name: &str, key: (Role, &str, &str)) -> HalfIx {
    let workload = world.graph.intern_workload(node, container(name, &[])).unwrap();
    let (role, local, peer) = (key.0, global(key.1), global(key.2));
    let key = HalfKey { workload, local, peer, server_port: 80, client_port: 0, role };
    world.graph.open_half(node, key, 0, world.now).unwrap()
}

/// Client, server and payload bytes of every edge in sight, by name.
fn told(world: &mut World) -> Vec<(String, String, u64)> {
    let view = world.view();
    let names: BTreeMap<_, _> =
        view.nodes.iter().map(|node| (node.id, node.name.clone())).collect();
    let edge = |edge: &ViewEdge| {
        let expected = Id::of_edge(edge.source, edge.target, edge.server_port, PROTOCOL);
        assert_eq!(edge.id, expected, "an id follows from the ends");
        (names[&edge.source].clone(), names[&edge.target].clone(), edge.totals.bytes())
    };
    let mut edges: Vec<_> = view.edges.iter().map(edge).collect();
    edges.sort();
    edges
}

fn published(world: &World) -> Vec<(String, u64)> {
    let series = world.graph.published();
    let mut series: Vec<_> =
        series.map(|one| (one.client().to_owned(), one.totals().bytes())).collect();
    series.sort();
    series
}

fn edge(client: &str, bytes: u64) -> (String, String, u64) {
    (client.to_owned(), "db".to_owned(), bytes)
}

/// A container that talks to `db` on another host, both sides counted.
fn world() -> (World, NodeIx, HalfIx, HalfIx) {
    let mut world = World::new();
    let (a, b) = (world.node("a", A), world.node("b", B));
    let client = half_of(&mut world, a, WEB, (Role::Client, A, B));
    let server = world.server(b, "db", global(B), global(A), 80);
    (world, a, client, server)
}

fn move_bytes(world: &mut World, client: HalfIx, server: HalfIx, bytes: u64) {
    world.exchange(client, bytes, 0);
    world.exchange(server, 0, bytes);
}

#[test]
fn a_name_learned_in_time_is_the_only_one() {
    let (mut world, a, client, server) = world();
    move_bytes(&mut world, client, server, 100);
    world.graph.name_containers(a, [(WEB.to_owned(), container("web", &[("image", "nginx")]))]);
    assert_eq!(told(&mut world), [edge("web", 100)]);
    world.pass(11);
    assert_eq!(published(&world), [("web".to_owned(), 100)]);
    let view = world.view();
    let web = view.nodes.iter().find(|node| node.name == "web").unwrap();
    assert_eq!((web.kind, web.labels["image"].as_str()), (WorkloadKind::Container, "nginx"));
}

#[test]
fn a_name_learned_late_is_told_and_published_series_keep_theirs() {
    let (mut world, a, client, server) = world();
    move_bytes(&mut world, client, server, 100);
    world.pass(11);
    world.graph.name_containers(a, [(WEB.to_owned(), container("web", &[]))]);
    assert_eq!(told(&mut world), [edge("web", 100)]);
    move_bytes(&mut world, client, server, 10);
    world.pass(11);
    assert_eq!(told(&mut world), [edge("web", 110)]);
    assert_eq!(published(&world), [(WEB.to_owned(), 110)]);
}

#[test]
fn a_second_container_of_a_service_joins_it() {
    let (mut world, a, client, server) = world();
    let labels = [("compose.project", "shop"), ("compose.service", "web")];
    world.graph.name_containers(a, [(WEB.to_owned(), container("shop-web-1", &labels))]);
    move_bytes(&mut world, client, server, 100);
    world.pass(11);
    // The other one was published before its name was known, over a link of its own.
    let c = world.node("c", "10.0.0.3");
    let other = half_of(&mut world, c, WEB_2, (Role::Client, "10.0.0.3", B));
    world.exchange(other, 7, 0);
    world.pass(11);
    assert_eq!(told(&mut world), [edge(WEB_2, 7), edge("web", 100)]);
    world.graph.name_containers(c, [(WEB_2.to_owned(), container("shop-web-2", &labels))]);
    world.exchange(other, 5, 0);
    world.pass(11);
    // What was published stays where it was; what it gains now is the service's.
    assert_eq!(told(&mut world), [edge(WEB_2, 7), edge("web", 105)]);
    assert_eq!(published(&world), [(WEB_2.to_owned(), 7), ("web".to_owned(), 105)]);
    let view = world.view();
    let web = view.nodes.iter().find(|node| node.name == "web").unwrap();
    assert_eq!((web.namespace.as_str(), web.hosts.len()), ("shop", 2));
}

#[test]
fn listeners_go_by_their_new_name() {
    let (mut world, a, b) = {
        let mut world = World::new();
        let (a, b) = (world.node("a", A), world.node("b", B));
        (world, a, b)
    };
    let workload = world.graph.intern_workload(b, container(WEB, &[])).unwrap();
    let listener = crate::model::Listener {
        workload,
        address: global("0.0.0.0"),
        network_namespace: ROOT,
        port: 80,
    };
    world.graph.listener_opened(b, listener);
    world.graph.name_containers(b, [(WEB.to_owned(), container("web", &[]))]);
    let client = world.client(a, "curl", global(A), global(B), 80);
    world.add(client, &[(Counter::FailedRefused, 1)]);
    world.pass(11);
    assert_eq!(told(&mut world), [("curl".to_owned(), "web".to_owned(), 0)]);
    world.graph.listener_closed(b, listener);
    let second = world.client(a, "wget", global(A), global(B), 80);
    world.add(second, &[(Counter::FailedRefused, 1)]);
    world.pass(11);
    assert!(told(&mut world).iter().any(|edge| edge.0 == "wget" && edge.1 == "b"));
}

#[test]
fn rules_can_change_at_any_time() {
    let mut world = World::new();
    let a = world.node("a", A);
    let client = world.client(a, "python-7", global(A), global("192.0.2.9"), 443);
    world.exchange(client, 100, 0);
    world.pass(11);
    assert_eq!(told(&mut world), [("python-7".to_owned(), "192.0.2.9".to_owned(), 100)]);
    let rules = Rules {
        services: vec![ServiceRule {
            name: Some("python-*".to_owned()),
            service: "billing".to_owned(),
            ..ServiceRule::default()
        }],
        networks: vec![Network::new(ip("192.0.2.0"), 24, "payment provider".to_owned()).unwrap()],
    };
    world.graph.set_rules(rules);
    world.exchange(client, 10, 0);
    world.pass(11);
    assert_eq!(
        told(&mut world),
        [
            ("billing".to_owned(), "192.0.2.9".to_owned(), 100),
            ("billing".to_owned(), "payment provider".to_owned(), 10),
        ]
    );
    world.graph.set_rules(Rules::default());
    world.exchange(client, 1, 0);
    world.pass(11);
    let all: u64 = told(&mut world).iter().map(|edge| edge.2).sum();
    assert_eq!(all, 111);
}

#[test]
fn what_was_split_for_a_client_goes_with_it() {
    let mut world = World::new();
    let (a, b) = (world.node("a", A), world.node("b", B));
    let job = || container("job", &[]);
    world.graph.name_containers(a, [(WEB_2.to_owned(), job())]);
    half_of(&mut world, a, WEB_2, (Role::Client, "10.0.9.9", B));
    let moving = half_of(&mut world, a, WEB, (Role::Client, A, B));
    let other = world.client(a, "web", global(A), global(B), 80);
    let whole = world.server(b, "db", global(B), global(A), 80);
    let single = world.half(b, "cache", Role::Server, global(B), global(A), 80, 7);
    move_bytes(&mut world, moving, whole, 600);
    move_bytes(&mut world, other, whole, 400);
    move_bytes(&mut world, other, single, 100);
    world.pass(40);
    let sum = |world: &World| published(world).iter().map(|series| series.1).sum::<u64>();
    assert_eq!(sum(&world), 1100);
    world.graph.name_containers(a, [(WEB.to_owned(), job())]);
    world.pass(1);
    move_bytes(&mut world, moving, whole, 600);
    world.pass(90);
    assert_eq!(sum(&world), 1700);
}

#[test]
fn a_link_stays_small_however_often_its_ends_are_called_something_else() {
    let mut world = World::with(Config {
        steps_kept: 3,
        edge_idle_expiry: std::time::Duration::from_secs(100_000),
        ..Config::default()
    });
    let (a, b) = (world.node("a", A), world.node("b", B));
    let client = half_of(&mut world, a, WEB, (Role::Client, A, B));
    let other = world.client(a, "other", global(A), global(B), 80);
    let server = world.server(b, "db", global(B), global(A), 80);
    let (mut sent, mut others) = (0, 0);
    for number in 0..300_u64 {
        // Somebody has the name already: what was of another service moves to that one.
        let name = format!("job-{number}");
        let spare = format!("spare-{number}");
        half_of(&mut world, a, &spare, (Role::Client, "10.0.9.9", B));
        for called in [spare.as_str(), WEB] {
            world.graph.name_containers(a, [(called.to_owned(), container(&name, &[]))]);
        }
        world.pass(1);
        move_bytes(&mut world, client, server, number);
        world.pass(11);
        move_bytes(&mut world, other, server, 3);
        world.pass(11);
        (sent, others) = (sent + number, others + 3);
    }
    let rows = world.graph.links.iter().map(|link| link.rows.len()).max();
    assert!(rows < Some(70), "{rows:?} rows");
    let stats = world.graph.stats();
    assert!(stats.edges < 100, "{stats:?}");
    let published: BTreeMap<_, _> = published(&world).into_iter().collect();
    assert_eq!(published.values().sum::<u64>(), sent + others);
    // Each has what it gained under its name, and who stayed has what is its.
    assert_eq!((published["job-299"], published["job-77"]), (299, 77));
    assert_eq!(published["other"], others);
}

#[test]
fn a_link_stays_small_however_often_a_network_is_called_something_else() {
    let mut world = World::with(Config {
        steps_kept: 3,
        edge_idle_expiry: std::time::Duration::from_secs(100_000),
        ..Config::default()
    });
    let a = world.node("a", A);
    let client = world.client(a, "web", global(A), global("192.0.2.9"), 443);
    for number in 0..300 {
        let name = format!("net-{number}");
        let networks = vec![Network::new(ip("192.0.2.0"), 24, name).unwrap()];
        world.graph.set_rules(Rules { services: Vec::new(), networks });
        world.exchange(client, number, 0);
        world.pass(11);
    }
    let rows = world.graph.links.iter().map(|link| link.rows.len()).max();
    assert!(rows < Some(70), "{rows:?} rows");
    assert!(world.graph.stats().edges < 80, "{:?}", world.graph.stats());
    let mut gained: Vec<_> = world.series().values().map(EdgeTotals::bytes).collect();
    gained.sort_unstable();
    assert_eq!(gained, (0..300).collect::<Vec<_>>());
}

/// What happens to a client of several containers, in any order.
#[derive(Clone, Copy, Debug)]
enum Step {
    Bytes(usize, u8),
    Name(usize, usize),
    Pass(u8),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0_usize..3, any::<u8>()).prop_map(|(half, bytes)| Step::Bytes(half, bytes)),
        (0_usize..3, 0_usize..3).prop_map(|(half, name)| Step::Name(half, name)),
        (1_u8..15).prop_map(Step::Pass),
        Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..40)
}

proptest! {
    #[test]
    fn names_move_nothing_but_names(steps in steps(), one_link: bool) {
        const NAMES: [&str; 3] = ["web", "api", "job"];
        const IDS: [&str; 3] = [WEB, WEB_2, "333333333333"];
        let mut world = World::new();
        let (a, b) = (world.node("a", A), world.node("b", B));
        let mut sent = 0_u64;
        let halves: Vec<_> = (0..3)
            .map(|at| {
                let local = format!("10.0.1.{}", if one_link { 0 } else { at });
                let client = half_of(&mut world, a, IDS[at], (Role::Client, &local, B));
                (client, world.server(b, "db", global(B), global(&local), 80))
            })
            .collect();
        let mut names: [&str; 3] = IDS;
        for step in steps {
            match step {
                Step::Bytes(at, bytes) => {
                    move_bytes(&mut world, halves[at].0, halves[at].1, u64::from(bytes));
                    sent += u64::from(bytes);
                }
                Step::Name(at, name) => {
                    names[at] = NAMES[name];
                    let called = container(NAMES[name], &[]);
                    world.graph.name_containers(a, [(IDS[at].to_owned(), called)]);
                }
                Step::Pass(seconds) => world.pass(u64::from(seconds)),
                Step::Restart => {
                    let stored = world.graph.snapshot();
                    world.graph = Graph::resume(Config::default(), stored);
                }
            }
        }
        world.pass(11);
        for (client, server) in &halves {
            move_bytes(&mut world, *client, *server, 1);
            sent += 1;
        }
        world.pass(1);
        let all: u64 = published(&world).iter().map(|series| series.1).sum();
        prop_assert_eq!(all, sent);
        // What moves now, moves under the names that are known now.
        let now: std::collections::BTreeSet<_> =
            told(&mut world).into_iter().map(|edge| edge.0).collect();
        for name in names {
            prop_assert!(now.contains(name), "{} is not in {:?}", name, now);
        }
    }
}
