//! What comes late lies in the steps in which it happened.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;

use super::world::*;
use crate::*;

const A: &str = "10.0.0.1";
const B: &str = "10.0.0.2";
const AWAY: &str = "192.0.2.1";
const STEP: u64 = 10;

/// Adds increments that were told so many seconds late.
fn late(world: &mut World, half: HalfIx, age: u64, values: &[(Counter, u64)], samples: u64) {
    let now = world.now;
    let moment = world.graph.moment(NodeIx(0), Duration::from_secs(age), now);
    let batch = world.graph.begin_late(moment, now);
    let mut batch = batch;
    if let Some(batch) = &mut batch {
        batch.note(&world.graph, half);
    }
    world.add(half, values);
    world.graph.add_bucket(half, HistogramKind::Rtt, 7, samples);
    if let Some(batch) = batch {
        world.graph.end_late(batch, now);
    }
}

/// Bytes to the server and samples of each step that has any, by seconds since a moment.
fn by_step(world: &mut World, from: Timestamp) -> BTreeMap<u64, (u64, u64)> {
    let mut steps = BTreeMap::new();
    let mut begin = from.floor(Duration::from_secs(STEP));
    while begin < world.now {
        let end = begin.plus(Duration::from_secs(STEP));
        let view = world.graph.view(Window { from: begin, to: end }, world.now);
        let mut sums = (0, 0);
        for edge in view.edges.iter().filter(|edge| !edge.pending) {
            sums.0 += edge.totals.get(Measure::BytesToServer);
            sums.1 += edge.totals.histogram(HistogramKind::Rtt).count();
        }
        if sums != (0, 0) {
            steps.insert(begin.since(from.floor(Duration::from_secs(STEP))).as_secs(), sums);
        }
        begin = end;
    }
    steps
}

/// A settled link of `web` with a peer that nobody covers, at the begin of a step.
fn alone(world: &mut World) -> HalfIx {
    let a = world.node("a", A);
    let half = world.client(a, "web", global(A), global(AWAY), 443);
    world.add(half, &[(Counter::Connections, 1)]);
    world.pass(17);
    half
}

#[test]
fn what_one_side_tells_late_lies_where_it_happened() {
    let mut world = World::new();
    let half = alone(&mut world);
    let begin = world.now;
    world.pass(95);
    for (age, bytes) in [(90, 1), (73, 20), (72, 300), (15, 4_000)] {
        late(&mut world, half, age, &[(Counter::BytesSent, bytes)], bytes);
    }
    // In time, and as good as in time.
    late(&mut world, half, 0, &[(Counter::BytesSent, 50_000)], 0);
    world.pass(6);
    late(&mut world, half, 1, &[(Counter::BytesSent, 600_000)], 0);
    world.pass(1);
    let expected = [
        (0, (1, 1)),
        (20, (320, 320)),
        (80, (4_000, 4_000)),
        (90, (50_000, 0)),
        (100, (600_000, 0)),
    ];
    assert_eq!(by_step(&mut world, begin), expected.into());
    assert_eq!(world.edges()[0].4, 654_321);
    assert_eq!(published(&world)[0].4, 654_321);
}

#[test]
fn nothing_lies_before_the_beginning_or_in_the_future() {
    let mut world = World::new();
    let begin = world.now;
    let half = alone(&mut world);
    late(&mut world, half, 1_000_000, &[(Counter::BytesSent, 5)], 0);
    assert_eq!(world.graph.moment(NodeIx(0), Duration::MAX, world.now), begin);
    world.pass(1);
    assert_eq!(by_step(&mut world, begin), [(0, (5, 0))].into());
    assert_eq!(world.edges()[0].4, 5);
}

#[test]
fn a_node_tells_of_no_time_before_what_it_told() {
    let mut world = World::new();
    let _ = alone(&mut world);
    let told = world.now;
    world.graph.node_told(NodeIx(0), told, Stretch::Next, world.now);
    world.pass(40);
    assert_eq!(world.graph.moment(NodeIx(0), Duration::from_secs(60), world.now), told);
}

#[test]
fn what_is_new_is_placed_once_it_settles() {
    let mut world = World::new();
    let _ = alone(&mut world);
    let begin = world.now;
    world.pass(65);
    let half = world.client(NodeIx(0), "web", global(A), global(B), 80);
    for age in [60, 50, 40] {
        late(&mut world, half, age, &[(Counter::BytesSent, age)], 1);
    }
    world.add(half, &[(Counter::BytesSent, 7)]);
    world.pass(3);
    assert!(world.edges().contains(&row("web", "external 10.0.0.2", 80, 0, 157, 0)));
    world.pass(12);
    let expected = [(0, (60, 1)), (10, (50, 1)), (20, (40, 1)), (70, (7, 0))];
    assert_eq!(by_step(&mut world, begin), expected.into());
}

#[test]
fn what_the_other_side_told_in_time_stays_where_it_is() {
    let mut world = World::new();
    let (a, b) = (world.node("a", A), world.node("b", B));
    let client = world.client(a, "web", global(A), global(B), 80);
    let server = world.server(b, "db", global(B), global(A), 80);
    world.exchange(client, 0, 0);
    world.exchange(server, 0, 0);
    world.pass(17);
    let begin = world.now;
    world.pass(1);
    world.add(client, &[(Counter::BytesSent, 1_000)]);
    world.pass(40);
    let before = by_step(&mut world, begin);
    // Samples of both sides add up, bytes are the same ones.
    world.add(client, &[(Counter::BytesSent, 5)]);
    world.pass(1);
    late(&mut world, server, 38, &[(Counter::BytesReceived, 900)], 3);
    late(&mut world, server, 28, &[(Counter::BytesReceived, 100)], 2);
    late(&mut world, server, 0, &[(Counter::BytesReceived, 5)], 0);
    world.pass(10);
    let mut expected = before;
    expected.entry(0).or_default().1 += 3;
    expected.entry(10).or_default().1 += 2;
    expected.entry(40).or_default().0 += 5;
    assert_eq!(by_step(&mut world, begin), expected);
}

