//! Whatever happens, a restart goes on where the last run was.

#![allow(clippy::unwrap_used)]

mod run;

use std::collections::BTreeMap;

use common::{COUNTERS, Counter, HistogramKind};
use proptest::prelude::*;
use prost::Message;
use proto::{columns::Encoder, v1};
use topology::{
    AgentFacts, ClusterChange, ClusterEndpoint, ClusterKind, ClusterService, ClusterSlice, Config,
    Connection, EdgeTotals, Grouping, Incarnation, ObjectName, ServicePort, Sums, Timestamp,
    model::{Address, Role, Scope, Workload, WorkloadKind},
};

use super::*;
use crate::{
    clock::tests::Hands,
    core::{Applied, Prepared},
    metrics::Metrics,
};
use run::*;

/// What can happen.
#[derive(Clone, Copy, Debug)]
enum Event {
    Report(usize, u64),
    /// The same, so many seconds after it happened.
    Late(usize, u64, u64),
    Reconnect(usize),
    /// Kubernetes says whose the server's address is: of one of two Services, or of none.
    Cluster(u8),
    Pass(u64),
    /// The aggregator's wall clock is set.
    Set(i64),
    Snapshot,
    /// The process is gone from one moment to the next; and the history has nothing since the last snapshot.
    Kill(bool),
}

const INTERVAL: Duration = Duration::from_secs(10);
const HISTORY: &str = "history.redb";

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0..2_usize, 1..9_u64).prop_map(|(node, more)| Event::Report(node, more)),
        3 => (0..2_usize, 1..9_u64, 0..150_u64)
            .prop_map(|(node, more, age)| Event::Late(node, more, age)),
        1 => (0..2_usize).prop_map(Event::Reconnect),
        1 => (0..3_u8).prop_map(Event::Cluster),
        6 => (0..12_u64).prop_map(Event::Pass),
        1 => (30..200_u64).prop_map(Event::Pass),
        1 => prop::sample::select(vec![-3_600_i64, -7, 5, 3_600]).prop_map(Event::Set),
        1 => Just(Event::Snapshot),
        1 => any::<bool>().prop_map(Event::Kill),
    ]
}

/// What edges add up to.
fn sum(edges: &[topology::ViewEdge]) -> EdgeTotals {
    let mut sum = EdgeTotals::default();
    edges.iter().for_each(|edge| sum.merge(&edge.totals));
    sum
}

/// Everything that was published.
fn series(core: &Core) -> Vec<String> {
    let mut shown: Vec<_> = core
        .graph()
        .published()
        .map(|series| format!("{} {} {:?}", series.client(), series.server(), series.totals()))
        .collect();
    shown.sort();
    shown
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn a_restart_at_any_moment_goes_on_where_it_was(
        events in proptest::collection::vec(event(), 1..40),
    ) {
        let mut run = Run::new();
        events.into_iter().for_each(|event| run.happen(event));
        // Both sides agree in the end, and so does the graph.
        let most = run.totals[0].max(run.totals[1]);
        for node in 0..2 {
            let missing = most - run.totals[node];
            run.happen(Event::Report(node, missing));
        }
        run.happen(Event::Pass(15));
        run.happen(Event::Kill(true));
        // Windows add up to what was published.
        let shown: u64 = run
            .edges(Timestamp::default(), run.now)
            .iter()
            .map(|edge| edge.totals.get(topology::Measure::Connections))
            .sum();
        prop_assert_eq!(shown, most);
        let core = run.core.lock();
        let connections: u64 = core
            .graph()
            .published()
            .map(|series| series.totals().get(topology::Measure::Connections))
            .sum();
        prop_assert_eq!(connections, most);
    }
}

