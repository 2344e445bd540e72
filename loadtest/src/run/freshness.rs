//! How long until what was sent shows: an edge between two agents of its own.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use common::{COUNTERS, Counter};
use prost::Message as _;
use proto::{
    columns::Encoder,
    reconnect::Backoff,
    v1::{
        Address, AddressDefinition, AgentMessage, Batch, Definitions, HalfDefinition, Hello, Role,
        Section, SectionKind, WorkloadDefinition, WorkloadKind, agent_message::Body,
    },
};
use serde::Deserialize;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use crate::{
    agent::{Ends, Stream, open},
    check::fetch,
    fleet::Shared,
    pki::Authority,
    scenario::Scenario,
    server::Addresses,
    stats::Quantiles,
    totals::{EdgeTotals, Number},
};

pub const CLIENT: &str = "probe-client";
pub const SERVER: &str = "probe-server";
pub const PORT: u16 = 4_999;

/// What one connection of the probe carries each way.
const BYTES: u64 = 100;

const POLL: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(30);

/// Two agents with an edge between them, or none.
pub struct Probe {
    every: Duration,
    addresses: Addresses,
    since_ms: u64,
    ends: Vec<Stream>,
    sent: u64,
    seen_after: Vec<Duration>,
}

impl Probe {
    /// Connects and makes the edge known, when the scenario asks for it.
    pub async fn start(
        scenario: &Scenario,
        addresses: Addresses,
        since_ms: u64,
        authority: &Authority,
        shared: &Shared,
    ) -> Result<Self> {
        let every = scenario.check.freshness_every;
        ensure!(
            every.is_zero() || !scenario.kills(),
            "freshness is watched where nobody is killed"
        );
        let mut probe =
            Self { every, addresses, since_ms, ends: Vec::new(), sent: 0, seen_after: Vec::new() };
        if every.is_zero() {
            return Ok(probe);
        }
        for (name, role) in [(CLIENT, Role::Client), (SERVER, Role::Server)] {
            let hello = Hello {
                protocol_version: proto::PROTOCOL_VERSION,
                node: name.to_owned(),
                boot_id: vec![9; 16],
                session: 1,
                ..Hello::default()
            };
            let tls = authority.node(name)?;
            let bytes = Arc::clone(&shared.stats.bytes);
            let patience = Backoff::default().patience(false);
            let stream = open(Ends::to(addresses.agents), tls, bytes, hello, patience).await?;
            send(&stream, 1, vec![define(name, role)]).await?;
            probe.ends.push(stream);
        }
        Ok(probe)
    }

    /// Sends one connection every so often and looks when it shows.
    pub async fn run(mut self, mut stopping: watch::Receiver<bool>) -> Result<Self> {
        if self.every.is_zero() {
            return Ok(self);
        }
        while timeout(self.every, stopping.wait_for(|stop| *stop)).await.is_err() {
            self.sent += 1;
            let sections = increments()?;
            let begin = Instant::now();
            for end in &self.ends {
                send(end, 1 + self.sent, vec![sections.clone()]).await?;
            }
            while self.shown().await? < self.sent {
                if begin.elapsed() > PATIENCE {
                    bail!("connection {} of the probe did not show within 30 s", self.sent);
                }
                sleep(POLL).await;
            }
            self.seen_after.push(begin.elapsed());
        }
        Ok(self)
    }

    /// Connections that the API shows.
    async fn shown(&self) -> Result<u64> {
        let (readers, since_ms) = (self.addresses.readers, self.since_ms);
        let path = format!("/api/v1/topology?from={since_ms}");
        let found = tokio::task::spawn_blocking(move || {
            fetch(readers, &path, |answer| Ok(connections(&serde_json::from_reader(answer.body)?)))
        });
        Ok(found.await??.map_or(0, |fetched| fetched.value))
    }

    /// Of every connection but the first, which had to wait for its link to settle.
    pub fn freshness(&self) -> Option<Quantiles> {
        let rest = self.seen_after.get(1..)?;
        (!rest.is_empty()).then(|| super::quantiles(rest))
    }

    /// What the edge has counted, if there is one.
    pub fn totals(&self) -> Option<EdgeTotals> {
        let mut totals = EdgeTotals::default();
        totals.numbers[Number::Connections as usize] = self.sent;
        totals.numbers[Number::BytesToServer as usize] = self.sent * BYTES;
        totals.numbers[Number::BytesToClient as usize] = self.sent * BYTES;
        (self.sent > 0).then_some(totals)
    }
}

#[derive(Deserialize)]
struct Topology {
    nodes: Vec<Node>,
    edges: Vec<Edge>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    name: String,
}

#[derive(Deserialize)]
struct Edge {
    source: String,
    connections: u64,
}

fn connections(topology: &Topology) -> u64 {
    let client = topology.nodes.iter().find(|node| node.name == CLIENT);
    let Some(client) = client else { return 0 };
    let edge = topology.edges.iter().find(|edge| edge.source == client.id);
    edge.map_or(0, |edge| edge.connections)
}

async fn send(to: &Stream, seq: u64, sections: Vec<Section>) -> Result<()> {
    let batch = Batch { seq, sections, ..Batch::default() };
    let message = AgentMessage { body: Some(Body::Batch(batch)) };
    to.to.send(message).await.context("the probe's stream has ended")
}

fn define(name: &str, role: Role) -> Section {
    let address = |id: u32| AddressDefinition {
        id,
        address: Some(Address { ip: vec![11, 0, 0, id as u8], scope: None }),
    };
    let (local, peer) = if role == Role::Client { (1, 2) } else { (2, 1) };
    let definitions = Definitions {
        workloads: vec![WorkloadDefinition {
            id: 1,
            kind: WorkloadKind::Process.into(),
            name: name.to_owned(),
            ..WorkloadDefinition::default()
        }],
        addresses: vec![address(1), address(2)],
        halves: vec![HalfDefinition {
            id: 1,
            workload: 1,
            local,
            peer,
            server_port: PORT.into(),
            client_port: 0,
            role: role.into(),
            birth: 0,
        }],
        retired_halves: Vec::new(),
    };
    let payload = definitions.encode_to_vec().into();
    Section { kind: SectionKind::Definitions as u32, payload }
}

fn increments() -> Result<Section> {
    let mut counters = [0; COUNTERS];
    for (counter, value) in [
        (Counter::Connections, 1),
        (Counter::Closed, 1),
        (Counter::BytesSent, BYTES),
        (Counter::BytesReceived, BYTES),
    ] {
        counters[counter.index()] = value;
    }
    let mut encoder = Encoder::new();
    encoder.push(1, &counters, &[])?;
    let mut payload = Vec::new();
    encoder.finish(&mut payload);
    Ok(Section { kind: SectionKind::Increments as u32, payload: payload.into() })
}
