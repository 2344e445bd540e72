//! What there is no room for: it counts for `other`, exactly, and costs nobody else anything.

use std::collections::HashSet;

use proptest::prelude::*;

use super::world::*;
use crate::{
    model::{HalfKey, Role, WorkloadKind},
    *,
};

const A: &str = "10.0.0.1";
const B: &str = "10.0.0.2";

/// Room for so little that one node may hold 17 halves: its part of 1, and 16.
fn tight() -> World {
    World::with(Config { max_halves: 32, ..Config::default() })
}

fn peer(number: u32) -> model::Address {
    global(&format!("192.0.{}.{}", number / 250, number % 250 + 1))
}

fn key(world: &mut World, node: NodeIx, number: u32) -> HalfKey<WorkloadIx> {
    let (workload, role) = (world.process(node, "scan"), Role::Client);
    let (local, peer) = (global(A), peer(number));
    HalfKey { workload, local, peer, server_port: 443, client_port: 0, role }
}

fn open(world: &mut World, node: NodeIx, number: u32) -> HalfIx {
    let key = key(world, node, number);
    world.graph.open_half(node, key, 0, world.now).unwrap()
}

/// Connections and bytes to servers of all edges, and of those of `other`.
fn sums(world: &mut World) -> ((u64, u64), (u64, u64)) {
    let (mut all, mut other) = ((0, 0), (0, 0));
    for (client, server, _, connections, bytes, _) in world.edges() {
        all = (all.0 + connections, all.1 + bytes);
        if client == "other other" || server == "other other" {
            other = (other.0 + connections, other.1 + bytes);
        }
    }
    (all, other)
}

#[test]
fn halves_without_room_count_for_other() {
    let mut world = tight();
    let a = world.node("a", A);
    for number in 0..100 {
        let half = open(&mut world, a, number);
        world.exchange(half, 10, 1);
    }
    world.pass(12);
    assert_eq!(sums(&mut world), ((100, 1000), (83, 830)));
    assert!(world.edges().contains(&row("scan", "other other", 0, 83, 830, 83)));
    let (stats, coverage) = (world.graph.stats(), world.view().coverage);
    assert_eq!((stats.halves, stats.halves_folded, coverage.series_folded), (18, 83, 83));
    assert!(!coverage.complete);
    let folded = Folded { halves: 83, ..Folded::default() };
    assert_eq!(world.graph.node(a).unwrap().folded(), folded);
}

#[test]
fn a_node_that_takes_all_it_can_leaves_the_others_theirs() {
    let mut world = tight();
    let (a, b) = (world.node("a", A), world.node("b", B));
    for number in 0..100 {
        open(&mut world, a, number);
    }
    let half = world.client(b, "web", global(B), peer(7), 80);
    assert!(!world.graph.is_folded(half));
    world.exchange(half, 5, 6);
    world.pass(12);
    assert!(world.edges().contains(&row("web", "external 192.0.0.8", 80, 1, 5, 6)));
}

#[test]
fn room_that_is_given_back_is_used_again() {
    let mut world = tight();
    let a = world.node("a", A);
    let first = open(&mut world, a, 0);
    for number in 1..40 {
        open(&mut world, a, number);
    }
    world.graph.retire_half(first, world.now);
    world.pass(80);
    let again = open(&mut world, a, 40);
    assert!(!world.graph.is_folded(again));
}

/// What a stream tells again, of 40 halves with so many connections each, some of which have ended.
fn tell_again(world: &mut World, a: NodeIx, totals: &[u64], ended: &[bool]) {
    tell_again_until(world, a, totals, ended, &[], usize::MAX);
}