#[test]
fn sessions_that_take_turns_count_once() {
    let mut run = Run::new();
    run.happen(Event::Report(1, 6));
    let increments = |more| section(v1::SectionKind::Increments, columns(more));
    // One agent has left two batches, the next has told one, and neither has heard that they were taken over.
    assert_eq!(run.begin(0, 3), 0);
    run.send(0, false, vec![definitions(0), increments(1)], 0);
    run.send(0, false, vec![increments(2)], 0);
    run.next[0] = 1;
    assert_eq!(run.begin(0, 4), 0);
    run.send(0, false, vec![definitions(0), increments(3)], 0);
    run.happen(Event::Kill(false));
    for (session, acked) in [(3, 2), (4, 1), (3, 2)] {
        assert_eq!(run.begin(0, session), acked);
        // Told again, it is known.
        run.next[0] = acked + 1;
        run.send(0, true, vec![definitions(0)], 0);
    }
    run.happen(Event::Reconnect(1));
    run.happen(Event::Pass(30));
    let edges = run.edges(Timestamp::default(), run.now);
    let connections = edges.iter().map(|edge| edge.totals.get(topology::Measure::Connections));
    assert_eq!(connections.sum::<u64>(), 6);
    for session in 10..30 {
        run.begin(0, session);
    }
    let frozen = postcard::to_allocvec(&run.core.get_mut().freeze()).unwrap();
    assert!(frozen.len() < 10_000, "{}", frozen.len());
}

#[test]
fn who_is_back_and_has_nothing_to_tell_is_there() {
    back_with_nothing_to_tell(|run| {
        for node in 0..2 {
            run.happen(Event::Reconnect(node));
        }
    });
}

/// Its preface has numbers of their own for halves that have ended.
#[test]
fn who_is_back_with_halves_that_have_ended_and_nothing_to_tell_is_there() {
    back_with_nothing_to_tell(|run| {
        run.happen(Event::Reconnect(0));
        run.begin(1, 3);
        let ended = v1::Definitions { retired_halves: vec![1], ..v1::Definitions::default() };
        let ended = section(v1::SectionKind::Definitions, ended.encode_to_vec());
        run.tell(1, 1, true, vec![definitions(1), ended], 0);
        let told = run.tell(1, 2, true, vec![definitions(1)], 0);
        assert_eq!((told.seq, told.replayed), (2, true));
    });
}

fn back_with_nothing_to_tell(back: impl Fn(&mut Run)) {
    let mut run = Run::new();
    for node in 0..2 {
        run.happen(Event::Report(node, 1));
        run.happen(Event::Report(node, 0));
    }
    run.happen(Event::Pass(30));
    run.happen(Event::Kill(false));
    back(&mut run);
    // Longer than anything is remembered that is not there.
    run.happen(Event::Pass(900));
    run.happen(Event::Report(1, 1));
    run.happen(Event::Pass(30));
    run.happen(Event::Report(0, 1));
    run.happen(Event::Pass(30));
    let sum = |edges: &[topology::ViewEdge]| {
        let connections = edges.iter().map(|edge| edge.totals.get(topology::Measure::Connections));
        connections.sum::<u64>()
    };
    let edges = run.edges(Timestamp::default(), run.now);
    assert_eq!((edges.len(), sum(&edges)), (1, 2), "{edges:?}");
}

#[test]
fn a_stream_that_has_ended_keeps_nobody_known() {
    let mut run = Run::new();
    run.connect(0);
    let workload = |name: &str| Workload {
        kind: WorkloadKind::Process,
        name: name.to_owned(),
        namespace: String::new(),
        labels: BTreeMap::new(),
    };
    let named = (1..=50).map(|id| {
        let workload = workload(&format!("job-{id}"));
        proto::convert::WorkloadDefinition { id, workload }.into()
    });
    let definitions = v1::Definitions { workloads: named.collect(), ..v1::Definitions::default() };
    let definitions = section(v1::SectionKind::Definitions, definitions.encode_to_vec());
    run.send(0, false, vec![definitions], 0);
    run.happen(Event::Pass(30));
    let services = |run: &mut Run| run.core.get_mut().graph().stats().services;
    assert!(services(&mut run) > 50, "a batch may still refer to them");
    let connection = run.streams[0].take().unwrap();
    run.core.get_mut().disconnect(connection, run.now);
    run.happen(Event::Pass(30));
    assert!(services(&mut run) < 10, "{}", services(&mut run));
}

