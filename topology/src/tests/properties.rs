//! What holds whatever arrives, and in whatever order.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::world::*;
use crate::{
    model::{NodeAddress, Role},
    *,
};

const A: &str = "10.0.0.1";
const B: &str = "10.0.0.2";
const PORTS: [u16; 2] = [80, 81];
const CLIENTS: [&str; 2] = ["web", "job"];
const SERVERS: [&str; 2] = ["api", "db"];

/// Who a report is from: half number, then counter or bucket, and how much.
#[derive(Clone, Copy, Debug)]
pub(super) enum Report {
    Counter(usize, Counter, u64),
    Bucket(usize, HistogramKind, u16, u64),
}

/// Client halves 0..4 (process, port), server halves 4..8.
const HALVES: usize = 8;

fn open(world: &mut World, a: NodeIx, b: NodeIx, half: usize) -> HalfIx {
    let (name, port) = (half % 2, PORTS[half / 2 % 2]);
    if half < 4 {
        world.client(a, CLIENTS[name], global(A), global(B), port)
    } else {
        // One server per port: the other name listens at another address.
        world.server(
            b,
            SERVERS[name],
            global(B),
            global(if name == 0 { A } else { "192.0.2.9" }),
            port,
        )
    }
}

fn report() -> impl Strategy<Value = Report> {
    prop_oneof![
        (0..HALVES, 0..16_usize, 0_u64..1000).prop_map(|(half, at, value)| Report::Counter(
            half,
            Counter::ALL[at],
            value
        )),
        (0..HALVES, 0..3_usize, 0_u16..320, 0_u64..9).prop_map(|(half, at, k, n)| Report::Bucket(
            half,
            HistogramKind::ALL[at],
            k,
            n
        )),
    ]
}

/// The settled graph.
type Settled =
    (Vec<std::sync::Arc<ViewNode>>, Vec<ViewEdge>, BTreeMap<(String, String, u16), EdgeTotals>);

fn settled(world: &mut World) -> Settled {
    world.pass(45);
    let view = world.view();
    (view.nodes, view.edges, world.series())
}

fn apply(world: &mut World, halves: &[HalfIx], report: Report) {
    match report {
        Report::Counter(half, counter, value) => world.graph.add(halves[half], counter, value),
        Report::Bucket(half, kind, k, n) => world.graph.add_bucket(halves[half], kind, k, n),
    }
}

/// Opens all halves in the given order and applies the reports in theirs.
fn play(order: &[usize], reports: &[Report]) -> Settled {
    let mut world = World::new();
    let (a, b) = (world.node("a", A), world.node("b", B));
    let mut halves = BTreeMap::new();
    for half in order {
        halves.insert(*half, open(&mut world, a, b, *half));
    }
    let halves: Vec<_> = halves.into_values().collect();
    for report in reports {
        apply(&mut world, &halves, *report);
    }
    settled(&mut world)
}

fn order() -> impl Strategy<Value = Vec<usize>> {
    Just((0..HALVES).collect::<Vec<_>>()).prop_shuffle()
}

/// Something that happens to a graph.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Report(Report),
    Total(usize, Counter, u64),
    Open(usize),
    Retire(usize),
    Listen(bool, u16),
    Address(bool),
    Reconnect(bool, u64),
    Pass(u64),
    Leap,
    Single(u16, usize),
    Answer(bool),
}

pub(super) fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => report().prop_map(Event::Report),
        2 => (0..HALVES, 0..16_usize, 0_u64..9000)
            .prop_map(|(half, at, value)| Event::Total(half, Counter::ALL[at], value)),
        2 => (0..HALVES).prop_map(Event::Open),
        1 => (0..HALVES).prop_map(Event::Retire),
        1 => (any::<bool>(), 80_u16..82).prop_map(|(open, port)| Event::Listen(open, port)),
        1 => any::<bool>().prop_map(Event::Address),
        1 => (any::<bool>(), 1_u64..3).prop_map(|(a, generation)| Event::Reconnect(a, generation)),
        4 => (1_u64..15).prop_map(Event::Pass),
        1 => Just(Event::Leap),
        2 => (1_u16..5, 0..2_usize).prop_map(|(port, name)| Event::Single(port, name)),
        2 => any::<bool>().prop_map(Event::Answer),
    ]
}

