//! One agent takes all it can get; the others must not notice.

use std::{net::Ipv4Addr, path::Path};

use common::{COUNTERS, Counter};
use proto::{
    columns::Encoder,
    v1::{Address, AddressDefinition, Definitions, HalfDefinition, Role, Section, SectionKind},
};
use serde_json::Value;

use crate::{
    agent::{Agent, section},
    binary,
    fleet::{Fleet, eventually},
    reports::{address, client, columns, definitions, half, increments, server, workload},
    restarts::{CONNECTIONS, Program, counted},
};

/// Halves in one batch.
const BATCH: u32 = 2_000;

/// Ids that are used before they begin again.
const IDS: u32 = 1_000_000;

/// What one peer is sent.
const BYTES: u64 = 10;

/// Halves with peers that no one has seen before, each with one connection. Ids that come again were not retired.
fn peers(first: u32) -> Vec<Section> {
    let mut definitions = Definitions::default();
    if first == 0 {
        definitions.workloads.push(workload(1, "scan"));
        definitions.addresses.push(AddressDefinition { id: 1, address: Some(address("10.6.6.6")) });
    }
    let mut encoder = Encoder::new();
    let mut counters = [0; COUNTERS];
    for (counter, value) in
        [(Counter::Connections, 1), (Counter::Closed, 1), (Counter::BytesSent, BYTES)]
    {
        counters[counter.index()] = value;
    }
    for number in first..first + BATCH {
        let ip = Ipv4Addr::from(0x1400_0000 + number).octets().to_vec();
        let (half, peer) = (1 + number % IDS, 2 + number % IDS);
        let address = Some(Address { ip, scope: None });
        definitions.addresses.push(AddressDefinition { id: peer, address });
        definitions.halves.push(HalfDefinition {
            id: half,
            workload: 1,
            local: 1,
            peer,
            server_port: 443,
            client_port: 0,
            role: Role::Client.into(),
            birth: 0,
        });
        encoder.push(half, &counters, &[]).unwrap();
    }
    let mut payload = Vec::new();
    encoder.finish(&mut payload);
    let totals = Section { kind: SectionKind::Totals as u32, payload: payload.into() };
    vec![section(SectionKind::Definitions, &definitions), totals]
}

/// Sum of a family over all edges of a client.
fn sum(metrics: &str, family: &str, client: &str) -> u64 {
    let labels = format!("{family}{{client=\"{client}\",");
    let lines = metrics.lines().filter(|line| line.starts_with(&labels));
    lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap() as u64).sum()
}

fn limits<'a>(nodes: &'a Value, name: &str) -> &'a Value {
    let mut nodes = nodes["nodes"].as_array().unwrap().iter();
    &nodes.find(|node| node["name"] == name).unwrap()["limits"]
}

async fn flood(agent: &mut Agent, begin: u32, peers_in_all: u32, acked: &mut u64) {
    for first in (begin..begin + peers_in_all).step_by(BATCH as usize) {
        agent.post(peers(first)).await;
        agent.catch_up(6, acked).await;
    }
    agent.catch_up(0, acked).await;
}