/// The same, and first of all what ended unheard of, which has a number of its own. The stream breaks after so many
/// halves. Returns whether those that ended were taken over.
fn tell_again_until(
    world: &mut World,
    a: NodeIx,
    totals: &[u64],
    ended: &[bool],
    ending: &[usize],
    most: usize,
) -> bool {
    let tell = |world: &mut World, number: usize, telling: Telling| {
        let key = key(world, a, number as u32);
        let half = world.graph.open_half_again(a, key, 0, world.now).unwrap();
        let total = totals[number];
        if world.graph.is_folded(half) {
            world.graph.tell_folded(half, telling, Counter::Connections, total);
            world.graph.tell_folded_bucket(half, telling, HistogramKind::Rtt, 7, total);
        } else {
            world.graph.set_total(half, Counter::Connections, total);
            world.graph.set_bucket_total(half, HistogramKind::Rtt, 7, total);
        }
        half
    };
    for number in ending.iter().take(most) {
        tell(world, *number, Telling::Again);
    }
    let Some(most) = most.checked_sub(ending.len() + 1) else { return false };
    let halves: Vec<_> = ending.iter().map(|number| tell(world, *number, Telling::Last)).collect();
    if !ending.is_empty() {
        world.graph.conclude_folded(a);
    }
    for half in halves {
        world.graph.retire_half(half, world.now);
    }
    let live: Vec<_> = (0..40).filter(|number| !ended[*number]).collect();
    for number in live.iter().take(most) {
        tell(world, *number, Telling::Again);
    }
    if most >= live.len() {
        world.graph.conclude_folded(a);
    }
    true
}

/// What 40 halves gain in a round and which of them end, whether nobody hears of it, and after how many halves streams
/// break that tell it again.
type Round = (Vec<u64>, Vec<bool>, bool, Vec<usize>);

fn round() -> impl Strategy<Value = Round> {
    let (gains, ends) = (0_u64..9, any::<bool>());
    (
        proptest::collection::vec(gains, 40),
        proptest::collection::vec(ends, 40),
        any::<bool>(),
        proptest::collection::vec(0_usize..60, 0..3),
    )
}

proptest! {
    /// Whatever is gained, ended and told again: the sum is that of all there was.
    #[test]
    fn folded_halves_stay_exact_when_totals_are_told_again(
        rounds in proptest::collection::vec(round(), 1..6),
    ) {
        let mut world = tight();
        let a = world.node("a", A);
        let halves: Vec<_> = (0..40).map(|number| open(&mut world, a, number)).collect();
        let mut totals = vec![0; 40];
        let mut ended = vec![false; 40];
        for (gains, ends, missed, breaks) in rounds {
            let mut ending = Vec::new();
            for number in 0..40 {
                if ended[number] {
                    continue;
                }
                totals[number] += gains[number];
                let half = halves[number];
                if !missed {
                    world.graph.add(half, Counter::Connections, gains[number]);
                    world.graph.add_bucket(half, HistogramKind::Rtt, 7, gains[number]);
                }
                // A few end, heard of or not.
                if ends[number] && number % 3 == 0 {
                    ended[number] = true;
                    if missed {
                        ending.push(number);
                        continue;
                    }
                    if world.graph.is_folded(half) {
                        let (last, total) = (Telling::Last, totals[number]);
                        world.graph.tell_folded(half, last, Counter::Connections, total);
                        world.graph.tell_folded_bucket(half, last, HistogramKind::Rtt, 7, total);
                    }
                    world.graph.retire_half(half, world.now);
                }
            }
            for most in breaks {
                world.connect("a", incarnation(1, 1, 1)).unwrap();
                if tell_again_until(&mut world, a, &totals, &ended, &ending, most) {
                    ending.clear();
                }
            }
            world.connect("a", incarnation(1, 1, 1)).unwrap();
            tell_again_until(&mut world, a, &totals, &ended, &ending, usize::MAX);
            // And at once again, as when an agent lets go of batches before it could send them.
            tell_again(&mut world, a, &totals, &ended);
            world.pass(3);
        }
        world.pass(12);
        let all = totals.iter().sum::<u64>();
        prop_assert_eq!(sums(&mut world).0.0, all);
        let samples = |edge: &ViewEdge| edge.totals.histogram(HistogramKind::Rtt).count();
        prop_assert_eq!(world.view().edges.iter().map(samples).sum::<u64>(), all);
        prop_assert_eq!(world.graph.node(a).unwrap().losses().count(), 0);
    }
}

