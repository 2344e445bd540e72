//! What `/metrics` costs in each of its formats, without what sending it takes.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../../xtask/src/bench/harness.rs"]
mod harness;

use std::{collections::BTreeMap, hint::black_box, net::Ipv4Addr, time::Duration};

use aggregator::exposition::{Format, Gzip, Scrape};
use common::{Counter, HistogramKind};
use harness::{Case, Dice, Meter};
use topology::{
    AgentFacts, Config, Gained, Graph, Incarnation, Timestamp,
    model::{Address, HalfKey, Role, Scope, Workload, WorkloadKind},
};

const CASES: &[Case] = &[
    ("scrape-text", |meter| scrape(meter, Format::Text, false)),
    ("scrape-text-gzip", |meter| scrape(meter, Format::Text, true)),
    ("scrape-native", |meter| scrape(meter, Format::Native, false)),
    ("scrape-native-gzip", |meter| scrape(meter, Format::Native, true)),
];

const EDGES: u32 = 1_000;

fn main() {
    harness::run(CASES);
}

/// Unit: an edge with 4 counters and 30 samples of each kind.
fn scrape(meter: &mut Meter, format: Format, gzip: bool) {
    let graph = graph();
    meter.measure(EDGES.into(), || {
        let scrape = Scrape::of(&graph, &[], format);
        let bytes: usize = match gzip {
            true => Gzip::new(scrape).map(|piece| black_box(piece).len()).sum(),
            false => scrape.map(|piece| black_box(piece).len()).sum(),
        };
        assert!(bytes > 10_000);
    });
}

/// Clients of 100 servers, which have told of what both sides saw.
fn graph() -> Graph {
    let mut graph = Graph::new(Config::default());
    let mut now = Timestamp::from_unix_ns(43_203_000_000_000);
    let incarnation = Incarnation { boot_id: [1; 16], generation: 1, session: 1 };
    let node = graph.node_connected("node", incarnation, AgentFacts::default(), now).unwrap().node;
    let mut dice = Dice(4711);
    for edge in 0..EDGES {
        let server = edge % 100;
        let ends = [(edge + 1_000, 10_000 + edge), (server, server)];
        let address = |number: u32| Address {
            ip: Ipv4Addr::from(0x0a00_0000 | number).into(),
            scope: Scope::Global,
        };
        let mut told = Vec::new();
        for (side, role) in [Role::Client, Role::Server].into_iter().enumerate() {
            let (name, own) = ends[side];
            let workload = Workload {
                kind: WorkloadKind::Systemd,
                name: format!("svc-{name}"),
                namespace: format!("team-{}", name % 17),
                labels: BTreeMap::new(),
            };
            let workload = graph.intern_workload(node, workload).unwrap();
            let (local, peer) = (address(own), address(ends[1 - side].1));
            let server_port = 5_000 + server as u16;
            let key = HalfKey { workload, local, peer, server_port, client_port: 0, role };
            told.push(graph.open_half(node, key, 0, now).unwrap());
        }
        let bytes = [1_000 + dice.below(90_000), 1_000 + dice.below(900_000)];
        for (side, half) in told.into_iter().enumerate() {
            let counters = [
                (Counter::BytesSent, bytes[side]),
                (Counter::BytesReceived, bytes[1 - side]),
                (Counter::Connections, 30),
                (Counter::Closed, 30),
            ];
            // Like two dice: most samples lie in the middle of some 60 buckets.
            let samples: Vec<_> = (0..30)
                .flat_map(|_| HistogramKind::ALL)
                .map(|kind| (kind, 90 + (dice.below(32) + dice.below(32)) as u16, 1))
                .collect();
            graph.add_gained(&[Gained { half, counters: &counters, samples: &samples }]);
        }
    }
    for _ in 0..30 {
        now = now.plus(Duration::from_secs(1));
        graph.tick(now);
    }
    graph
}
