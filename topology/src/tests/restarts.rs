//! A graph that was stored goes on as if nothing had happened.

use std::time::Duration;

use proptest::prelude::*;

use super::{
    properties::{Event, Random, event},
    world::*,
};
use crate::*;

fn stored(graph: &Graph) -> Vec<u8> {
    postcard::to_stdvec(&graph.snapshot()).unwrap()
}

/// What a restart leaves of a graph.
fn resumed(graph: &Graph, now: Timestamp) -> Graph {
    let mut graph = Graph::resume(Config::default(), postcard::from_bytes(&stored(graph)).unwrap());
    graph.restarted(now);
    graph
}

/// What both have to show alike from some moment on.
fn shown(world: &mut World, from: Timestamp) -> (View, Stats, Vec<(String, u64, Timestamp)>) {
    let mut view = world.graph.view(Window { from, to: world.now }, world.now);
    // The steps before are gone.
    view.coverage.history_from = Timestamp::default();
    let nodes = world.graph.nodes();
    let nodes =
        nodes.map(|node| (node.name().to_owned(), node.losses().count() as u64, node.last_seen()));
    let nodes = nodes.collect();
    (view, world.graph.stats(), nodes)
}

fn open(world: &World) -> Vec<(String, String, u64)> {
    let series = world.graph.published();
    let row = |s: &Series| (s.client().to_owned(), s.server().to_owned(), s.connections_open());
    let mut rows: Vec<_> = series.map(row).collect();
    rows.sort();
    rows
}

proptest! {
    #[test]
    fn a_restart_changes_nothing(
        before in proptest::collection::vec(event(), 1..60),
        after in proptest::collection::vec(event(), 1..60),
    ) {
        let mut original = Random::new();
        before.iter().for_each(|event| original.happen(event));
        let now = original.world.now;
        let graph = resumed(&original.world.graph, now);
        prop_assert!(graph.nodes().all(|node| !node.connected()));
        let mut copy = Random {
            world: World { graph, now },
            connections: original.connections,
            halves: original.halves.clone(),
        };
        prop_assert_eq!(original.world.series(), copy.world.series());
        prop_assert_eq!(open(&original.world), open(&copy.world));
        for first in [true, false] {
            original.happen(&Event::Reconnect(first, 1));
            copy.happen(&Event::Reconnect(first, 1));
        }
        for event in &after {
            original.happen(event);
            copy.happen(event);
            original.world.graph.tick(original.world.now);
            copy.world.graph.tick(copy.world.now);
            prop_assert_eq!(original.world.series(), copy.world.series());
            prop_assert_eq!(open(&original.world), open(&copy.world));
        }
        original.world.pass(45);
        copy.world.pass(45);
        let from = now.ceil(Duration::from_secs(10));
        prop_assert_eq!(shown(&mut original.world, from), shown(&mut copy.world, from));
    }

    #[test]
    fn broken_bytes_are_refused_or_read_but_never_panic(
        events in proptest::collection::vec(event(), 1..20),
        at: prop::sample::Index,
        flip in 1_u8..,
        length: prop::sample::Index,
    ) {
        let mut random = Random::new();
        events.iter().for_each(|event| random.happen(event));
        let mut bytes = stored(&random.world.graph);
        let length = length.index(bytes.len());
        prop_assert!(postcard::from_bytes::<Snapshot>(&bytes[..length]).is_err());
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        let _ = postcard::from_bytes::<Snapshot>(&bytes);
    }
}

/// A small graph with something of nearly everything.
fn sample() -> World {
    let mut world = World::new();
    let a = world.node("a", "10.0.0.1");
    world.listen(a, "web", "10.0.0.1", 80);
    let half = world.client(a, "web", global("10.0.0.1"), global("10.0.0.2"), 80);
    world.exchange(half, 100, 200);
    world.graph.add_bucket(half, HistogramKind::Rtt, 7, 3);
    world.graph.set_signal(a, model::HostSignal::RunqueueLatency, [(3, 4)]);
    world.graph.set_loss(a, "halves_full", 5);
    world.pass(12);
    world
}

#[test]
fn the_layout_is_that_of_its_version() {
    let mut bytes = stored(&sample().graph);
    // Maps come in any order.
    bytes.sort_unstable();
    let sum =
        bytes.iter().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
    // When this fails, stored types have changed: raise the version, then note the new sum.
    assert_eq!((SNAPSHOT_VERSION, bytes.len(), sum), (15, 718, 8_931_658_615_928_654_526));
}

#[test]
fn a_clock_that_was_ahead_holds_nothing_up() {
    let mut world = World::new();
    let a = world.node("a", "10.0.0.1");
    let half = world.client(a, "web", global("10.0.0.1"), global("10.0.0.2"), 80);
    world.exchange(half, 100, 200);
    world.pass(1);
    let now = world.now.minus(Duration::from_secs(86_400));
    let graph = resumed(&world.graph, now);
    let mut world = World { graph, now };
    world.connect("a", incarnation(1, 1, 1)).unwrap();
    world.pass(15);
    assert_eq!(world.series().len(), 1);
}

#[test]
fn after_a_long_absence_of_the_aggregator_nothing_is_counted_again() {
    let mut world = World::new();
    let a = world.node("a", "10.0.0.1");
    let ends = (global("10.0.0.1"), global("10.0.0.2"));
    let half = world.client(a, "web", ends.0, ends.1, 80);
    world.exchange(half, 100, 200);
    world.pass(15);
    let published = world.series();
    let now = world.now.plus(Duration::from_secs(3 * 86_400));
    let mut world = World { graph: resumed(&world.graph, now), now };
    // The agent takes a while to notice that somebody is there again.
    world.pass(30);
    world.connect("a", incarnation(1, 1, 1)).unwrap();
    let half = world.client(a, "web", ends.0, ends.1, 80);
    for (counter, total) in
        [(Counter::Connections, 1), (Counter::BytesSent, 100), (Counter::BytesReceived, 200)]
    {
        world.graph.set_total(half, counter, total);
    }
    world.pass(30);
    assert_eq!(world.series(), published);
}