#[test]
fn what_ended_unheard_of_is_never_counted_twice_and_said_to_be_unclear() {
    let mut world = tight();
    let a = world.node("a", A);
    let halves: Vec<_> = (0..40).map(|number| open(&mut world, a, number)).collect();
    for half in &halves {
        world.graph.add(*half, Counter::Connections, 10);
    }
    // Folded halves ended, of which the aggregator was not told how much they had counted.
    let ended: Vec<_> = (0..40).map(|number| number > 30).collect();
    tell_again(&mut world, a, &[10; 40], &ended);
    world.pass(12);
    assert_eq!(sums(&mut world).0.0, 400);
    let node = world.graph.node(a).unwrap();
    assert!(node.losses().any(|loss| loss == ("aggregator_folded_unclear", 1)));
}

#[test]
fn folded_halves_survive_a_restart() {
    let mut world = tight();
    let a = world.node("a", A);
    for number in 0..40 {
        let half = open(&mut world, a, number);
        world.add(half, &[(Counter::Connections, 10)]);
    }
    let config = Config { max_halves: 32, ..Config::default() };
    world.graph = Graph::resume(config, world.graph.snapshot());
    let mut totals = [10; 40];
    totals[39] = 17;
    tell_again(&mut world, a, &totals, &[false; 40]);
    world.pass(12);
    assert_eq!(sums(&mut world).0.0, 407);
    assert_eq!(world.graph.stats().halves, 18);
}

#[test]
fn an_agent_may_fold_by_itself() {
    let mut world = World::new();
    let a = world.node("a", A);
    let workload = world.process(a, "scan");
    for role in [Role::Client, Role::Server] {
        let key = HalfKey::folded(workload, role);
        let half = world.graph.open_half(a, key, 0, world.now).unwrap();
        world.graph.set_total(half, Counter::Connections, 5);
        world.graph.set_total(half, Counter::Connections, 8);
    }
    world.pass(12);
    let edges = [row("other other", "scan", 0, 8, 0, 0), row("scan", "other other", 0, 8, 0, 0)];
    assert_eq!(world.edges(), edges);
    assert_eq!(world.view().coverage.edges_one_sided, 0);
}

fn few_series() -> World {
    World::with(Config { max_series: 32, ..Config::default() })
}

#[test]
fn edges_without_room_are_folded_by_the_side_that_is_seen() {
    let mut world = few_series();
    let (a, b) = (world.node("a", A), world.node("b", B));
    for number in 0..100 {
        let half = open(&mut world, a, number);
        world.exchange(half, 10, 1);
    }
    let server = world.server(b, "db", global(B), global("10.9.9.9"), 5432);
    world.exchange(server, 3, 4);
    world.pass(14);
    assert_eq!(sums(&mut world), ((101, 1004), (83, 830)));
    assert!(world.edges().contains(&row("scan", "other other", 0, 83, 830, 83)));
    assert!(world.edges().contains(&row("external 10.9.9.9", "db", 5432, 1, 4, 3)));
    assert_eq!((world.series().len(), world.graph.stats().edges_folded), (19, 83));
    assert_eq!(world.view().coverage.series_folded, 83);
    // They go on where they are.
    let half = open(&mut world, a, 99);
    world.exchange(half, 10, 1);
    world.pass(12);
    assert_eq!(sums(&mut world), ((102, 1014), (84, 840)));
    assert_eq!(world.graph.stats().edges_folded, 83);
}

#[test]
fn series_stay_few_whatever_their_ends_are_called() {
    let mut world = few_series();
    let a = world.node("a", A);
    for number in 0..300_u16 {
        let (client, server) = (format!("c{number}"), format!("s{number}"));
        let ends = (loopback(1), loopback(1));
        let one = world.client(a, &client, ends.0, ends.1, number + 1);
        let other = world.server(a, &server, ends.0, ends.1, number + 1);
        world.exchange(one, 10, 1);
        world.exchange(other, 1, 10);
    }
    world.pass(14);
    assert_eq!(sums(&mut world).0, (300, 3000));
    let stats = world.graph.stats();
    assert!(stats.edges <= 41 && stats.series <= 41, "{stats:?}");
    assert!(stats.services < 60 && stats.workloads_folded > 500, "{stats:?}");
}