/// Connections of each of the steps since a moment.
fn by_step(run: &Run, from: Timestamp) -> Vec<u64> {
    let step = Duration::from_secs(10);
    let mut sums = Vec::new();
    let mut begin = from.floor(step);
    while begin < run.now {
        let edges = run.edges(begin, begin.plus(step));
        let connections = edges.iter().map(|edge| edge.totals.get(topology::Measure::Connections));
        sums.push(connections.sum());
        begin = begin.plus(step);
    }
    sums
}

#[test]
fn whoever_sets_a_clock_moves_nothing() {
    // The agents' clocks are wrong, and step in between; the aggregator's is set, both ways.
    for (skews, steps) in
        [([0; 4], [0; 4]), ([3_600, -3_600, 5, -9], [3_600, -7_200, 1_800, 1_800])]
    {
        let mut run = Run::new();
        for node in 0..2 {
            run.happen(Event::Report(node, 1));
        }
        run.happen(Event::Pass(30));
        let begin = run.now;
        for (skew, step) in skews.into_iter().zip(steps) {
            run.skew_s = skew;
            run.happen(Event::Set(step));
            for _ in 0..40 {
                // Ten connections a second, and what a cut has held up is told then.
                for node in 0..2 {
                    run.happen(Event::Report(node, 10));
                }
                run.happen(Event::Pass(1));
            }
            for node in 0..2 {
                let skew = run.core.get_mut().graph().nodes().nth(node).unwrap();
                assert!((skew.clock_skew_seconds() - run.skew_s as f64).abs() < 1e-6);
            }
        }
        // No step has none, or twice as much as the others; by its clock a step is a tenth longer or shorter.
        let shown = by_step(&run, begin);
        let (whole, total) = (&shown[1..shown.len() - 1], shown.iter().sum::<u64>());
        assert!(whole.iter().all(|sum| (80..=120).contains(sum)), "{shown:?}");
        assert!((14..=19).contains(&shown.len()), "{shown:?}");
        assert_eq!(total, 1_600);
        run.happen(Event::Kill(true));
        assert_eq!(by_step(&run, begin)[..whole.len()], shown[..whole.len()]);
    }
}

/// Connections in what the history has of each client's zone.
fn by_zone(run: &Run) -> BTreeMap<String, u64> {
    run.settle();
    let window = topology::Window { from: Timestamp::default(), to: run.now };
    let history = run.store.as_ref().unwrap().history();
    let older = history.older(window, run.now, Grouping::Zone);
    let mut connections = BTreeMap::<_, u64>::new();
    for edge in &older.edges {
        let source = older.nodes.iter().find(|node| node.id == edge.source).unwrap();
        let sum = connections.entry(source.zone.clone()).or_default();
        *sum += edge.totals.get(topology::Measure::Connections);
    }
    connections
}

#[test]
fn what_the_journal_says_again_is_of_the_zones_that_it_was() {
    let mut run = Run::new();
    (0..2).for_each(|node| run.report(node, 5, 0));
    run.happen(Event::Pass(60));
    let east = BTreeMap::from([("east".to_owned(), 5)]);
    assert_eq!(by_zone(&run), east);
    // All of the history is made again.
    run.happen(Event::Kill(true));
    assert_eq!(by_zone(&run), east);
}

