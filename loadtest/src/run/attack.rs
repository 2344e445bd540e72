//! Agents that tell of more than anybody has room for, beside a fleet that must not notice: one of ever new peers, one
//! of a scan of ports.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};

use anyhow::{Context, Result, bail, ensure};
use common::{COUNTERS, Counter};
use prost::Message as _;
use proto::{
    columns::Encoder,
    reconnect::Backoff,
    v1::{
        Address, AddressDefinition, AgentMessage, Batch, Definitions, HalfDefinition, Hello, Role,
        Section, SectionKind, WorkloadDefinition, WorkloadKind, agent_message,
        aggregator_message::Body,
    },
};
use tokio::{sync::watch, task::JoinSet};

use crate::{
    agent::{Ends, Stream, open},
    check::fetch,
    fleet::Shared,
    pki::Authority,
    scenario::{self, Scenario},
    server::Server,
    totals::{NUMBERS, Number},
};

/// Halves in one batch.
const BATCH: u32 = 2_000;

/// Batches on their way.
const IN_FLIGHT: u64 = 6;

/// Ids of halves and addresses that are used before they begin again.
const IDS: u32 = 200_000;

/// What one peer is sent.
const BYTES: u64 = 10;

/// Ports of one address that are tried before the next one.
const PORTS: u32 = 60_000;

/// Nodes and workloads are called this.
const OF_PEERS: &str = "peers";
const OF_PORTS: &str = "ports";

pub const NAMES: [&str; 2] = [OF_PEERS, OF_PORTS];

/// What all edges of a client have counted together, by its name.
pub type Sent = BTreeMap<&'static str, [u64; NUMBERS]>;

/// The attackers, or none.
pub struct Attack {
    attackers: Vec<Attacker>,
}

struct Attacker {
    name: &'static str,
    /// How many halves it tells of at most.
    most: u64,
    stream: Stream,
    /// The last batch that was sent, and that was acknowledged.
    seq: u64,
    acked: u64,
}

impl Attack {
    /// Connects, when the scenario asks for it.
    pub async fn start(
        scenario: &Scenario,
        server: &Server,
        authority: &Authority,
        shared: &Shared,
    ) -> Result<Self> {
        let scenario::Attack { peers, ports } = scenario.attack;
        ensure!(
            peers + ports == 0 || !scenario.kills(),
            "attackers do not come again after a kill"
        );
        let mut attackers = Vec::new();
        for (name, most) in [(OF_PEERS, peers), (OF_PORTS, ports)] {
            if most == 0 {
                continue;
            }
            let hello = Hello {
                protocol_version: proto::PROTOCOL_VERSION,
                protocol_minor: proto::PROTOCOL_MINOR,
                node: name.to_owned(),
                boot_id: vec![8; 16],
                session: 1,
                ..Hello::default()
            };
            let (tls, bytes) = (authority.node(name)?, Arc::clone(&shared.stats.bytes));
            let patience = Backoff::default().patience(false);
            let stream =
                open(Ends::to(server.addresses.agents), tls, bytes, hello, patience).await?;
            attackers.push(Attacker { name, most, stream, seq: 0, acked: 0 });
        }
        Ok(Self { attackers })
    }

    /// Tells of as much as it can until it is to stop; returns what all of it was.
    pub async fn run(self, stopping: watch::Receiver<bool>) -> Result<Sent> {
        let mut tasks = JoinSet::new();
        for attacker in self.attackers {
            tasks.spawn(attacker.run(stopping.clone()));
        }
        let mut sent = Sent::new();
        while let Some(done) = tasks.join_next().await {
            let (name, numbers) = done??;
            sent.insert(name, numbers);
        }
        Ok(sent)
    }
}

impl Attacker {
    async fn run(
        mut self,
        stopping: watch::Receiver<bool>,
    ) -> Result<(&'static str, [u64; NUMBERS])> {
        let mut told = 0_u64;
        while told < self.most && !*stopping.borrow() {
            let sections = if self.name == OF_PEERS { peers(told)? } else { ports(told)? };
            self.seq += 1;
            let batch = Batch { seq: self.seq, sections, ..Batch::default() };
            let message = AgentMessage { body: Some(agent_message::Body::Batch(batch)) };
            self.stream.to.send(message).await.context("an attacker's stream has ended")?;
            told += u64::from(BATCH);
            self.catch_up(IN_FLIGHT).await?;
        }
        self.catch_up(0).await?;
        let mut numbers = [0; NUMBERS];
        if self.name == OF_PEERS {
            numbers[Number::Connections as usize] = told;
            numbers[Number::BytesToServer as usize] = told * BYTES;
        } else {
            numbers[Number::FailedRefused as usize] = told;
        }
        Ok((self.name, numbers))
    }

    /// Waits until no more than so many batches are on their way.
    async fn catch_up(&mut self, left: u64) -> Result<()> {
        while self.seq - self.acked > left {
            match self.stream.from.message().await?.and_then(|message| message.body) {
                Some(Body::Ack(ack)) => self.acked = self.acked.max(ack.seq),
                Some(_) => {}
                None => bail!("the aggregator has ended an attacker's stream"),
            }
        }
        Ok(())
    }
}