#[test]
fn series_that_nobody_has_seen_for_long_make_room() {
    let config = Config {
        max_series: 32,
        edge_idle_expiry: std::time::Duration::from_secs(60),
        steps_kept: 3,
        half_linger: std::time::Duration::from_secs(10),
        ..Config::default()
    };
    let mut world = World::with(config);
    let nodes: Vec<_> =
        (0..5).map(|n| world.node(&format!("n{n}"), &format!("10.0.1.{n}"))).collect();
    for round in 0..20_u16 {
        for (node, at) in nodes.iter().zip(0..) {
            let half =
                world.client(*node, "job", global(&format!("10.0.1.{at}")), peer(at), 1 + round);
            world.exchange(half, 1, 1);
            world.pass(12);
            world.graph.retire_half(half, world.now);
        }
        world.pass(90);
    }
    let stats = world.graph.stats();
    assert!(stats.series <= 24 && stats.series_forgotten > 70, "{stats:?}");
    assert_eq!(stats.edges_folded, 0);
    // One that comes again begins anew; one that is still known goes on.
    for (port, connections) in [(1, 1), (20, 2)] {
        let half = world.client(nodes[4], "job", global("10.0.1.4"), peer(4), port);
        world.exchange(half, 1, 1);
        world.pass(12);
        let series = world.series();
        let key = ("job".to_owned(), "192.0.0.5".to_owned(), port);
        assert_eq!(series[&key].get(Measure::Connections), connections);
    }
}

#[test]
fn a_link_with_ever_new_clients_stays_small() {
    let mut world = World::with(Config {
        steps_kept: 3,
        half_linger: std::time::Duration::from_secs(5),
        ..Config::default()
    });
    let (a, b) = (world.node("a", A), world.node("b", B));
    world.listen(b, "db", B, 5432);
    let server = world.server(b, "db", global(B), global(A), 5432);
    for number in 0..400 {
        let half = world.client(a, &format!("job{number}"), global(A), global(B), 5432);
        world.exchange(half, 10, 1);
        world.exchange(server, 1, 10);
        world.pass(3);
        world.graph.retire_half(half, world.now);
        world.graph.forget_workloads(&HashSet::new());
    }
    world.pass(60);
    let published = world.series();
    let sum = |measure| published.values().map(|totals| totals.get(measure)).sum::<u64>();
    let all = (sum(Measure::Connections), sum(Measure::BytesToServer), sum(Measure::BytesToClient));
    assert_eq!(all, (400, 4000, 400));
    let stats = world.graph.stats();
    assert!(stats.services < 100 && stats.edges < 100, "{stats:?}");
}

#[test]
fn a_workload_without_room_is_other() {
    let mut world = few_series();
    let a = world.node("a", A);
    for number in 0..30 {
        world.process(a, &format!("job{number}"));
    }
    assert_eq!(world.graph.node(a).unwrap().folded().workloads, 13);
    let half = world.client(a, "late", global(A), peer(1), 80);
    world.exchange(half, 10, 1);
    world.pass(12);
    assert_eq!(world.edges(), [row("other other", "external 192.0.0.2", 80, 1, 10, 1)]);
    let kinds: Vec<_> = world.view().nodes.iter().map(|node| node.kind).collect();
    assert!(kinds.contains(&WorkloadKind::Other));
}

#[test]
fn of_too_many_listeners_those_told_first_are_known() {
    let mut world = World::new();
    let a = world.node("a", A);
    let workload = world.process(a, "web");
    let all: Vec<_> = (0..16_400)
        .map(|number| model::Listener {
            workload,
            address: peer(number),
            network_namespace: ROOT,
            port: 80,
        })
        .collect();
    world.graph.set_listeners(a, all.clone());
    let known = &world.graph.node(a).unwrap().listeners;
    assert_eq!(*known, all[..16_384].iter().copied().collect::<HashSet<_>>());
}
