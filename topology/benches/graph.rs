//! What the graph costs: taking in increments, a tick, a view, a snapshot.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../../xtask/src/bench/harness.rs"]
mod harness;

use std::{collections::BTreeMap, hint::black_box, net::Ipv4Addr, time::Duration};

use harness::{Case, Dice, Meter};
use topology::{
    AgentFacts, ClusterChange, ClusterEndpoint, ClusterNews, ClusterSlice, Config, Counter, Gained,
    GivenSteps, Graph, Grouping, HalfIx, HistogramKind, Incarnation, NodeIx, ObjectName, Sums,
    Timestamp, Window,
    model::{Address, Ends, HalfKey, Role, Scope, Workload, WorkloadKind},
};

const CASES: &[Case] = &[
    ("graph-add", add),
    ("graph-tick", |meter| tick(meter, 1_000, 1)),
    ("graph-tick-translated", translated),
    ("graph-tick-few-changed", |meter| tick(meter, 1_000, 50)),
    ("graph-tick-one-side-later", one_side_later),
    ("graph-step", step),
    ("graph-step-fine", step_fine),
    ("graph-view", |meter| view(meter, 1_000)),
    ("graph-view-first", |meter| view_first(meter, 1_000)),
    ("graph-view-again", |meter| view_again(meter, 1_000)),
    ("graph-slice", |meter| slice(meter, 1_000)),
    ("graph-slice-fine", |meter| slice_fine(meter, 1_000)),
    ("graph-view-fine", |meter| view_fine(meter, 1_000)),
    ("graph-snapshot", snapshot),
    ("graph-cluster", cluster),
];

fn main() {
    harness::run(CASES);
}

const NODES: u32 = 100;

/// Links with a half on both sides, each an edge of its own.
struct Fleet {
    graph: Graph,
    now: Timestamp,
    dice: Dice,
    links: Vec<[HalfIx; 2]>,
}

impl Fleet {
    /// Settled links whose histograms have what they will have.
    fn settled(links: u32) -> Self {
        Self::settled_behind(links, false)
    }

    /// The same, where clients may know servers by other addresses, which their hosts translate.
    fn settled_behind(links: u32, translated: bool) -> Self {
        let config = Config { hand_over_steps: true, ..Config::default() };
        let mut graph = Graph::new(config);
        let now = Timestamp::from_unix_ns(43_203_000_000_000);
        let nodes: Vec<NodeIx> = (0..NODES)
            .map(|node| {
                let incarnation = Incarnation { boot_id: [1; 16], generation: 1, session: 1 };
                let facts = AgentFacts::default();
                graph.node_connected(&format!("node-{node}"), incarnation, facts, now).unwrap().node
            })
            .collect();
        let mut fleet = Fleet { graph, now, dice: Dice(4711), links: Vec::new() };
        for link in 0..links {
            let ends = [nodes[(link % NODES) as usize], nodes[((link + 1) % NODES) as usize]];
            fleet.open(link, ends, translated);
        }
        for _ in 0..30 {
            fleet.report();
            fleet.tick();
        }
        fleet
    }

    fn open(&mut self, link: u32, ends: [NodeIx; 2], translated: bool) {
        let address = |net: u32| Address {
            ip: Ipv4Addr::from(0x0a00_0000 | net << 22 | link).into(),
            scope: Scope::Global,
        };
        let roles = [Role::Client, Role::Server];
        let halves = [0, 1].map(|side| {
            let name = format!("service-{side}-{link}");
            let (kind, namespace, labels) = (WorkloadKind::Systemd, String::new(), BTreeMap::new());
            let workload = Workload { kind, name, namespace, labels };
            let workload = self.graph.intern_workload(ends[side], workload).unwrap();
            let (local, mut peer) = (address(side as u32), address(1 - side as u32));
            if translated && side == 0 {
                peer = address(2);
            }
            let role = roles[side];
            let key = HalfKey { workload, local, peer, server_port: 80, client_port: 0, role };
            self.graph.open_half(ends[side], key, 0, self.now).unwrap()
        });
        if translated {
            let seen = Ends { client: address(0), server: address(1), server_port: 80 };
            self.graph.add_translations(halves[0], [seen], self.now);
        }
        self.links.push(halves);
    }

    /// Both sides of every link tell 4 counters and 3 samples.
    fn report(&mut self) {
        self.report_some(1, [true, true]);
    }

