//! Streams, sessions, generations, boots: the same thing is never counted twice.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use proptest::prelude::*;

use super::world::*;
use crate::{
    model::{HalfKey, HostSignal, Program, ProgramState, Role},
    *,
};

const A: &str = "10.0.0.1";
const PEER: &str = "192.0.2.1";

fn open(world: &mut World, node: NodeIx) -> HalfIx {
    world.client(node, "web", global(A), global(PEER), 443)
}

fn bytes(world: &mut World) -> u64 {
    world.edge().totals.get(Measure::BytesToServer)
}

#[test]
fn totals_count_only_what_is_new() {
    let mut world = World::new();
    let a = world.node("a", A);
    let half = open(&mut world, a);
    world.add(half, &[(Counter::BytesSent, 100)]);
    world.graph.add_bucket(half, HistogramKind::Rtt, 50, 3);
    for total in [100, 90, 130, 130] {
        world.graph.set_total(half, Counter::BytesSent, total);
        world.graph.set_bucket_total(half, HistogramKind::Rtt, 50, total / 30);
    }
    world.pass(11);
    assert_eq!(bytes(&mut world), 130);
    assert_eq!(world.edge().totals.histogram(HistogramKind::Rtt).count(), 4);
}

#[test]
fn a_reconnect_goes_on_and_repeats_nothing() {
    let mut world = World::new();
    let first = world.connect("a", incarnation(1, 1, 1)).unwrap();
    let half = open(&mut world, first.node);
    world.add(half, &[(Counter::BytesSent, 100)]);
    world.pass(11);
    world.graph.node_disconnected(first, world.now);
    world.pass(5);
    let second = world.connect("a", incarnation(1, 1, 1)).unwrap();
    let again = open(&mut world, second.node);
    assert_eq!(again, half);
    world.graph.set_total(again, Counter::BytesSent, 120);
    world.add(again, &[(Counter::BytesSent, 5)]);
    world.pass(2);
    assert_eq!(bytes(&mut world), 125);
}

#[test]
fn a_new_generation_starts_from_zero_on_top() {
    let mut world = World::new();
    let first = world.connect("a", incarnation(1, 1, 1)).unwrap();
    let half = open(&mut world, first.node);
    world.add(half, &[(Counter::BytesSent, 100), (Counter::Connections, 1)]);
    world.pass(11);
    world.graph.node_disconnected(first, world.now);
    let second = world.connect("a", incarnation(1, 2, 2)).unwrap();
    world.pass(1);
    assert_eq!(world.edge().connections_open, 0, "its connections ended with the generation");
    let again = open(&mut world, second.node);
    world.graph.set_total(again, Counter::BytesSent, 30);
    world.pass(11);
    assert_eq!(bytes(&mut world), 130);
    // And if the first one should come back, what it counted is still known.
    world.graph.node_disconnected(second, world.now);
    let third = world.connect("a", incarnation(1, 1, 3)).unwrap();
    let half = open(&mut world, third.node);
    world.graph.set_total(half, Counter::BytesSent, 101);
    world.pass(11);
    assert_eq!(bytes(&mut world), 131);
}

#[test]
fn the_numbers_of_an_older_life_stay_when_it_is_forgotten() {
    let mut world = World::new();
    let first = world.connect("a", incarnation(1, 1, 1)).unwrap();
    let half = open(&mut world, first.node);
    world.add(half, &[(Counter::BytesSent, 100)]);
    world.pass(11);
    world.graph.node_disconnected(first, world.now);
    let second = world.connect("a", incarnation(2, 1, 1)).unwrap();
    let again = open(&mut world, second.node);
    world.pass(700);
    assert_eq!(world.graph.stats().halves, 1);
    world.graph.set_total(again, Counter::BytesSent, 30);
    world.pass(2);
    assert_eq!(bytes(&mut world), 130);
    world.add(half, &[(Counter::BytesSent, 1)]);
    assert_eq!(world.graph.stats().stale_records, 1);
}

#[test]
fn a_retired_half_that_opens_again_starts_from_zero_on_top() {
    let mut world = World::new();
    let a = world.node("a", A);
    let half = open(&mut world, a);
    world.add(half, &[(Counter::BytesSent, 100)]);
    world.pass(11);
    world.graph.retire_half(half, world.now);
    world.pass(1);
    let again = open(&mut world, a);
    world.graph.set_total(again, Counter::BytesSent, 40);
    world.pass(1);
    assert_eq!(bytes(&mut world), 140);
    world.pass(90);
    assert_eq!(world.graph.stats().halves, 1, "it came back before it was forgotten");
}

