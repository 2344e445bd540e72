//! Answers between workloads, hosts and zones add up to those between services.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;

use super::{
    properties::{Event, Random, event},
    slicing,
    world::*,
};
use crate::{model::WorkloadKind, *};

fn zones() -> Zones {
    let zone = |host: &str, zone: &str| (host.to_owned(), zone.to_owned());
    Zones::new(vec![zone("c0", "east"), zone("c*", "west"), zone("s?", "east")])
}

fn finer(world: &mut World) -> View {
    finer_by(world, Grouping::Workload)
}

/// To be grouped so.
fn finer_by(world: &mut World, by: Grouping) -> View {
    let window = Window { from: Timestamp::default(), to: world.now };
    world.graph.view_finer(window, by, world.now)
}

/// Bytes to the server and connections open, by the names of the groups.
fn grouped(view: View, by: Grouping) -> BTreeMap<(String, String), (u64, u64)> {
    let view = view.group(by);
    let name = |id| view.nodes.iter().find(|node| node.id == id).unwrap().name.clone();
    let mut sums: BTreeMap<_, (u64, u64)> = BTreeMap::new();
    for edge in &view.edges {
        let sum = sums.entry((name(edge.source), name(edge.target))).or_default();
        sum.0 += edge.totals.get(Measure::BytesToServer);
        sum.1 += edge.connections_open;
    }
    sums
}

/// What steps have that are given out, over all of them: gains and open connections by key, and by the names, hosts and
/// zones of both ends; those between services beside.
#[derive(Default)]
struct Kept {
    services: BTreeMap<(String, String), EdgeTotals>,
    finer: BTreeMap<[String; 2], EdgeTotals>,
}

impl Kept {
    /// Takes what was given out; in each step, the finer rows add up to the others.
    fn take(&mut self, graph: &mut Graph) {
        for Given { steps, .. } in graph.take_steps() {
            let steps = match steps {
                GivenSteps::Ended(step) => vec![step],
                GivenSteps::Late(steps) => steps,
            };
            for step in &steps {
                let [services, finer] = [false, true].map(|finer| self.add(step, finer));
                assert_eq!(services, finer, "{:?}", step.window);
            }
        }
    }

    fn add(&mut self, step: &EndedStep, finer: bool) -> (EdgeTotals, u64) {
        let mut sum = (EdgeTotals::default(), 0);
        let name = |node: &ViewNode| match node.hosts.as_slice() {
            [host] => format!("{} {host} {}", node.name, node.zone),
            _ => node.name.clone(),
        };
        let mut rows = step.rows(finer);
        while let Some(row) = rows.next() {
            row.totals.add_to(&mut sum.0);
            sum.1 += row.connections_open;
            let [source, target] = row.ends.map(|end| {
                let node = rows.node(end).unwrap();
                let key = if finer { node.id_in_zone() } else { node.id };
                assert_eq!(rows.key(end), Some(key));
                node
            });
            let totals = if finer {
                self.finer.entry([name(&source), name(&target)]).or_default()
            } else {
                let ends = (source.name.clone(), target.name.clone());
                self.services.entry(ends).or_default()
            };
            row.totals.add_to(totals);
        }
        sum
    }
}

fn total(view: &View) -> (EdgeTotals, u64) {
    let mut totals = EdgeTotals::default();
    view.edges.iter().for_each(|edge| totals.merge(&edge.totals));
    (totals, view.edges.iter().map(|edge| edge.connections_open).sum())
}

/// `web` on hosts `c0`..., `db` on hosts `s0`...; nothing else has their addresses.
struct Replicas {
    world: World,
    hosts: [Vec<NodeIx>; 2],
}

impl Replicas {
    fn new() -> Self {
        let mut world = World::new();
        let mut hosts = |letter: &str, network: u8| {
            (0..3)
                .map(|n| world.node(&format!("{letter}{n}"), &format!("10.{network}.0.{n}")))
                .collect()
        };
        let hosts = [hosts("c", 1), hosts("s", 2)];
        world.graph.set_zones(zones());
        Self { world, hosts }
    }

    /// One connection of `web` on one host to `db` on another.
    fn exchange(&mut self, client: usize, server: usize, bytes: u64) -> [HalfIx; 2] {
        let ends = (global(&format!("10.1.0.{client}")), global(&format!("10.2.0.{server}")));
        let ours = self.world.client(self.hosts[0][client], "web", ends.0, ends.1, 80);
        let theirs = self.world.server(self.hosts[1][server], "db", ends.1, ends.0, 80);
        self.world.exchange(ours, bytes, 0);
        self.world.exchange(theirs, 0, bytes);
        [ours, theirs]
    }
}

