//! `/api/v1/topology` against what was sent.

use std::collections::HashMap;

use anyhow::Result;
use common::HistogramKind;
use serde::Deserialize;

use super::{Answer, Differences, Expected};
use crate::totals::{EdgeTotals, NUMBERS, Number};

#[derive(Deserialize)]
struct Topology {
    nodes: Vec<Node>,
    edges: Vec<Edge>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    name: String,
    namespace: String,
}

#[derive(Deserialize)]
struct Edge {
    source: String,
    target: String,
    server_port: u16,
    pending: bool,
    bytes_to_server: u64,
    bytes_to_client: u64,
    connections: u64,
    connections_open: u64,
    failed: Failed,
    resets: Resets,
    segments: u64,
    retransmits: u64,
    rtt_seconds: Count,
    connect_seconds: Count,
    lifetime_seconds: Count,
}

#[derive(Deserialize)]
struct Failed {
    refused: u64,
    timeout: u64,
    unreachable: u64,
    aborted: u64,
    local: u64,
}

#[derive(Deserialize)]
struct Resets {
    by_client: u64,
    by_server: u64,
}

#[derive(Deserialize)]
struct Count {
    count: u64,
}

impl Edge {
    /// In the order of [`Number::ALL`].
    const fn numbers(&self) -> [u64; NUMBERS] {
        [
            self.bytes_to_server,
            self.bytes_to_client,
            self.connections,
            self.failed.refused,
            self.failed.timeout,
            self.failed.unreachable,
            self.failed.aborted,
            self.failed.local,
            self.resets.by_client,
            self.resets.by_server,
            self.segments,
            self.retransmits,
            self.connections_open,
        ]
    }
}

/// Compares every edge; the window must reach back to the beginning.
pub fn compare_topology(expected: &Expected, answer: Answer<'_>) -> Result<Differences> {
    let topology: Topology = serde_json::from_reader(answer.body)?;
    let nodes: HashMap<&str, (&str, &str)> = topology
        .nodes
        .iter()
        .map(|node| (node.id.as_str(), (node.name.as_str(), node.namespace.as_str())))
        .collect();
    let mut differences = Differences::default();
    let (mut got, mut seen) = ([0; NUMBERS], 0_usize);
    for edge in &topology.edges {
        for (sum, value) in got.iter_mut().zip(edge.numbers()) {
            *sum += value;
        }
        let name = |id: &str| nodes.get(id).copied().unwrap_or(("?", ""));
        let (client, server) = (name(&edge.source), name(&edge.target));
        let found = expected.find(client, server, edge.server_port);
        let Some(totals) = found.and_then(|found| expected.edges.get(&found)) else {
            let (client, server, port) = (client.0, server.0, edge.server_port);
            differences.add(true, || format!("nobody sent this: {client} -> {server}:{port}"));
            continue;
        };
        seen += 1;
        compare(totals, edge, (client.0, server.0), &mut differences);
    }
    if seen < expected.edges.len() {
        let missing = expected.edges.len() - seen;
        differences.add(false, || format!("{missing} edges are missing"));
    }
    if !differences.is_empty() {
        differences.sums = Some((expected.sum(), got));
    }
    Ok(differences)
}

fn compare(totals: &EdgeTotals, edge: &Edge, name: (&str, &str), differences: &mut Differences) {
    let (client, server) = name;
    let mut check = |what: &str, wanted: u64, got: u64, rises: bool| {
        if wanted != got {
            differences.add(rises && got > wanted, || {
                format!("{client} -> {server}: {what}: expected {wanted}, got {got}")
            });
        }
    };
    for (number, got) in Number::ALL.into_iter().zip(edge.numbers()) {
        check(&format!("{number:?}"), totals.get(number), got, number != Number::Open);
    }
    for (kind, got) in [
        (HistogramKind::Rtt, &edge.rtt_seconds),
        (HistogramKind::Connect, &edge.connect_seconds),
        (HistogramKind::Lifetime, &edge.lifetime_seconds),
    ] {
        check(&format!("{kind:?}"), totals.histograms[kind.index()].count(), got.count, true);
    }
    check("pending", 0, edge.pending.into(), false);
}