#[test]
fn halves_that_a_new_stream_leaves_out_end() {
    let mut world = World::new();
    let first = world.connect("a", incarnation(1, 1, 1)).unwrap();
    let half = open(&mut world, first.node);
    world.add(half, &[(Counter::Connections, 1)]);
    world.pass(11);
    world.graph.node_disconnected(first, world.now);
    world.pass(1000);
    assert_eq!(world.edge().connections_open, 1, "an absent agent has taken nothing back");
    world.connect("a", incarnation(1, 1, 1)).unwrap();
    world.pass(75);
    assert!(world.view().edges.iter().all(|edge| edge.connections_open == 0));
}

#[test]
fn two_agents_with_one_name_are_an_error_that_names_both() {
    let mut world = World::new();
    let first = world.connect("a", incarnation(1, 1, 1)).unwrap();
    let error = world.connect("a", incarnation(1, 1, 2)).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("\"a\"") && text.contains("10.9.9.9:1") && text.contains("10.9.9.9:2"));
    assert!(!text.contains('\n'));
    assert!(world.graph.is_current(first));
    world.graph.node_disconnected(first, world.now);
    let second = world.connect("a", incarnation(1, 1, 2)).unwrap();
    assert!(world.graph.is_current(second));
}

#[test]
fn the_same_agent_may_replace_its_own_stream() {
    let mut world = World::new();
    let first = world.connect("a", incarnation(1, 1, 1)).unwrap();
    let second = world.connect("a", incarnation(1, 1, 1)).unwrap();
    assert!(!world.graph.is_current(first));
    world.graph.node_disconnected(first, world.now);
    assert!(world.graph.is_current(second), "the end of the old stream is not the new one's");
    assert!(world.graph.nodes().next().unwrap().connected());
}

#[test]
fn a_silent_node_is_expected_for_a_day() {
    let config = Config { expected_nodes: vec!["z".to_owned()], ..Config::default() };
    let mut world = World::with(config);
    let a = world.connect("a", incarnation(1, 1, 1)).unwrap();
    world.connect("b", incarnation(1, 1, 1)).unwrap();
    world.pass(1);
    let coverage = world.view().coverage;
    assert_eq!((coverage.nodes_expected, coverage.nodes_reporting), (3, 2));
    assert_eq!((coverage.nodes_silent, coverage.complete), (vec!["z".to_owned()], false));
    world.graph.node_disconnected(a, world.now);
    assert_eq!(world.view().coverage.nodes_silent, ["a", "z"]);
    world.now = world.now.plus(Duration::from_secs(24 * 3600 + 1));
    world.graph.tick(world.now);
    assert_eq!(world.view().coverage.nodes_silent, ["z"]);
}

#[test]
fn losses_count_once_over_generations_and_show_in_their_window() {
    let mut world = World::new();
    let first = world.connect("a", incarnation(1, 1, 1)).unwrap();
    world.graph.set_loss(first.node, "halves_full", 5);
    world.graph.set_loss(first.node, "halves_full", 5);
    world.graph.set_loss(first.node, "batches_dropped", 1);
    // Counted all the same, for the host or in a later step.
    world.graph.set_loss(first.node, "owner_unknown", 9);
    world.graph.set_loss(first.node, "resolution_folded", 4);
    let coverage = world.view().coverage;
    let lost = (coverage.inserts_refused, coverage.batches_lost, coverage.events_lost);
    assert_eq!(lost, (5, 1, 0));
    assert!(!coverage.complete);
    world.graph.node_disconnected(first, world.now);
    let second = world.connect("a", incarnation(1, 2, 2)).unwrap();
    world.graph.set_loss(second.node, "halves_full", 2);
    let node = world.graph.node(second.node).unwrap();
    assert!(node.losses().any(|loss| loss == ("halves_full", 7)));
    world.pass(60);
    let window = Window { from: world.now.minus(Duration::from_secs(20)), to: world.now };
    let coverage = world.graph.view(window, world.now).coverage;
    assert_eq!(coverage.inserts_refused, 0);
    assert!(coverage.complete);
}

#[test]
fn a_failed_program_makes_an_answer_incomplete() {
    let mut world = World::new();
    let a = world.node("a", A);
    let (name, reason) = ("sock_ops".to_owned(), "not permitted".to_owned());
    let state = ProgramState::Failed;
    world.graph.set_status(a, vec![Program { name, state, reason }], None);
    assert!(!world.view().coverage.complete);
}