#[test]
fn replicas_are_told_apart() {
    let mut replicas = Replicas::new();
    replicas.exchange(0, 0, 100);
    replicas.world.pass(12);
    replicas.exchange(1, 0, 10);
    replicas.exchange(2, 1, 1);
    replicas.world.pass(25);
    let world = &mut replicas.world;
    let view = finer(world);
    let row = |a: &str, b: &str, bytes, open| ((a.to_owned(), b.to_owned()), (bytes, open));
    let by_node = [row("c0", "s0", 100, 1), row("c1", "s0", 10, 1), row("c2", "s1", 1, 1)];
    assert_eq!(grouped(view.clone(), Grouping::Node), by_node.into());
    let by_zone = [row("east", "east", 100, 1), row("west", "east", 11, 2)];
    assert_eq!(grouped(view.clone(), Grouping::Zone), by_zone.into());
    let workloads = view.group(Grouping::Workload);
    assert_eq!((workloads.nodes.len(), workloads.edges.len()), (5, 3));
    assert!(workloads.nodes.iter().all(|node| node.kind == WorkloadKind::Process));
    // As before a restart, for what is in memory after it.
    let now = world.now;
    world.graph = Graph::resume(Config::default(), world.graph.snapshot());
    replicas.exchange(1, 0, 5);
    replicas.world.pass(3);
    let window = Window { from: now, to: now.plus(Duration::from_secs(3)) };
    let view = replicas.world.graph.view_finer(window, Grouping::Node, replicas.world.now);
    assert_eq!(grouped(view, Grouping::Node)[&("c1".to_owned(), "s0".to_owned())].0, 5);
}

#[test]
fn a_host_is_known_by_its_address_and_what_is_not_is_unknown() {
    let mut world = World::new();
    let (a, b) = (world.node("a", "10.0.0.1"), world.node("b", "10.0.0.2"));
    world.listen(b, "db", "0.0.0.0", 80);
    let half = world.client(a, "web", global("10.0.0.1"), global("10.0.0.2"), 80);
    world.exchange(half, 100, 0);
    // One service on two hosts, seen from outside by an address that neither announced.
    for node in [a, b] {
        let far = world.server(node, "api", global("10.9.0.1"), global("192.0.2.1"), 443);
        world.exchange(far, 0, 7);
    }
    world.pass(70);
    let sums = grouped(finer(&mut world), Grouping::Node);
    assert_eq!(sums[&("a".to_owned(), "b".to_owned())].0, 100);
    assert_eq!(sums[&("external".to_owned(), "unknown".to_owned())].0, 14);
}

#[test]
fn it_goes_back_as_far_as_memory_and_says_so() {
    let mut replicas = Replicas::new();
    replicas.exchange(0, 0, 100);
    replicas.world.pass(20);
    let world = &mut replicas.world;
    let begin = world.now;
    let view = finer(world);
    assert!(view.coverage.complete, "{:?}", view.coverage);
    world.graph = Graph::resume(Config::default(), world.graph.snapshot());
    world.pass(20);
    let view = finer(world);
    assert!(!view.coverage.complete && view.coverage.history_from <= world.now);
    assert!(view.window.from >= begin.floor(Duration::from_secs(10)));
}

#[test]
fn where_there_is_no_room_to_tell_them_apart_sums_are_right() {
    let mut replicas = Replicas::new();
    let config = Config { max_series: 1, ..Config::default() };
    replicas.world.graph = Graph::resume(config, replicas.world.graph.snapshot());
    for (client, server) in [(0, 0), (1, 0), (2, 0), (2, 2)] {
        replicas.exchange(client, server, 10);
        replicas.world.pass(4);
    }
    let world = &mut replicas.world;
    assert_eq!(total(&finer(world)), total(&world.view()));
    assert!(world.graph.stats().edges_unplaced > 0, "and it is said");
}