/// Halves with peers that nobody has seen before, each with one connection. They never end.
fn peers(first: u64) -> Result<Vec<Section>> {
    let mut definitions = begin(OF_PEERS, first);
    let mut encoder = Encoder::new();
    let numbers = (first..).take(BATCH as usize).map(|number| number as u32);
    let counters = [(Counter::Connections, 1), (Counter::Closed, 1), (Counter::BytesSent, BYTES)];
    for (id, number) in numbers.map(|number| (1 + number % IDS, number)) {
        // Beyond the address of its own.
        let peer = 1 + id;
        definitions.addresses.push(address(peer, 0x1400_0000 + number));
        definitions.halves.push(half(id, peer, 443));
        push(&mut encoder, id, &counters)?;
    }
    Ok(vec![
        section(SectionKind::Definitions, &definitions),
        columns(SectionKind::Totals, &mut encoder),
    ])
}

/// Halves with ports that nobody has tried before, each refused. Those of the batch before end.
fn ports(first: u64) -> Result<Vec<Section>> {
    let mut definitions = begin(OF_PORTS, first);
    let mut encoder = Encoder::new();
    let refused = [(Counter::FailedRefused, 1)];
    let host = (first / u64::from(PORTS)) as u32;
    // Two batches of ids, in turn.
    let turn = (first / u64::from(BATCH) % 2) as u32;
    definitions.addresses.push(address(2, 0x3000_0000 + host));
    for at in 0..BATCH {
        let (id, port) = (1 + turn * BATCH + at, 1 + first as u32 % PORTS + at);
        definitions.halves.push(half(id, 2, port));
        push(&mut encoder, id, &refused)?;
    }
    let totals = columns(SectionKind::Totals, &mut encoder);
    let mut sections = vec![section(SectionKind::Definitions, &definitions), totals];
    if first > 0 {
        let ended: Vec<_> = (0..BATCH).map(|at| 1 + (1 - turn) * BATCH + at).collect();
        for id in &ended {
            push(&mut encoder, *id, &refused)?;
        }
        sections.push(columns(SectionKind::EndedTotals, &mut encoder));
        let ended = Definitions { retired_halves: ended, ..Definitions::default() };
        sections.push(section(SectionKind::Definitions, &ended));
    }
    Ok(sections)
}

/// The workload and its address, in the first batch.
fn begin(name: &str, first: u64) -> Definitions {
    let mut definitions = Definitions::default();
    if first == 0 {
        let (kind, name) = (WorkloadKind::Process.into(), name.to_owned());
        definitions.workloads.push(WorkloadDefinition { id: 1, kind, name, ..Default::default() });
        let own = if definitions.workloads[0].name == OF_PEERS { 1 } else { 2 };
        definitions.addresses.push(address(1, 0x0b01_0000 + own));
    }
    definitions
}

fn address(id: u32, ip: u32) -> AddressDefinition {
    let ip = Ipv4Addr::from(ip).octets().to_vec();
    AddressDefinition { id, address: Some(Address { ip, scope: None }) }
}

fn half(id: u32, peer: u32, server_port: u32) -> HalfDefinition {
    let role = Role::Client.into();
    HalfDefinition { id, workload: 1, local: 1, peer, server_port, client_port: 0, role, birth: 0 }
}

fn push(encoder: &mut Encoder, id: u32, values: &[(Counter, u64)]) -> Result<()> {
    let mut counters = [0; COUNTERS];
    values.iter().for_each(|(counter, value)| counters[counter.index()] = *value);
    Ok(encoder.push(id, &counters, &[])?)
}

fn columns(kind: SectionKind, encoder: &mut Encoder) -> Section {
    let mut payload = Vec::new();
    encoder.finish(&mut payload);
    Section { kind: kind as u32, payload: payload.into() }
}

fn section(kind: SectionKind, definitions: &Definitions) -> Section {
    Section { kind: kind as u32, payload: definitions.encode_to_vec().into() }
}

/// What is wrong with how nodes are named that wanted more than their share: each attacker is to be, and nobody else.
pub async fn offenders(server: &Server, sent: &Sent) -> Result<Option<String>> {
    let readers = server.addresses.readers;
    let fetched = tokio::task::spawn_blocking(move || {
        fetch(readers, "/api/v1/nodes", |answer| {
            Ok(serde_json::from_reader::<_, serde_json::Value>(answer.body)?)
        })
    });
    let Some(fetched) = fetched.await?? else { bail!("the aggregator does not tell of its nodes") };
    let nodes = fetched.value["nodes"].as_array().cloned().unwrap_or_default();
    let folded = |node: &serde_json::Value| {
        let of = |what: &str| node["limits"][what].as_u64().unwrap_or(0);
        of("halves_folded") + of("edges_folded") > 0
    };
    let named = nodes.iter().filter(|node| folded(node)).filter_map(|node| node["name"].as_str());
    let named: Vec<_> = named.map(str::to_owned).collect();
    let mut sorted = named.clone();
    sorted.sort_unstable();
    let wanted: Vec<_> = sent.keys().map(|name| (*name).to_owned()).collect();
    Ok((sorted != wanted).then(|| format!("{wanted:?} wanted too much, and {named:?} are named")))
}