    fn report_some(&mut self, every: usize, sides: [bool; 2]) {
        let mut told = Vec::new();
        for link in self.links.iter().step_by(every) {
            let bytes = 1_000 + self.dice.below(9_000);
            let values = [bytes, bytes * 3];
            for (side, half) in link.iter().enumerate() {
                // Like two dice: most samples lie in the middle of some 60 buckets.
                let samples = [HistogramKind::Rtt, HistogramKind::Connect, HistogramKind::Lifetime]
                    .map(|kind| (kind, 90 + (self.dice.below(32) + self.dice.below(32)) as u16, 1));
                if !sides[side] {
                    continue;
                }
                let [sent, received] = [values[side], values[1 - side]];
                told.push((*half, [1, 1, sent, received], samples));
            }
        }
        let counters =
            [Counter::Connections, Counter::Closed, Counter::BytesSent, Counter::BytesReceived];
        let which = counters.iter().fold(0, |which, counter| which | 1 << counter.index());
        let gained: Vec<Gained<'_>> = told
            .iter()
            .map(|(half, values, samples)| Gained { half: *half, which, values, samples })
            .collect();
        self.graph.add_gained(&gained);
    }

    fn tick(&mut self) {
        self.now = self.now.plus(Duration::from_secs(1));
        self.graph.tick(self.now);
        drop(self.graph.take_steps());
    }
}

/// Unit: a record of 4 counters and 3 samples.
fn add(meter: &mut Meter) {
    let mut fleet = Fleet::settled(1_000);
    meter.measure(2_000, || fleet.report());
}

/// Unit: a link that changed, or 100 that did not.
fn tick(meter: &mut Meter, links: u32, every: usize) {
    let mut fleet = Fleet::settled(links);
    for _ in 0..3 {
        fleet.report_some(every, [true, true]);
        meter.measure(u64::from(links), || fleet.tick());
    }
}

/// Unit: a link that changed, whose two halves have other addresses.
fn translated(meter: &mut Meter) {
    let mut fleet = Fleet::settled_behind(1_000, true);
    for _ in 0..3 {
        fleet.report();
        meter.measure(1_000, || fleet.tick());
    }
}

/// Unit: a link one of whose sides told what the other did not yet.
fn one_side_later(meter: &mut Meter) {
    let mut fleet = Fleet::settled(1_000);
    for side in [true, false] {
        fleet.report_some(1, [side, !side]);
        meter.measure(1_000, || fleet.tick());
    }
}

/// Unit: an edge in a step that ends.
fn step(meter: &mut Meter) {
    let mut fleet = Fleet::settled(1_000);
    fleet.report();
    fleet.tick();
    fleet.now = fleet.now.plus(Duration::from_secs(10));
    meter.measure(1_000, || fleet.tick());
}

/// Unit: an edge of a step that is over, written out between workloads on their hosts, where nobody waits for the graph.
fn step_fine(meter: &mut Meter) {
    let mut fleet = Fleet::settled(1_000);
    fleet.report();
    fleet.tick();
    fleet.now = fleet.now.plus(Duration::from_secs(10));
    fleet.graph.tick(fleet.now);
    let given = fleet.graph.take_steps();
    meter.measure(1_000, || {
        for given in &given {
            let GivenSteps::Ended(step) = &given.steps else { continue };
            let (mut rows, mut known) = (step.rows(true), 0);
            while let Some(row) = rows.next() {
                for end in row.ends.into_iter().filter(|end| *end >= known) {
                    black_box(rows.key(end));
                }
                known = row.ends.into_iter().fold(known, |known, end| known.max(end + 1));
                black_box(row);
            }
        }
    });
}

/// Unit: an edge of a view over the last minute.
fn view(meter: &mut Meter, links: u32) {
    let mut fleet = Fleet::settled(links);
    let window = Window { from: fleet.now.minus(Duration::from_secs(60)), to: fleet.now };
    meter.measure(u64::from(links), || {
        black_box(fleet.graph.view(window, fleet.now).fold(200, topology::Rank::Bytes));
    });
}

/// Unit: an edge of the same view, folded while it is made, where nothing was added up before.
fn view_first(meter: &mut Meter, links: u32) {
    let mut fleet = Fleet::settled(links);
    let window = Window { from: fleet.now.minus(Duration::from_secs(60)), to: fleet.now };
    meter.measure(u64::from(links), || {
        let slice = fleet.graph.slice(window, fleet.now);
        black_box(slice.folded(200, topology::Rank::Bytes, &Sums::default()));
    });
}