#[test]
fn host_signals_add_up_over_nodes_and_generations() {
    let mut world = World::new();
    let signal = HostSignal::RunqueueLatency;
    let first = world.connect("a", incarnation(1, 1, 1)).unwrap();
    let other = world.connect("b", incarnation(1, 1, 1)).unwrap();
    world.graph.set_signal(first.node, signal, [(40, 10), (50, 1)]);
    world.graph.set_signal(first.node, signal, [(40, 10), (50, 1)]);
    world.graph.set_signal(other.node, signal, [(40, 5)]);
    world.graph.node_disconnected(first, world.now);
    let second = world.connect("a", incarnation(1, 2, 2)).unwrap();
    world.graph.set_signal(second.node, signal, [(40, 3)]);
    let merged: Vec<_> = world.graph.signal(signal).iter().collect();
    assert_eq!(merged, [(40, 18), (50, 1)]);
    assert_eq!(world.graph.signal_of(second.node, signal).unwrap().count(), 14);
}

#[test]
fn another_nodes_workload_is_refused() {
    let mut world = World::new();
    let (a, b) = (world.node("a", A), world.node("b", "10.0.0.2"));
    let workload = world.process(b, "web");
    let (local, peer, role) = (global(A), global(PEER), Role::Client);
    let key = HalfKey { workload, local, peer, server_port: 1, client_port: 0, role };
    assert_eq!(world.graph.open_half(a, key, 0, world.now), Err(DefineError::UnknownWorkload));
}

#[test]
fn services_that_nothing_refers_to_are_forgotten() {
    let mut world = World::new();
    let a = world.node("a", A);
    let kept = world.process(a, "kept");
    for name in 0..100 {
        world.process(a, &format!("job{name}"));
    }
    world.graph.forget_workloads(&HashSet::from([kept]));
    world.pass(20);
    assert_eq!(world.graph.stats().services, 2);
}

/// What an agent does with a half, and which of two aggregators hears of it.
#[derive(Clone, Copy, Debug)]
enum Step {
    Gain(u64),
    /// The half is retired, and comes again.
    Again,
    /// The other aggregator is in charge.
    FailOver,
    /// The stream to the one in charge begins anew.
    Reconnect,
}

proptest! {
    #[test]
    fn whoever_heard_of_its_end_a_half_that_comes_again_counts_what_was_told(
        steps in proptest::collection::vec(
            prop_oneof![
                4 => (1..9_u64).prop_map(Step::Gain),
                2 => Just(Step::Again),
                2 => Just(Step::FailOver),
                1 => Just(Step::Reconnect),
            ],
            1..40,
        ),
    ) {
        let mut worlds = [World::new(), World::new()];
        let (mut charge, mut birth, mut total) = (0, 1, 0);
        // By aggregator and birth: the last total it was told.
        let mut told: [BTreeMap<u64, u64>; 2] = Default::default();
        let mut halves = [None; 2];
        for step in [Step::Reconnect].into_iter().chain(steps) {
            match step {
                Step::Gain(more) => {
                    total += more;
                    let half = halves[charge].unwrap();
                    worlds[charge].add(half, &[(Counter::BytesSent, more)]);
                    told[charge].insert(birth, total);
                }
                Step::Again => {
                    let world = &mut worlds[charge];
                    world.graph.retire_half(halves[charge].unwrap(), world.now);
                    (birth, total) = (birth + 1, 0);
                    halves[charge] = Some(born(world, birth));
                }
                Step::FailOver | Step::Reconnect => {
                    charge = if matches!(step, Step::FailOver) { 1 - charge } else { charge };
                    let world = &mut worlds[charge];
                    world.node("a", A);
                    let half = born(world, birth);
                    world.graph.set_total(half, Counter::BytesSent, total);
                    told[charge].insert(birth, total);
                    halves[charge] = Some(half);
                }
            }
            worlds.iter_mut().for_each(|world| world.pass(1));
        }
        for (world, told) in worlds.iter_mut().zip(told) {
            world.pass(15);
            let sum: u64 = told.values().sum();
            let counted: u64 = published(world).iter().map(|row| row.4).sum();
            prop_assert_eq!(counted, sum);
        }
    }
}

/// The one half of node `a`, as its agent numbers it.
fn born(world: &mut World, birth: u64) -> HalfIx {
    let workload = world.process(NodeIx(0), "web");
    let (local, peer) = (global(A), global("192.0.2.1"));
    let key =
        HalfKey { workload, local, peer, server_port: 443, client_port: 0, role: Role::Client };
    world.graph.open_half(NodeIx(0), key, birth, world.now).unwrap()
}
