//! Windows snap outward to steps, and old totals equal what was served live.

use std::time::Duration;

use super::world::*;
use crate::*;

const A: &str = "10.0.0.1";

fn seconds(from: Timestamp, s: u64) -> Timestamp {
    from.plus(Duration::from_secs(s))
}

/// One edge that gains `10 * n` bytes in the n-th step, from 0; returns the begin of step 0.
fn steps(world: &mut World, count: u64) -> Timestamp {
    let a = world.node("a", A);
    let half = world.client(a, "web", global(A), global("192.0.2.1"), 443);
    world.add(half, &[(Counter::Connections, 1)]);
    // The world begins 3 s into a step; the link settles 10 s later.
    world.pass(17);
    let begin = world.now;
    assert_eq!(begin.unix_ns() % 10_000_000_000, 0);
    for step in 0..count {
        world.pass(1);
        world.add(half, &[(Counter::BytesSent, 10 * step)]);
        world.pass(9);
    }
    begin
}

fn bytes(world: &mut World, from: Timestamp, to: Timestamp) -> (Window, u64) {
    let view = world.graph.view(Window { from, to }, world.now);
    let bytes = view.edges.iter().map(|edge| edge.totals.get(Measure::BytesToServer)).sum();
    (view.window, bytes)
}

#[test]
fn a_window_has_the_steps_it_touches() {
    let mut world = World::new();
    let begin = steps(&mut world, 6);
    let (window, sum) = bytes(&mut world, seconds(begin, 15), seconds(begin, 31));
    assert_eq!(window, Window { from: seconds(begin, 10), to: seconds(begin, 40) });
    assert_eq!(sum, 10 + 20 + 30);
    let (window, sum) = bytes(&mut world, seconds(begin, 20), seconds(begin, 30));
    assert_eq!(window, Window { from: seconds(begin, 20), to: seconds(begin, 30) });
    assert_eq!(sum, 20);
}

#[test]
fn a_window_up_to_now_has_the_running_step() {
    let mut world = World::new();
    let begin = steps(&mut world, 3);
    let half = world.client(NodeIx(0), "web", global(A), global("192.0.2.1"), 443);
    world.pass(2);
    world.add(half, &[(Counter::BytesSent, 7)]);
    let (from, to) = (seconds(begin, 20), seconds(begin, 99));
    let (window, sum) = bytes(&mut world, from, to);
    assert_eq!(window, Window { from, to: world.now });
    assert_eq!(sum, 20 + 7);
}

#[test]
fn nothing_is_told_from_before_the_history() {
    let config = Config { steps_kept: 3, ..Config::default() };
    let mut world = World::with(config);
    let begin = steps(&mut world, 9);
    let now = world.now;
    let view = world.graph.view(Window { from: begin, to: now }, now);
    assert_eq!(view.coverage.history_from, seconds(begin, 60));
    assert_eq!(view.window.from, seconds(begin, 60));
    assert!(view.coverage.complete);
    let (window, sum) = bytes(&mut world, begin, seconds(begin, 20));
    assert_eq!((window.to, sum), (seconds(begin, 20), 0));
    let window = Window { from: begin, to: seconds(begin, 20) };
    assert!(!world.graph.view(window, now).coverage.complete);
}

#[test]
fn the_first_window_begins_with_the_graph() {
    let mut world = World::new();
    let begin = world.now;
    world.node("a", A);
    world.pass(2);
    let asked = Window { from: begin.minus(Duration::from_secs(300)), to: world.now };
    let view = world.graph.view(asked, world.now);
    assert_eq!(view.window, Window { from: begin, to: world.now });
    assert!(view.coverage.complete);
}

#[test]
fn open_connections_are_those_at_the_end_of_the_window() {
    let mut world = World::new();
    let begin = steps(&mut world, 2);
    let half = world.client(NodeIx(0), "web", global(A), global("192.0.2.1"), 443);
    world.add(half, &[(Counter::Connections, 4)]);
    world.pass(10);
    world.add(half, &[(Counter::Closed, 5)]);
    world.pass(10);
    let mut open = |to| {
        let window = Window { from: begin, to: seconds(begin, to) };
        world.graph.view(window, world.now).edges[0].connections_open
    };
    assert_eq!([open(10), open(20), open(30), open(40)], [1, 1, 5, 0]);
}

#[test]
fn an_empty_graph_has_an_answer() {
    let mut world = World::new();
    let view = world.view();
    assert_eq!((view.edges.len(), view.nodes.len()), (0, 0));
    assert_eq!(view.window.to, world.now);
}

#[test]
fn a_clock_that_steps_back_breaks_nothing() {
    let mut world = World::new();
    steps(&mut world, 2);
    let before = world.series();
    world.now = world.now.minus(Duration::from_secs(3600));
    world.pass(30);
    assert_eq!(world.series(), before);
}

#[test]
fn windows_that_make_no_sense_are_empty() {
    let mut world = World::new();
    let begin = steps(&mut world, 4);
    for (from, to) in [(seconds(begin, 30), seconds(begin, 10)), (seconds(begin, 999), begin)] {
        let (window, sum) = bytes(&mut world, from, to);
        assert!(window.from <= window.to);
        assert_eq!(sum, 0);
    }
    let last = Timestamp::from_unix_ns(u64::MAX);
    let (window, _) = bytes(&mut world, Timestamp::default(), last);
    assert_eq!(window.to, world.now);
}

#[test]
fn a_window_of_nothing_has_nothing() {
    let mut world = World::new();
    // The first step begins with the graph, and that at any moment.
    world.pass(3);
    let begin = world.now;
    world.graph = Graph::new(Config::default());
    let a = world.node("a", "10.0.0.1");
    let b = world.node("b", "10.0.0.2");
    let ends = (global("10.0.0.1"), global("10.0.0.2"));
    let client = world.client(a, "web", ends.0, ends.1, 80);
    let server = world.server(b, "db", ends.1, ends.0, 80);
    world.exchange(client, 100, 200);
    world.exchange(server, 200, 100);
    world.pass(40);
    let view = world.graph.view(Window { from: begin, to: begin }, world.now);
    assert_eq!((view.edges.len(), view.window.from), (0, view.window.to));
    assert_eq!(world.view().edges.len(), 1);
}