/// Unit: an edge of the same view, folded while it is made, once steps that are over were added up.
fn view_again(meter: &mut Meter, links: u32) {
    let mut fleet = Fleet::settled(links);
    let window = Window { from: fleet.now.minus(Duration::from_secs(60)), to: fleet.now };
    let sums = Sums::default();
    let view = |fleet: &mut Fleet| {
        black_box(fleet.graph.slice(window, fleet.now).folded(200, topology::Rank::Bytes, &sums));
    };
    view(&mut fleet);
    meter.measure(u64::from(links), || view(&mut fleet));
}

/// Unit: an edge while what a view is made of is taken out of the graph, which nobody may change meanwhile.
fn slice(meter: &mut Meter, links: u32) {
    let mut fleet = Fleet::settled(links);
    let window = Window { from: fleet.now.minus(Duration::from_secs(60)), to: fleet.now };
    meter.measure(u64::from(links), || drop(black_box(fleet.graph.slice(window, fleet.now))));
}

/// Unit: the same of a view between workloads on their hosts.
fn slice_fine(meter: &mut Meter, links: u32) {
    let mut fleet = Fleet::settled(links);
    let window = Window { from: fleet.now.minus(Duration::from_secs(60)), to: fleet.now };
    let by = Grouping::Node;
    meter.measure(u64::from(links), || {
        drop(black_box(fleet.graph.slice_finer(window, by, fleet.now)));
    });
}

/// Unit: an edge of a view by host, folded, once steps that are over were added up.
fn view_fine(meter: &mut Meter, links: u32) {
    let mut fleet = Fleet::settled(links);
    let window = Window { from: fleet.now.minus(Duration::from_secs(60)), to: fleet.now };
    let (sums, by) = (Sums::default(), Grouping::Node);
    let view = |fleet: &mut Fleet| {
        let view = fleet.graph.slice_finer(window, by, fleet.now).view(&sums);
        black_box(view.group(by).fold(50, topology::Rank::Bytes));
    };
    view(&mut fleet);
    meter.measure(u64::from(links), || view(&mut fleet));
}

/// Unit: a link while a snapshot is made, and the first tick after it, which copies what it writes to.
fn snapshot(meter: &mut Meter) {
    let mut fleet = Fleet::settled(1_000);
    fleet.report();
    meter.measure(1_000, || {
        let snapshot = fleet.graph.snapshot();
        fleet.tick();
        drop(black_box(snapshot));
    });
}

/// Endpoints of one slice of a Service.
const ENDPOINTS: u32 = 100;

/// A slice, of which one pod may have gone to another address.
fn slice_of_pods(number: u32, moved: u32) -> ClusterChange {
    let endpoint = |at: u32| {
        let moves = if at == 0 { moved } else { 0 };
        let at = number * ENDPOINTS + at;
        let address = Ipv4Addr::from((0x0b00_0000 | at) + moves);
        let pod = Some(format!("pod-{at}"));
        ClusterEndpoint { addresses: vec![address.into()], ready: true, pod }
    };
    let endpoints = (0..ENDPOINTS).map(endpoint).collect();
    let ports = vec![("http".to_owned(), 8080)];
    let slice = ClusterSlice { service: format!("service-{}", number / 10), endpoints, ports };
    ClusterChange::Slice(ObjectName::new("shop", &format!("slice-{number}")), Some(slice))
}

/// A fleet in a cluster of 50,000 pods.
fn in_cluster() -> Fleet {
    let mut fleet = Fleet::settled(1);
    let slices = (0..500).map(|number| slice_of_pods(number, 0)).collect();
    fleet.graph.take_cluster_news(ClusterNews::Changed(slices), fleet.now);
    fleet.now = fleet.now.plus(Duration::from_secs(10));
    fleet.tick();
    fleet
}

/// Unit: a slice of 100 pods of which one moves, while a snapshot is being written.
fn cluster(meter: &mut Meter) {
    let mut fleet = in_cluster();
    for moved in 1..=5 {
        let snapshot = fleet.graph.snapshot();
        let news = ClusterNews::Changed(vec![slice_of_pods(moved, 1 << 20)]);
        let now = fleet.now;
        meter.measure(1, || fleet.graph.take_cluster_news(news.clone(), now));
        drop(black_box(snapshot));
    }
}
