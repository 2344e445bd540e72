//! What taking in a million records costs: CPU of a real `weft-aggregator`, over real mTLS.
//!
//! `cargo build --release -p aggregator --bins --examples`, then
//! `target/release/examples/ingest_cost [EDGES [MILLION_RECORDS [ROUNDS_PER_SECOND]]]`.
//!
//! Without a pace the records come as fast as they are taken, and joining, settling and history,
//! which are done once a second, hardly count. At 1 round per second, which is how agents report,
//! they count in full.
//!
//! Two agents are played, one with the client's half of every edge and one with the server's. A
//! record has four counters and three histogram increments.
#![allow(clippy::print_stdout)]

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use bytes::Bytes;
use common::{COUNTERS, Counter, HistogramKind};
use hyper_util::rt::TokioIo;
use prost::Message as _;
use proto::{
    columns::Encoder,
    v1::{
        Address, AddressDefinition, AgentMessage, Batch, Definitions, HalfDefinition, Hello, Role,
        Section, SectionKind, WorkloadDefinition, WorkloadKind, agent_message::Body,
        aggregator_message, ingest_client::IngestClient,
    },
};
use rustls::pki_types::ServerName;
use tokio::{net::TcpStream, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Endpoint};

/// Halves in a batch.
const BATCH: u32 = 2000;
/// Batches on the way.
const IN_FLIGHT: u64 = 4;
const WORKLOADS: u32 = 100;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let edges: u32 = arguments.next().map_or(Ok(10_000), |text| text.parse())?;
    let millions: f64 = arguments.next().map_or(Ok(5.0), |text| text.parse())?;
    let pace: Option<f64> = arguments.next().map(|text| text.parse()).transpose()?;
    let folder = tempfile::tempdir()?;
    aggregator::pki::init(folder.path(), "weft.local", &[])?;
    let (child, address) = start(folder.path())?;
    let pid = child.0.id();

    let mut agents = Vec::new();
    for (name, role) in [("a", Role::Client), ("b", Role::Server)] {
        aggregator::pki::node(folder.path(), name)?;
        agents.push(Agent::connect(folder.path(), name, role, address, edges).await?);
    }
    // Links gather and settle before anything is measured.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let (cpu, begin) = (cpu_seconds(pid)?, Instant::now());
    let (mut records, mut bytes) = (0_u64, 0_u64);
    let mut rounds = 0_u32;
    while (records as f64) < millions * 1e6 {
        if let Some(pace) = pace {
            let due = begin + Duration::from_secs_f64(f64::from(rounds) / pace);
            tokio::time::sleep_until(due.into()).await;
            rounds += 1;
        }
        for agent in &mut agents {
            let (r, b) = agent.round().await?;
            records += r;
            bytes += b;
        }
    }
    for agent in &mut agents {
        agent.settle(0).await?;
    }
    let (cpu, wall) = (cpu_seconds(pid)? - cpu, begin.elapsed().as_secs_f64());
    let millions = records as f64 / 1e6;
    println!("edges                          {edges}");
    println!("records                        {records}");
    println!("CPU-seconds per million        {:.3}", cpu / millions);
    println!("records per second             {:.0}", records as f64 / wall);
    println!("bytes per record, before TLS   {:.1}", bytes as f64 / records as f64);
    println!("resident memory, MB            {:.1}", resident_mb(pid)?);
    Ok(())
}

/// Ends the aggregator however the program ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(folder: &Path) -> anyhow::Result<(Running, SocketAddr)> {
    let program = std::env::current_exe()?;
    let program = program.parent().and_then(Path::parent).context("no folder")?;
    let file = |name: &str| folder.join(name);
    let mut child = Command::new(program.join("weft-aggregator"))
        .args(["--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"])
        .arg("--data-dir")
        .arg(file("data"))
        .arg("--tls-client-ca")
        .arg(file("ca.crt"))
        .arg("--tls-cert")
        .arg(file("aggregator.crt"))
        .arg("--tls-key")
        .arg(file("aggregator.key"))
        .env("NO_COLOR", "1")
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start weft-aggregator; build it first")?;
    let log = child.stderr.take().context("no log")?;
    let child = Running(child);
    for line in BufReader::new(log).lines() {
        let line = line?;
        if let Some((_, rest)) = line.split_once("agents=") {
            let address = rest.split_whitespace().next().context("no address")?;
            return Ok((child, address.parse()?));
        }
    }
    anyhow::bail!("weft-aggregator ended")
}

struct Agent {
    to: mpsc::Sender<AgentMessage>,
    from: Streaming<proto::v1::AggregatorMessage>,
    batches: Vec<(u64, Bytes)>,
    seq: u64,
    acked: u64,
}

