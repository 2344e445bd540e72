//! A view that is added up outside of the graph is what the graph itself tells.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use proptest::prelude::*;

use super::{
    properties::{Event, Random, event},
    world::*,
};
use crate::{count::edges::EdgeKey, model::WorkloadKind, show::coverage::one_sided, *};

/// What is told of an edge: id, totals, who has seen it, open connections, whether all of it is pending.
type Told = (Option<Id>, EdgeTotals, Seen, u64, bool);

/// The view as it is simplest to be made: from the graph, every step of the window added up.
fn plain(graph: &mut Graph, asked: Window, now: Timestamp) -> View {
    let now = graph.see(now);
    graph.tick(now);
    let snapped = graph.history.snap(asked, now);
    let mut by_index: BTreeMap<usize, Told> = BTreeMap::new();
    let lost = graph.history.visit(snapped, &graph.edges, |entry, last| {
        let (id, totals, seen, open, _) = by_index.entry(entry.index).or_default();
        *id = graph.edges.at(entry.index).map(|edge| edge.id);
        totals.merge(&entry.totals);
        seen.merge(entry.seen);
        *open = if last { entry.open } else { *open };
    });
    let mut sums: BTreeMap<EdgeKey, Told> = BTreeMap::new();
    for (index, told) in by_index {
        if let Some(edge) = graph.edges.at(index) {
            sums.insert(edge.key, told);
        }
    }
    let pending = if snapped.running { graph.pending(now) } else { Vec::new() };
    for more in pending {
        let new = || (None, EdgeTotals::default(), Seen::default(), 0, true);
        let (_, totals, seen, open, _) = sums.entry(more.key).or_insert_with(new);
        totals.merge(&more.totals);
        seen.merge(more.seen);
        *open += more.open;
    }
    let mut edges = Vec::new();
    let mut ends = BTreeSet::new();
    for ((client, server, server_port), (id, totals, seen, open, pending)) in sums {
        let known = graph.services.get(client).zip(graph.services.get(server));
        let Some((source, target)) = known.map(|(client, server)| (client.id, server.id)) else {
            continue;
        };
        if open > 0 || !totals.is_zero() {
            ends.extend([client, server]);
            edges.push(ViewEdge {
                id: id.unwrap_or_else(|| Id::of_edge(source, target, server_port, PROTOCOL)),
                source,
                target,
                server_port,
                protocol: PROTOCOL,
                seen_by: SeenBy::of(seen),
                resolved_by: seen.by,
                pending,
                connections_open: open,
                totals,
            });
        }
    }
    edges.sort_by_key(|edge| edge.id);
    let (services, all) = (&mut graph.services, &graph.nodes);
    let mut nodes: Vec<Arc<ViewNode>> =
        ends.into_iter().filter_map(|ix| services.view_node(ix, all)).collect();
    nodes.sort_by_key(|node| node.id);
    let coverage = graph.coverage(asked, snapped.window, lost, one_sided(&nodes, &edges));
    View { window: snapped.window, coverage, nodes, edges }
}

/// Something that happens, or is looked at.
#[derive(Clone, Debug)]
enum Step {
    Event(Event),
    /// A half tells so much, of so many seconds ago.
    Late(usize, u64, u64),
    /// Processes have another name, or their own.
    Rename(bool),
    Restart,
    /// A window that begins so many seconds ago and is so long.
    Look(u64, u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => event().prop_map(Step::Event),
        3 => (0..8_usize, 1_u64..99, 3_u64..60).prop_map(|(half, value, age)| Step::Late(half, value, age)),
        1 => any::<bool>().prop_map(Step::Rename),
        1 => Just(Step::Restart),
        6 => (0_u64..120, 0_u64..120).prop_map(|(ago, length)| Step::Look(ago, length)),
    ]
}

pub(super) fn late(world: &mut World, half: HalfIx, value: u64, age: u64) {
    let now = world.now;
    let moment = world.graph.moment(NodeIx(0), Duration::from_secs(age), now);
    let mut batch = world.graph.begin_late(moment, now);
    if let Some(batch) = &mut batch {
        batch.note(&world.graph, half);
    }
    world.add(half, &[(Counter::BytesSent, value)]);
    world.graph.add_bucket(half, HistogramKind::Rtt, value as u16, value);
    if let Some(batch) = batch {
        world.graph.end_late(batch, now);
    }
}

fn rename(world: &mut World, other: bool) {
    let rule = ServiceRule {
        kind: Some(WorkloadKind::Process),
        name: Some("api".to_owned()),
        service: "db".to_owned(),
        ..ServiceRule::default()
    };
    let services = if other { vec![rule] } else { Vec::new() };
    world.graph.set_rules(Rules { services, ..Rules::default() });
}