#[test]
fn the_history_goes_on_after_a_snapshot_of_another_version() {
    let mut run = Run::new();
    (0..2).for_each(|node| run.report(node, 5, 0));
    // The journal has its beginning no more.
    for _ in 0..2 {
        run.happen(Event::Pass(60));
        run.happen(Event::Snapshot);
    }
    assert!(Segment::list(run.folder.path()).unwrap().iter().all(|segment| segment.from > 0));
    let instance = run.store.as_ref().unwrap().instance();
    let (_, path) = snapshots(run.folder.path()).unwrap().pop().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] -= 1;
    fs::write(&path, bytes).unwrap();
    // The state begins anew.
    run.store = None;
    run.core = Held::new(Core::new(Config::default(), run.nowhere.clone()));
    let (core, store, clock) = open(run.folder.path(), &run.hands);
    (run.core, run.store, run.clock) = (Held::new(core), Some(store), clock);
    (run.streams, run.next) = ([None; 2], [1; 2]);
    assert_eq!(run.store.as_ref().unwrap().instance(), instance);
    assert!(series(run.core.get_mut()).is_empty());
    assert_eq!(by_zone(&run)["east"], 5);
    // What follows is written, too, and is there after another restart.
    (0..2).for_each(|node| run.report(node, 7, 0));
    run.happen(Event::Pass(60));
    assert_eq!(by_zone(&run)["east"], 12);
    run.happen(Event::Kill(false));
    assert_eq!(by_zone(&run)["east"], 12);
}

#[test]
fn what_is_read_is_no_older_than_a_second() {
    let mut run = Run::new();
    (0..2).for_each(|node| run.report(node, 5, 0));
    run.happen(Event::Pass(15));
    let published = series(run.core.get_mut());
    (0..2).for_each(|node| run.report(node, 5, 0));
    let core = run.core.get_mut();
    core.refresh(run.clock.now());
    assert_eq!(series(core), published, "the last tick was just now");
    run.hands.pass(1);
    let core = run.core.get_mut();
    assert_eq!(series(core), published, "nobody has asked yet");
    core.refresh(run.clock.now());
    assert_ne!(series(core), published);
}

#[test]
fn many_large_objects_of_kubernetes_are_read_back() {
    let mut run = Run::new();
    let endpoint = |at: u32| ClusterEndpoint {
        addresses: vec![(0x0a00_0000 + at).to_be_bytes().into()],
        ready: true,
        // As much as an endpoint with all the addresses that it may have.
        pod: Some("x".repeat(1_300)),
    };
    let slice = |at: u32| {
        let endpoints = (at * 1_000..(at + 1) * 1_000).map(endpoint).collect();
        let ports = vec![("http".to_owned(), 80)];
        let slice = ClusterSlice { service: "cart".to_owned(), endpoints, ports };
        ClusterChange::Slice(ObjectName::new("shop", &format!("cart-{at}")), Some(slice))
    };
    let core = run.core.get_mut();
    core.cluster_listed(ClusterKind::Slices, (0..8).map(slice).collect(), run.now);
    run.happen(Event::Pass(1));
    run.happen(Event::Kill(false));
    let state = run.core.get_mut().graph().cluster_state(ClusterKind::Slices);
    assert_eq!(state.0, 8);
}

#[test]
fn an_entry_that_could_not_be_read_is_left_to_a_snapshot() {
    let mut run = Run::new();
    run.happen(Event::Report(0, 1));
    let network = |at: u32| {
        let name = format!("{at}-{}", "x".repeat(1_000));
        topology::Network::new((0x0a00_0000 + at).to_be_bytes().into(), 32, name).unwrap()
    };
    let networks = (0..5_000).map(network).collect();
    let rules = topology::Rules { networks, ..topology::Rules::default() };
    let core = run.core.get_mut();
    core.set_rules(rules.clone(), run.now);
    let journal = run.store.as_ref().unwrap().journal();
    assert!(journal.is_failing());
    run.happen(Event::Snapshot);
    run.happen(Event::Pass(1));
    assert!(!run.store.as_ref().unwrap().journal().is_failing());
    run.happen(Event::Kill(false));
    assert_eq!(*run.core.get_mut().graph().rules(), rules);
}