proptest! {
    #[test]
    fn replicas_add_up_and_are_exact(
        calls in proptest::collection::vec(
            (0..3_usize, 0..3_usize, 1_u64..1000, 0_u64..7, any::<bool>()),
            1..25,
        ),
    ) {
        let mut replicas = Replicas::new();
        let mut truth: BTreeMap<(String, String), u64> = BTreeMap::new();
        for (client, server, bytes, seconds, ends) in calls {
            let halves = replicas.exchange(client, server, bytes);
            *truth.entry((format!("c{client}"), format!("s{server}"))).or_default() += bytes;
            replicas.world.pass(seconds);
            if ends {
                let now = replicas.world.now;
                halves.into_iter().for_each(|half| replicas.world.graph.retire_half(half, now));
            }
        }
        replicas.world.pass(30);
        let world = &mut replicas.world;
        let view = finer(world);
        let bytes: BTreeMap<_, _> =
            grouped(view.clone(), Grouping::Node).into_iter().map(|(ends, sum)| (ends, sum.0)).collect();
        prop_assert_eq!(bytes, truth);
        let services = world.view();
        for by in [Grouping::Node, Grouping::Zone, Grouping::Workload, Grouping::Namespace] {
            prop_assert_eq!(total(&view.clone().group(by)), total(&services));
        }
    }

    #[test]
    fn whatever_happens_what_is_kept_is_what_was_told(
        events in proptest::collection::vec(event(), 1..80),
        late in proptest::collection::vec((0..8_usize, 1_u64..99, 3_u64..60), 0..6),
        restart in any::<prop::sample::Index>(),
    ) {
        let mut random = Random::new();
        let config = Config { hand_over_steps: true, ..Config::default() };
        random.world.graph = Graph::resume(config.clone(), random.world.graph.snapshot());
        let mut kept = Kept::default();
        let restart = restart.index(events.len());
        for (at, event) in events.iter().enumerate() {
            random.happen(event);
            if let Some((half, value, age)) = late.get(at) {
                let half = random.halves[*half];
                slicing::late(&mut random.world, half, *value, *age);
            }
            kept.take(&mut random.world.graph);
            if at == restart {
                let stored = postcard::to_stdvec(&random.world.graph.snapshot()).unwrap();
                let stored = postcard::from_bytes(&stored).unwrap();
                random.world.graph = Graph::resume(config.clone(), stored);
                random.world.graph.restarted(random.world.now);
                for first in [true, false] {
                    random.happen(&Event::Reconnect(first, 1));
                }
            }
        }
        // Whatever is still in memory is told as it was given out.
        random.world.pass(45);
        kept.take(&mut random.world.graph);
        let mut sums = [EdgeTotals::default(), EdgeTotals::default()];
        kept.services.values().for_each(|totals| sums[0].merge(totals));
        kept.finer.values().for_each(|totals| sums[1].merge(totals));
        prop_assert_eq!(&sums[0], &sums[1]);
    }

    #[test]
    fn whatever_happens_groupings_reconcile(
        events in proptest::collection::vec(event(), 1..80),
        back in 1_u64..60,
    ) {
        let mut random = Random::new();
        events.iter().for_each(|event| random.happen(event));
        let world = &mut random.world;
        let to = world.now;
        for from in [Timestamp::default(), to.minus(Duration::from_secs(back))] {
            let services = world.graph.view(Window { from, to }, world.now);
            let parts = world.graph.view_finer(Window { from, to }, Grouping::Zone, world.now);
            prop_assert_eq!(total(&services), total(&parts));
            prop_assert_eq!(services.window, parts.window);
            for by in [Grouping::Node, Grouping::Zone, Grouping::Workload, Grouping::Namespace] {
                let grouped = parts.clone().group(by);
                prop_assert_eq!(total(&services), total(&grouped));
                for edge in &grouped.edges {
                    let is_node = |id| grouped.nodes.iter().any(|node| node.id == id);
                    prop_assert!(is_node(edge.source) && is_node(edge.target));
                }
            }
        }
    }
}

#[test]
fn what_comes_late_counts_for_who_told_it() {
    let mut replicas = Replicas::new();
    replicas.exchange(0, 0, 100);
    replicas.world.pass(12);
    let second = replicas.exchange(1, 0, 10);
    replicas.world.pass(20);
    let world = &mut replicas.world;
    // Both sides of the second tell of some seconds ago.
    let age = Duration::from_secs(12);
    let moment = world.now.minus(age);
    for half in second {
        let mut late = world.graph.begin_late(moment, world.now).unwrap();
        late.note(&world.graph, half);
        let counter = if half == second[0] { Counter::BytesSent } else { Counter::BytesReceived };
        world.graph.add(half, counter, 1000);
        world.graph.end_late(late, world.now);
    }
    world.pass(12);
    let window = Window { from: moment.floor(Duration::from_secs(10)), to: moment };
    let view = world.graph.view_finer(window, Grouping::Node, world.now);
    let sums = grouped(view.clone(), Grouping::Node);
    assert_eq!(sums[&("c1".to_owned(), "s0".to_owned())].0, 1000);
    assert_eq!(total(&view), total(&world.graph.view(window, world.now)));
}