impl Agent {
    async fn connect(
        folder: &Path,
        name: &str,
        role: Role,
        address: SocketAddr,
        edges: u32,
    ) -> anyhow::Result<Self> {
        let tls = proto::tls::client_config(&proto::tls::Files {
            ca: folder.join("ca.crt"),
            cert: folder.join(format!("{name}.crt")),
            key: folder.join(format!("{name}.key")),
        })?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
        let connect = move |_| {
            let connector = connector.clone();
            async move {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                let name = ServerName::try_from("localhost").map_err(std::io::Error::other)?;
                Ok::<_, std::io::Error>(TokioIo::new(connector.connect(name, stream).await?))
            }
        };
        let endpoint = Endpoint::from_static("http://localhost");
        let channel = endpoint.connect_with_connector(tower::service_fn(connect)).await?;
        let (to, outgoing) = mpsc::channel(16);
        let hello = Hello {
            protocol_version: proto::PROTOCOL_VERSION,
            node: name.to_owned(),
            boot_id: vec![1; 16],
            session: 1,
            ..Default::default()
        };
        to.send(AgentMessage { body: Some(Body::Hello(hello)) }).await?;
        let mut client =
            IngestClient::new(channel).max_decoding_message_size(proto::MAX_MESSAGE_BYTES);
        let mut from = client.stream(ReceiverStream::new(outgoing)).await?.into_inner();
        from.message().await?.context("no welcome")?;
        let mut agent = Self { to, from, batches: Vec::new(), seq: 0, acked: 0 };
        for first in (0..edges).step_by(BATCH as usize) {
            let last = edges.min(first + BATCH);
            agent.send(define(role, first, last)).await?;
            agent.batches.push((u64::from(last - first), increments(first, last)?));
        }
        agent.settle(0).await?;
        Ok(agent)
    }

    /// One record for every half; returns how many there were, and their bytes.
    async fn round(&mut self) -> anyhow::Result<(u64, u64)> {
        let (mut records, mut bytes) = (0, 0);
        for at in 0..self.batches.len() {
            let (count, payload) = self.batches[at].clone();
            records += count;
            bytes += payload.len() as u64;
            self.send(Section { kind: SectionKind::Increments as u32, payload }).await?;
        }
        Ok((records, bytes))
    }

    async fn send(&mut self, section: Section) -> anyhow::Result<()> {
        self.settle(IN_FLIGHT).await?;
        self.seq += 1;
        let batch = Batch { seq: self.seq, sections: vec![section], ..Default::default() };
        Ok(self.to.send(AgentMessage { body: Some(Body::Batch(batch)) }).await?)
    }

    /// Waits until at most so many batches are on the way.
    async fn settle(&mut self, in_flight: u64) -> anyhow::Result<()> {
        while self.seq - self.acked > in_flight {
            let message = self.from.message().await?.context("the stream ended")?;
            if let Some(aggregator_message::Body::Ack(ack)) = message.body {
                self.acked = ack.seq;
            }
        }
        Ok(())
    }
}

fn define(role: Role, first: u32, last: u32) -> Section {
    let mut definitions = Definitions::default();
    for id in 1..=WORKLOADS {
        let side = if role == Role::Client { "client" } else { "server" };
        definitions.workloads.push(WorkloadDefinition {
            id,
            kind: WorkloadKind::Process.into(),
            name: format!("{side}-{id}"),
            ..Default::default()
        });
    }
    for edge in first..last {
        let [_, b, c, d] = edge.to_be_bytes();
        for (id, net) in [(edge * 2, 10), (edge * 2 + 1, 11)] {
            let address = Some(Address { ip: vec![net, b, c, d], scope: None });
            definitions.addresses.push(AddressDefinition { id, address });
        }
        let (client, server) = (edge * 2, edge * 2 + 1);
        let (workload, local, peer) = match role {
            Role::Client => (edge % WORKLOADS + 1, client, server),
            _ => (edge / WORKLOADS % WORKLOADS + 1, server, client),
        };
        definitions.halves.push(HalfDefinition {
            id: edge,
            workload,
            local,
            peer,
            server_port: 5000 + edge / (WORKLOADS * WORKLOADS),
            client_port: 0,
            role: role.into(),
        });
    }
    let payload = definitions.encode_to_vec().into();
    Section { kind: SectionKind::Definitions as u32, payload }
}

fn increments(first: u32, last: u32) -> anyhow::Result<Bytes> {
    let mut encoder = Encoder::new();
    for edge in first..last {
        let mut counters = [0; COUNTERS];
        let spread = u64::from(edge.wrapping_mul(2_654_435_761) >> 16);
        for (counter, value) in [
            (Counter::Connections, 1 + spread % 20),
            (Counter::Closed, 1 + spread % 20),
            (Counter::BytesSent, 100 + spread % 5000),
            (Counter::BytesReceived, 100 + spread % 5000),
        ] {
            counters[counter.index()] = value;
        }
        let bucket = 60 + (spread % 40) as u16;
        let buckets = HistogramKind::ALL
            .map(|kind| (kind, bucket + kind.index() as u16 * 10, 1 + spread % 20));
        encoder.push(edge, &counters, &buckets)?;
    }
    let mut payload = Vec::new();
    encoder.finish(&mut payload);
    Ok(payload.into())
}

fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit_once(')').context("no stat")?.1;
    let ticks: Vec<f64> =
        fields.split_whitespace().skip(11).take(2).flat_map(|text| text.parse()).collect();
    Ok(ticks.iter().sum::<f64>() / 100.0)
}

fn resident_mb(pid: u32) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no size")?;
    let kb: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kb / 1024.0)
}
