//! What a snapshot costs: how long the graph is held, how long writing it takes, how large the bytes are, how long
//! reading takes.
//!
//! `cargo run --release -p topology --example snapshot_cost -- [EDGES]`
//!
//! Every edge has both halves, each with ten counters and 24 histogram buckets.
#![allow(clippy::print_stdout)]

use std::{
    collections::BTreeMap,
    error::Error,
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use topology::{
    AgentFacts, Config, Counter, Graph, HistogramKind, Incarnation, Timestamp,
    model::{Address, HalfKey, Role, Scope, Workload, WorkloadKind},
};

/// Edges of one client.
const PER_CLIENT: u32 = 100;

fn address(net: u8, number: u32) -> Address {
    let [_, b, c, d] = number.to_be_bytes();
    Address { ip: IpAddr::V4(Ipv4Addr::new(net, b, c, d)), scope: Scope::Global }
}

fn main() -> Result<(), Box<dyn Error>> {
    let edges: u32 = std::env::args().nth(1).map_or(Ok(10_000), |text| text.parse())?;
    let mut now = Timestamp::from_unix_ns(1_000_000_000_000);
    let mut graph = Graph::new(Config::default());
    for (name, role) in [("a", Role::Client), ("b", Role::Server)] {
        let incarnation = Incarnation { boot_id: [1; 16], generation: 1, session: 1 };
        let node = graph.node_connected(name, incarnation, AgentFacts::default(), now)?.node;
        for edge in 0..edges {
            let (client, server) = (edge / PER_CLIENT, edge % PER_CLIENT);
            let (own, net) = if role == Role::Client { (client, 10) } else { (server, 11) };
            let workload = Workload {
                kind: WorkloadKind::Process,
                name: format!("service-{net}-{own}"),
                namespace: String::new(),
                labels: BTreeMap::new(),
            };
            let workload = graph.intern_workload(node, workload)?;
            let (client, server) = (address(10, client), address(11, server));
            let (local, peer) =
                if role == Role::Client { (client, server) } else { (server, client) };
            let key = HalfKey { workload, local, peer, server_port: 443, client_port: 0, role };
            let half = graph.open_half(node, key, 0, now)?;
            for counter in Counter::ALL.into_iter().take(10) {
                graph.add(half, counter, u64::from(edge) * 1000);
            }
            for kind in HistogramKind::ALL {
                (100..108).for_each(|bucket| graph.add_bucket(half, kind, bucket, 1000));
            }
        }
    }
    for _ in 0..15 {
        now = now.plus(Duration::from_secs(1));
        graph.tick(now);
    }
    let (mut size, mut held, mut written) = (0, Vec::new(), Vec::new());
    for _ in 0..7 {
        let room = Vec::with_capacity(size + 4096);
        let begin = Instant::now();
        let snapshot = graph.snapshot();
        held.push(begin.elapsed());
        size = postcard::to_extend(&snapshot, room)?.len();
        written.push(begin.elapsed());
    }
    held.sort_unstable();
    written.sort_unstable();
    let bytes = postcard::to_stdvec(&graph.snapshot())?;
    let begin = Instant::now();
    let resumed = Graph::resume(Config::default(), postcard::from_bytes(&bytes)?);
    println!("published edges     {}", resumed.published().count());
    println!("bytes               {size}");
    println!("held, median        {:.3} ms", held[held.len() / 2].as_secs_f64() * 1e3);
    println!("held, worst of 7    {:.3} ms", held[held.len() - 1].as_secs_f64() * 1e3);
    println!("written, median     {:.1} ms", written[written.len() / 2].as_secs_f64() * 1e3);
    println!("reading             {:.1} ms", begin.elapsed().as_secs_f64() * 1e3);
    Ok(())
}