pub(super) struct Random {
    pub(super) world: World,
    pub(super) connections: [Connection; 2],
    pub(super) halves: Vec<HalfIx>,
}

impl Random {
    pub(super) fn new() -> Self {
        let mut world = World::new();
        let a = world.connect("a", incarnation(1, 1, 1)).unwrap();
        let b = world.connect("b", incarnation(1, 1, 1)).unwrap();
        let halves = (0..HALVES).map(|half| open(&mut world, a.node, b.node, half)).collect();
        Random { world, connections: [a, b], halves }
    }

    pub(super) fn happen(&mut self, event: &Event) {
        let world = &mut self.world;
        let [a, b] = self.connections.map(|connection| connection.node);
        match *event {
            Event::Report(report) => apply(world, &self.halves, report),
            Event::Total(half, counter, total) => {
                world.graph.set_total(self.halves[half], counter, total);
            }
            Event::Open(half) => self.halves[half] = open(world, a, b, half),
            Event::Retire(half) => world.graph.retire_half(self.halves[half], world.now),
            Event::Listen(open, port) => {
                let listener = world.listener(b, "api", B, port);
                if open {
                    world.graph.listener_opened(b, listener);
                } else {
                    world.graph.listener_closed(b, listener);
                }
            }
            Event::Address(has) => {
                let address = NodeAddress { address: global(B), network_namespace: ROOT };
                world.graph.set_addresses(b, if has { vec![address] } else { Vec::new() });
            }
            Event::Reconnect(first, generation) => {
                let (at, name) = if first { (0, "a") } else { (1, "b") };
                world.graph.node_disconnected(self.connections[at], world.now);
                self.connections[at] =
                    world.connect(name, incarnation(1, generation, generation)).unwrap();
            }
            Event::Pass(seconds) => world.pass(seconds),
            Event::Leap => {
                world.now = world.now.plus(std::time::Duration::from_secs(3000));
                world.pass(1);
            }
            Event::Single(port, name) => {
                let half =
                    world.half(b, SERVERS[name], Role::Server, global(B), global(A), 80, port);
                world.exchange(half, 3, u64::from(port));
            }
            Event::Answer(known) => {
                for question in world.graph.take_questions(a) {
                    let owner = world.process(a, "job");
                    world.graph.tuple_owner(a, question, known.then_some(owner));
                }
            }
        }
    }
}

fn assert_not_fallen(
    before: &BTreeMap<(String, String, u16), EdgeTotals>,
    after: &BTreeMap<(String, String, u16), EdgeTotals>,
) {
    for (key, old) in before {
        let Some(new) = after.get(key) else { continue };
        for measure in Measure::ALL {
            assert!(new.get(measure) >= old.get(measure), "{key:?} {measure:?} fell");
        }
        for kind in HistogramKind::ALL {
            for (bucket, count) in old.histogram(kind).iter() {
                assert!(new.histogram(kind).get(bucket) >= count, "{key:?} {kind:?} fell");
            }
        }
    }
}