/// Whether windows are what they are when they are made plainly, with sums that are kept all the while.
fn look(world: &mut World, sums: &Sums, window: Window) {
    let (now, graph) = (world.now, &mut world.graph);
    let expected = plain(graph, window, now);
    assert_eq!(graph.slice(window, now).view(sums), expected);
    assert_eq!(graph.view(window, now), expected, "without sums that were kept");
    for (limit, rank) in
        [(0, Rank::Failures), (1, Rank::Bytes), (3, Rank::Connections), (2, Rank::Rtt)]
    {
        let folded = graph.slice(window, now).folded(limit, rank, sums);
        assert_eq!(folded, expected.clone().fold(limit, rank), "{limit} by {rank:?}");
    }
}

fn up_to_now(world: &World, seconds: u64) -> Window {
    Window { from: world.now.minus(Duration::from_secs(seconds)), to: world.now }
}

proptest! {
    #[test]
    fn what_is_added_up_outside_is_the_same(steps in proptest::collection::vec(step(), 1..60)) {
        let mut random = Random::new();
        let sums = Sums::default();
        for step in &steps {
            match *step {
                Step::Event(ref event) => random.happen(event),
                Step::Late(half, value, age) => {
                    let half = random.halves[half];
                    late(&mut random.world, half, value, age);
                }
                Step::Rename(other) => rename(&mut random.world, other),
                Step::Restart => {
                    let world = &mut random.world;
                    let stored = postcard::to_stdvec(&world.graph.snapshot()).unwrap();
                    let stored = postcard::from_bytes(&stored).unwrap();
                    world.graph = Graph::resume(Config::default(), stored);
                    world.graph.restarted(world.now);
                    for first in [true, false] {
                        random.happen(&Event::Reconnect(first, 1));
                    }
                }
                Step::Look(ago, length) => {
                    let to = random.world.now.minus(Duration::from_secs(ago));
                    let from = to.minus(Duration::from_secs(length));
                    look(&mut random.world, &sums, Window { from, to });
                    let window = up_to_now(&random.world, length);
                    look(&mut random.world, &sums, window);
                    sums.prepare();
                }
            }
        }
        let window = up_to_now(&random.world, 600);
        look(&mut random.world, &sums, window);
    }
}

#[test]
fn a_window_that_goes_on_finds_its_begin_prepared() {
    let (mut world, half) = steps(9);
    let sums = Sums::default();
    let prepared = [(); 3].map(|()| {
        let window = up_to_now(&world, 60);
        let view = world.graph.slice(window, world.now).view(&sums);
        assert_eq!(view.edges[0].totals.get(Measure::BytesToServer), 60);
        let before = sums.bytes();
        sums.prepare();
        world.pass(1);
        world.add(half, &[(Counter::BytesSent, 10)]);
        world.pass(9);
        sums.bytes() > before
    });
    assert_eq!(prepared, [false, true, true], "of the first it is not known that it goes on");
}

/// A graph with steps of some edges.
fn steps(count: u64) -> (World, HalfIx) {
    let mut world = World::new();
    let a = world.node("a", "10.0.0.1");
    let half = world.client(a, "web", global("10.0.0.1"), global("192.0.2.1"), 443);
    world.exchange(half, 1, 2);
    world.pass(17);
    for _ in 0..count {
        world.pass(1);
        world.add(half, &[(Counter::BytesSent, 10)]);
        world.graph.add_bucket(half, HistogramKind::Rtt, 7, 1);
        world.pass(9);
    }
    (world, half)
}

#[test]
fn a_slice_is_as_of_the_moment_it_was_taken() {
    let (mut world, half) = steps(4);
    let window = up_to_now(&world, 300);
    let expected = world.graph.view(window, world.now);
    let slice = world.graph.slice(window, world.now);
    late(&mut world, half, 7, 15);
    world.exchange(half, 1000, 1000);
    rename(&mut world, true);
    world.pass(400);
    assert_eq!(slice.view(&Sums::default()), expected);
}

#[test]
fn sums_are_kept_until_a_step_is_another_one_and_never_many() {
    let (mut world, half) = steps(6);
    let sums = Sums::default();
    let bytes = |world: &mut World, ago: u64| {
        let window = up_to_now(world, ago);
        let view = world.graph.slice(window, world.now).view(&sums);
        view.edges.iter().map(|edge| edge.totals.get(Measure::BytesToServer)).sum::<u64>()
    };
    assert_eq!(bytes(&mut world, 300), 61);
    let kept = sums.bytes();
    assert!(kept > 0);
    assert_eq!((bytes(&mut world, 300), sums.bytes()), (61, kept), "used again");
    late(&mut world, half, 7, 25);
    assert_eq!(bytes(&mut world, 300), 68, "and what came late is in it");
    for ago in 0..60 {
        bytes(&mut world, ago);
    }
    assert!(sums.bytes() < 6 * kept);
}