#[test]
fn what_is_kept_has_the_hosts_and_zones_of_its_time() {
    let mut replicas = Replicas::new();
    let config = Config { hand_over_steps: true, ..Config::default() };
    let snapshot = replicas.world.graph.snapshot();
    replicas.world.graph = Graph::resume(config, snapshot);
    replicas.world.graph.set_zones(zones());
    let halves = [replicas.exchange(0, 0, 100), replicas.exchange(1, 0, 10)];
    replicas.world.pass(25);
    let mut kept = Kept::default();
    kept.take(&mut replicas.world.graph);
    let bytes = |kept: &Kept| {
        let bytes = |(ends, totals): (&[String; 2], &EdgeTotals)| {
            (ends.clone(), totals.get(Measure::BytesToServer))
        };
        kept.finer.iter().map(bytes).collect::<BTreeMap<_, _>>()
    };
    let row =
        |client: &str, server: &str, bytes: u64| ([client.to_owned(), server.to_owned()], bytes);
    let before = [row("web c0 east", "db s0 east", 100), row("web c1 west", "db s0 east", 10)];
    assert_eq!(bytes(&kept), before.clone().into());
    // The first host's zone is another from now on; what is kept of before is not told again.
    replicas.world.graph.set_zones(Zones::new(vec![("c*".to_owned(), "west".to_owned())]));
    for half in halves.iter().flatten().take(2) {
        replicas.world.add(*half, &[(Counter::BytesSent, 7), (Counter::BytesReceived, 7)]);
    }
    replicas.world.pass(25);
    kept.take(&mut replicas.world.graph);
    let after = bytes(&kept);
    assert_eq!(after[&before[0].0], 100);
    let later = row("web c0 west", "db s0 ", 7);
    assert_eq!(after[&later.0], 7, "{after:?}");
}

#[test]
fn a_node_is_told_with_the_same_labels_each_time() {
    let mut world = World::new();
    let a = world.node("a", "10.0.0.1");
    let _b = world.node("b", "10.0.0.2");
    // Workloads that are called alike, on one host.
    for n in 0..8_u8 {
        let mut workload = named(WorkloadKind::Process, "web");
        workload.labels = [("instance".to_owned(), n.to_string())].into();
        let workload = world.graph.intern_workload(a, workload).unwrap();
        let key = model::HalfKey {
            workload,
            local: global(&format!("10.1.0.{n}")),
            peer: global("10.0.0.2"),
            server_port: 80,
            client_port: 0,
            role: model::Role::Client,
        };
        let half = world.graph.open_half(a, key, 0, world.now).unwrap();
        world.exchange(half, 100, 0);
    }
    world.pass(15);
    let labels = |world: &mut World| {
        let view = finer(world);
        let web = view.nodes.iter().find(|node| node.name == "web").unwrap();
        (view.nodes.len(), web.labels["instance"].clone())
    };
    let first = labels(&mut world);
    assert_eq!(first.0, 2);
    for _ in 0..20 {
        assert_eq!(labels(&mut world), first);
    }
}

#[test]
fn by_its_name_alone_no_host_can_be_guessed() {
    let mut replicas = Replicas::new();
    replicas.exchange(0, 0, 100);
    replicas.exchange(1, 0, 10);
    replicas.exchange(1, 1, 1);
    replicas.world.pass(15);
    let whole = finer(&mut replicas.world);
    assert_eq!((whole.nodes.len(), whole.edges.len()), (4, 3));
    let view = whole.clone().by_names_alone(|node| node.name == "db");
    assert_eq!(total(&view), total(&whole));
    // The servers are one.
    assert_eq!((view.nodes.len(), view.edges.len()), (3, 2));
    let db = view.nodes.iter().find(|node| node.name == "db").unwrap();
    assert_eq!(db.id, Id::of_node(WorkloadKind::Process, "", "db"));
    assert!(db.hosts.is_empty());
    for edge in &view.edges {
        assert_eq!(edge.id, Id::of_edge(edge.source, edge.target, 80, PROTOCOL));
        assert!(view.nodes.iter().any(|node| node.id == edge.source && node.hosts.len() == 1));
        assert_eq!(edge.target, db.id);
    }
    // Of services there is nothing to change.
    let window = Window { from: Timestamp::default(), to: replicas.world.now };
    let services = replicas.world.graph.view(window, replicas.world.now);
    let ids = |view: &View| view.edges.iter().map(|edge| edge.id).collect::<Vec<_>>();
    assert_eq!(ids(&services.clone().by_names_alone(|_| true)), ids(&services));
}