proptest! {
    #[test]
    fn order_of_arrival_changes_nothing(
        first in order(),
        second in order(),
        (reports, shuffled) in proptest::collection::vec(report(), 0..60)
            .prop_flat_map(|reports| (Just(reports.clone()), Just(reports).prop_shuffle())),
    ) {
        prop_assert_eq!(play(&first, &reports), play(&second, &shuffled));
    }

    #[test]
    fn splitting_and_repeating_change_nothing(
        reports in proptest::collection::vec(report(), 0..40),
        parts in proptest::collection::vec(1_u64..4, 40),
    ) {
        let order: Vec<_> = (0..HALVES).collect();
        let whole = play(&order, &reports);

        let mut split = Vec::new();
        for (report, parts) in reports.iter().zip(&parts) {
            for part in 0..*parts {
                let of = |value: u64| value / parts + u64::from(part < value % parts);
                split.push(match *report {
                    Report::Counter(half, counter, value) => {
                        Report::Counter(half, counter, of(value))
                    }
                    Report::Bucket(half, kind, k, n) => Report::Bucket(half, kind, k, of(n)),
                });
            }
        }
        prop_assert_eq!(&whole, &play(&order, &split));

        // The same as totals, each repeated.
        let mut world = World::new();
        let (a, b) = (world.node("a", A), world.node("b", B));
        let halves: Vec<_> = order.iter().map(|half| open(&mut world, a, b, *half)).collect();
        let mut counters: BTreeMap<(usize, Counter), u64> = BTreeMap::new();
        let mut buckets: BTreeMap<(usize, HistogramKind, u16), u64> = BTreeMap::new();
        for report in &reports {
            match *report {
                Report::Counter(half, counter, value) => {
                    let total = counters.entry((half, counter)).or_default();
                    *total += value;
                    for total in [*total, *total / 2, *total] {
                        world.graph.set_total(halves[half], counter, total);
                    }
                }
                Report::Bucket(half, kind, k, n) => {
                    let total = buckets.entry((half, kind, k)).or_default();
                    *total += n;
                    for total in [*total, *total / 2, *total] {
                        world.graph.set_bucket_total(halves[half], kind, k, total);
                    }
                }
            }
        }
        prop_assert_eq!(&whole, &settled(&mut world));
    }

    #[test]
    fn a_replayed_stream_changes_nothing(reports in proptest::collection::vec(report(), 0..40)) {
        let order: Vec<_> = (0..HALVES).collect();
        let mut world = World::new();
        let (a, b) = (world.node("a", A), world.node("b", B));
        let halves: Vec<_> = order.iter().map(|half| open(&mut world, a, b, *half)).collect();
        for report in &reports {
            apply(&mut world, &halves, *report);
        }
        let before = settled(&mut world);
        world.connect("a", incarnation(1, 1, 1)).unwrap();
        let again: Vec<_> = order.iter().map(|half| open(&mut world, a, b, *half)).collect();
        prop_assert_eq!(&again, &halves);
        let mut totals: BTreeMap<(usize, Counter), u64> = BTreeMap::new();
        for report in &reports {
            if let Report::Counter(half, counter, value) = *report {
                *totals.entry((half, counter)).or_default() += value;
            }
        }
        for ((half, counter), total) in totals {
            world.graph.set_total(again[half], counter, total);
        }
        prop_assert_eq!(before.2, settled(&mut world).2);
    }

    #[test]
    fn published_counters_never_fall(
        events in proptest::collection::vec(event(), 1..120),
    ) {
        let mut random = Random::new();
        let mut seen: BTreeMap<(String, String, u16), EdgeTotals> = BTreeMap::new();
        for event in &events {
            random.happen(event);
            random.world.graph.tick(random.world.now);
            let now = random.world.series();
            assert_not_fallen(&seen, &now);
            // Also over the time in which a series is not shown.
            seen.extend(now);
        }
    }

    #[test]
    fn steps_add_up_to_what_was_published(
        events in proptest::collection::vec(event(), 1..60),
    ) {
        let mut random = Random::new();
        for event in events.iter().filter(|event| !matches!(event, Event::Leap)) {
            random.happen(event);
        }
        random.world.pass(45);
        let mut published = EdgeTotals::default();
        random.world.series().values().for_each(|totals| published.merge(totals));
        let mut stored = EdgeTotals::default();
        random.world.view().edges.iter().for_each(|edge| stored.merge(&edge.totals));
        prop_assert_eq!(published, stored);
    }

    #[test]
    fn every_byte_has_an_edge(reports in proptest::collection::vec(report(), 0..60)) {
        let order: Vec<_> = (0..HALVES).collect();
        let mut sums: BTreeMap<(u16, bool), u64> = BTreeMap::new();
        let mut outside = 0;
        for report in &reports {
            match *report {
                Report::Counter(half, Counter::BytesSent, value) if half < 4 => {
                    *sums.entry((PORTS[half / 2], true)).or_default() += value;
                }
                Report::Counter(half, Counter::BytesReceived, value) if half >= 4 => {
                    if half % 2 == 0 {
                        *sums.entry((PORTS[half / 2 % 2], false)).or_default() += value;
                    } else {
                        outside += value;
                    }
                }
                _ => {}
            }
        }
        let get = |port, client| sums.get(&(port, client)).copied().unwrap_or(0);
        let expected: u64 =
            PORTS.iter().map(|port| get(*port, true).max(get(*port, false))).sum();
        let (_, edges, _) = play(&order, &reports);
        let to_server: u64 =
            edges.iter().map(|edge| edge.totals.get(Measure::BytesToServer)).sum();
        prop_assert_eq!(to_server, expected + outside);
    }
}
