//! What writing a step of the history costs, without the disk.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../../xtask/src/bench/harness.rs"]
mod harness;

use std::{collections::BTreeMap, net::Ipv4Addr, ops::Range, time::Duration};

use aggregator::history::InMemory;
use common::{Counter, HistogramKind};
use harness::{Case, Dice, Meter};
use topology::{
    AgentFacts, Config, Gained, Given, Graph, HalfIx, Incarnation, NodeIx, Timestamp,
    model::{Address, HalfKey, Role, Scope, Workload, WorkloadKind},
};

const CASES: &[Case] = &[
    ("history-first", |meter| write(meter, 0..1)),
    ("history-again", |meter| write(meter, 1..6)),
    ("history-minute", |meter| write(meter, 6..7)),
];

const NODES: u32 = 20;
const EDGES: u32 = 2_000;

fn main() {
    harness::run(CASES);
}

/// Unit: an edge of a step, which is written between services and between workloads on their hosts. In the first step all
/// names are new, in those after it all are known; before the seventh is, the minute is merged.
fn write(meter: &mut Meter, which: Range<usize>) {
    let given = steps();
    assert!(given.len() >= which.end);
    let mut history = InMemory::new().unwrap();
    for (at, step) in given.iter().enumerate().take(which.end) {
        let mut work = || assert!(history.write(step).unwrap() > 0);
        match which.contains(&at) {
            true => meter.measure(EDGES.into(), work),
            false => work(),
        }
    }
}

/// Clients of 100 servers, both on all hosts, of which both sides tell each second.
fn steps() -> Vec<Given> {
    let mut graph = Graph::new(Config { hand_over_steps: true, ..Config::default() });
    let mut now = Timestamp::from_unix_ns(43_200_000_000_000);
    let nodes: Vec<NodeIx> = (0..NODES)
        .map(|node| {
            let incarnation = Incarnation { boot_id: [1; 16], generation: 1, session: 1 };
            let facts = AgentFacts::default();
            graph.node_connected(&format!("node-{node}"), incarnation, facts, now).unwrap().node
        })
        .collect();
    let links: Vec<_> = (0..EDGES).map(|edge| open(&mut graph, &nodes, edge, now)).collect();
    let (mut dice, mut given) = (Dice(4711), Vec::new());
    for _ in 0..75 {
        report(&mut graph, &links, &mut dice);
        now = now.plus(Duration::from_secs(1));
        graph.tick(now);
        given.append(&mut graph.take_steps());
    }
    given
}

/// Both sides of an edge.
fn open(graph: &mut Graph, nodes: &[NodeIx], edge: u32, now: Timestamp) -> [HalfIx; 2] {
    let address = |number: u32| Address {
        ip: Ipv4Addr::from(0x0a00_0000 | number).into(),
        scope: Scope::Global,
    };
    let server = edge % 100;
    let ends = [(1_000 + edge / 5, 10_000 + edge), (server, server)];
    let sides = [(0, Role::Client), (1, Role::Server)];
    sides.map(|(side, role)| {
        let (name, own) = ends[side];
        let node = nodes[name as usize % nodes.len()];
        let workload = Workload {
            kind: WorkloadKind::Systemd,
            name: format!("svc-{name}"),
            namespace: format!("team-{}", name % 17),
            labels: BTreeMap::new(),
        };
        let workload = graph.intern_workload(node, workload).unwrap();
        let (local, peer) = (address(own), address(ends[1 - side].1));
        let key = HalfKey {
            workload,
            local,
            peer,
            server_port: 5_000 + (edge % 7) as u16,
            client_port: 0,
            role,
        };
        graph.open_half(node, key, 0, now).unwrap()
    })
}

/// Both sides of every link tell 4 counters and 3 samples.
fn report(graph: &mut Graph, links: &[[HalfIx; 2]], dice: &mut Dice) {
    let counters =
        [Counter::Connections, Counter::Closed, Counter::BytesSent, Counter::BytesReceived];
    // In the order of their indices, as bits are.
    let which = counters.iter().fold(0, |which, counter| which | 1 << counter.index());
    for halves in links {
        let bytes = [1_000 + dice.below(9_000), 1_000 + dice.below(90_000)];
        for (side, half) in halves.iter().enumerate() {
            let values = [1, 1, bytes[side], bytes[1 - side]];
            // Like two dice: most samples lie in the middle of some 60 buckets.
            let samples = [HistogramKind::Rtt, HistogramKind::Connect, HistogramKind::Lifetime]
                .map(|kind| (kind, 90 + (dice.below(32) + dice.below(32)) as u16, 1));
            let (half, values) = (*half, values.as_slice());
            graph.add_gained(&[Gained { half, which, values, samples: &samples }]);
        }
    }
}