/// Reports of two agents while a third one names so many peers; then, after a crash, a few more.
async fn attack(dir: &Path, peers: u32, memory: &str) -> u64 {
    binary::pki(dir);
    for node in ["n2", "mallory"] {
        aggregator::pki::node(dir, node).unwrap();
    }
    // Each peer is an edge of its own, as many as there is room for.
    let peers_told = ["--max-external-peers", "1000000"];
    let settings = [["--max-memory-bytes", memory], ["--max-series", "2000"], peers_told].concat();
    let program = Program::start_with(dir, &settings);
    let (mut a, mut b) = (program.connect(dir, "n1").await.0, program.connect(dir, "n2").await.0);
    let (mut mallory, mut acked) = (program.connect(dir, "mallory").await.0, 0);
    flood(&mut mallory, 0, peers / 2, &mut acked).await;
    // They come when all room seems to be taken.
    a.report(vec![client(), increments(&counted(1))]).await;
    b.report(vec![server(), increments(&counted(1))]).await;
    let honest = async {
        for _ in 0..50 {
            let values = counted(1);
            a.report(vec![increments(&values)]).await;
            b.report(vec![increments(&values)]).await;
        }
    };
    tokio::join!(honest, flood(&mut mallory, peers / 2, peers / 2, &mut acked));

    eventually(async || program.series(CONNECTIONS).await.filter(|value| *value == 51.0)).await;
    let counts = async |program: &Program| {
        let metrics = program.get("/metrics").await.body;
        let of = |family| sum(&metrics, family, "scan");
        (of("weft_edge_connections_total"), of("weft_edge_bytes_total"))
    };
    let all = (u64::from(peers), u64::from(peers) * BYTES);
    eventually(async || (counts(&program).await == all).then_some(())).await;
    let nodes = program.get("/api/v1/nodes").await.json();
    let (offender, victim) = (limits(&nodes, "mallory"), limits(&nodes, "n1"));
    assert!(offender["halves_folded"].as_u64().unwrap() > 0, "{offender}");
    assert!(offender["edges_folded"].as_u64().unwrap() > 0, "{offender}");
    assert_eq!((&victim["halves_folded"], &victim["edges_folded"]), (&0.into(), &0.into()));
    let coverage = program.get("/api/v1/topology").await.json()["coverage"].clone();
    assert!(coverage["series_folded"].as_u64() > Some(0), "{coverage}");
    assert!(program.series("weft_aggregator_halves_folded_total").await > Some(0.0));
    let highest = program.highest_resident_bytes();
    drop(program);

    // What was folded is folded after a crash, too, and goes on.
    let program = Program::start_with(dir, &settings);
    eventually(async || (counts(&program).await == all).then_some(())).await;
    // It had much to read, and the next one is to have less.
    let is_snapshot = |name: std::ffi::OsString| name.to_string_lossy().starts_with("snapshot-");
    eventually(async || {
        let mut names =
            dir.join("data").read_dir().unwrap().map(|entry| entry.unwrap().file_name());
        names.any(is_snapshot).then_some(())
    })
    .await;
    highest.max(program.highest_resident_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_peers_stays_within_the_budget_and_costs_nobody_else_anything() {
    let folder = tempfile::tempdir().unwrap();
    let highest = attack(folder.path(), 300_000, "150MB").await;
    assert!(highest < 150_000_000, "{highest}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn ten_million_distinct_peers_stay_within_the_budget() {
    let folder = tempfile::tempdir().unwrap();
    let highest = attack(folder.path(), 10_000_000, "512MB").await;
    assert!(highest < 512_000_000, "{highest}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_faster_than_allowed_is_read_later_and_loses_nothing() {
    let fleet = Fleet::start_with(|config| config.budget.stream_bytes_per_second = 40_000).await;
    let (mut fast, _) = Agent::connect(&fleet, "fast", 1).await;
    let (mut a, mut b) =
        (Agent::connect(&fleet, "a", 1).await.0, Agent::connect(&fleet, "b", 1).await.0);
    a.report(vec![client(), increments(&counted(1))]).await;
    b.report(vec![server(), increments(&counted(1))]).await;
    // Some 70 kB each; four seconds' worth may come at once.
    let mut acked = 0;
    flood(&mut fast, 0, 6 * BATCH, &mut acked).await;
    fleet.edge("web", "db", |edge| edge["pending"] == false).await;
    eventually(async || {
        let metrics = fleet.get("/metrics").await.body;
        let connections = sum(&metrics, "weft_edge_connections_total", "scan");
        (connections == u64::from(6 * BATCH)).then_some(())
    })
    .await;
    let nodes = fleet.get("/api/v1/nodes").await.json();
    assert!(limits(&nodes, "fast")["held_up_seconds"].as_f64() > Some(0.0), "{nodes}");
    assert_eq!(limits(&nodes, "a")["held_up_seconds"].as_f64(), Some(0.0));
    assert!(fleet.series("weft_aggregator_streams_held_up_seconds_total").await > Some(0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_folded_is_told_again_without_being_counted_again() {
    let fleet = Fleet::start_with(|config| config.budget.max_halves = 32).await;
    let all: Vec<u32> = (1..=40).collect();
    let named = |ids: &[u32]| {
        let halves = ids.iter().map(|id| half(*id, 1, Role::Client, 1_000 + id)).collect();
        section(SectionKind::Definitions, &definitions(vec![workload(1, "web")], halves))
    };
    let each = |kind, ids: &[u32], connections: u64| {
        let values = [(Counter::Connections, connections), (Counter::BytesSent, connections)];
        let records: Vec<_> = ids.iter().map(|id| (*id, &values[..], &[][..])).collect();
        columns(kind, &records)
    };
    let (mut a, _) = Agent::connect(&fleet, "a", 1).await;
    a.report(vec![named(&all), each(SectionKind::Totals, &all, 10)]).await;
    a.report(vec![each(SectionKind::Increments, &all, 1)]).await;
    // Two end, one with a place of its own and one without.
    let (ended, live) = ([1, 40], &all[1..39]);
    let mut retired = definitions(Vec::new(), Vec::new());
    retired.retired_halves = ended.to_vec();
    let ends = || section(SectionKind::Definitions, &retired);
    a.report(vec![each(SectionKind::EndedTotals, &ended, 11), ends()]).await;
    drop(a);

    // The next process goes on with the same counters, and has counted more in the meantime; one more has ended.
    let (mut a, welcome) = Agent::connect(&fleet, "a", 2).await;
    assert_eq!(welcome.acked_seq, 0);
    a.preface(3, true, vec![named(live), each(SectionKind::Totals, live, 15)]).await;
    retired.retired_halves = vec![39];
    let last = vec![
        each(SectionKind::EndedTotals, &[39], 15),
        section(SectionKind::Definitions, &retired),
    ];
    a.preface(3, false, last).await;
    assert_eq!(a.acknowledged().await.unwrap(), 3);
    a.next = 4;
    let live = &all[1..38];
    a.report(vec![each(SectionKind::Increments, live, 1)]).await;
    // And once more, as when batches had to be let go: nothing is new but one connection each.
    a.preface(5, false, vec![named(live), each(SectionKind::Totals, live, 17)]).await;
    assert_eq!(a.acknowledged().await.unwrap(), 5);
    let expected = 2 * 11 + 15 + 37 * 17;
    eventually(async || {
        let metrics = fleet.get("/metrics").await.body;
        (sum(&metrics, "weft_edge_connections_total", "web") == expected).then_some(())
    })
    .await;
    let node = fleet.get("/api/v1/nodes").await.json()["nodes"][0].clone();
    assert_eq!(node["losses"].as_object().unwrap().len(), 0, "{node}");
    assert!(node["limits"]["halves_folded"].as_u64() > Some(0));
}