proptest! {
    #[test]
    fn two_sides_that_are_late_place_what_happened(
        gains in proptest::collection::vec((1..12_u64, 0..4_u64), 1..12),
        (first, pause, reordered) in (any::<bool>(), 0..40_u64, any::<bool>()),
    ) {
        let mut world = World::new();
        let (a, b) = (world.node("a", A), world.node("b", B));
        let client = world.client(a, "web", global(A), global(B), 80);
        let server = world.server(b, "db", global(B), global(A), 80);
        world.exchange(client, 0, 0);
        world.exchange(server, 0, 0);
        world.pass(17);
        let begin = world.now;
        let long = STEP * gains.len() as u64;
        world.pass(long + 5);
        let tell = |world: &mut World, n: u64, is_client: bool, passed: u64| {
            let (bytes, samples) = gains[n as usize];
            let age = long + 5 + passed - STEP * n - 5;
            let (half, counter) = match is_client {
                true => (client, Counter::BytesSent),
                false => (server, Counter::BytesReceived),
            };
            late(world, half, age, &[(counter, bytes)], samples);
        };
        let count = gains.len() as u64;
        if reordered {
            for n in 0..count {
                tell(&mut world, n, first, 0);
                tell(&mut world, n, !first, 0);
            }
        } else {
            (0..count).for_each(|n| tell(&mut world, n, first, 0));
            world.pass(pause);
            (0..count).for_each(|n| tell(&mut world, n, !first, pause));
        }
        world.pass(1);
        let expected: BTreeMap<u64, (u64, u64)> =
            (0..).zip(&gains).map(|(n, (b, s))| (STEP * n, (*b, 2 * s))).collect();
        prop_assert_eq!(by_step(&mut world, begin), expected);
    }

    #[test]
    fn steps_add_up_to_what_is_published(
        told in proptest::collection::vec(
            (0..4_usize, 0..200_u64, 0..50_u64, 0..4_u64, 0..8_u64), 1..60,
        ),
    ) {
        // Two clients and two servers at one link, each told late or in time, in any order.
        let mut world = World::new();
        let (a, b) = (world.node("a", A), world.node("b", B));
        let halves = [
            world.client(a, "web", global(A), global(B), 80),
            world.server(b, "db", global(B), global(A), 80),
            world.client(a, "job", global(A), global(B), 80),
            world.server(b, "replica", global(B), global(A), 80),
        ];
        world.pass(17);
        let begin = world.now;
        world.pass(200);
        for (half, age, bytes, samples, pause) in told {
            let counter = [Counter::BytesSent, Counter::BytesReceived][half % 2];
            late(&mut world, halves[half], age, &[(counter, bytes)], samples);
            world.pass(pause);
        }
        world.pass(40);
        let steps = by_step(&mut world, begin);
        let sum = steps.values().fold((0, 0), |sum, step| (sum.0 + step.0, sum.1 + step.1));
        let series = world.series();
        let bytes: u64 = series.values().map(|totals| totals.get(Measure::BytesToServer)).sum();
        let samples: u64 =
            series.values().map(|totals| totals.histogram(HistogramKind::Rtt).count()).sum();
        prop_assert_eq!(sum, (bytes, samples));
        // Nothing waits for ever.
        prop_assert!(world.graph.links.iter().all(|link| link.late.is_none()));
    }
}

#[test]
fn a_window_is_complete_once_its_silence_was_told() {
    let mut world = World::new();
    let _ = alone(&mut world);
    let first = world.now;
    world.graph.node_told(NodeIx(0), first, Stretch::Next, first);
    let connection = world.connect("a", incarnation(1, 1, 1)).unwrap();
    world.graph.node_disconnected(connection, world.now);
    world.pass(50);
    let silent = |world: &mut World| {
        let window = Window { from: first, to: first.plus(Duration::from_secs(30)) };
        let coverage = world.graph.view(window, world.now).coverage;
        assert_eq!(coverage.holes_left_out, 0);
        let holes = coverage.holes.iter().map(|hole| (hole.from, hole.reason)).collect::<Vec<_>>();
        (coverage.complete, holes)
    };
    assert_eq!(silent(&mut world), (false, vec![(first, HoleReason::Silent)]));
    world.connect("a", incarnation(1, 1, 1)).unwrap();
    // It is connected, and has not told yet.
    assert_eq!(silent(&mut world), (false, vec![(first, HoleReason::Silent)]));
    let (moment, now) = (first.plus(Duration::from_secs(20)), world.now);
    world.graph.node_told(NodeIx(0), moment, Stretch::Next, now);
    assert_eq!(silent(&mut world), (false, vec![(moment, HoleReason::Silent)]));
    world.graph.node_told(NodeIx(0), now, Stretch::Next, now);
    assert_eq!(silent(&mut world), (true, vec![]));
    // What was folded is right in a window that has all of it.
    world.pass(30);
    let later = world.now;
    world.graph.node_told(NodeIx(0), later, Stretch::Folded, later);
    let mut complete = |from, to| {
        let view = world.graph.view(Window { from, to }, world.now);
        assert_eq!(view.coverage.holes.len(), 1);
        view.coverage.complete
    };
    assert!(complete(first, later));
    assert!(!complete(first, later.minus(Duration::from_secs(20))));
}
