//! Readers who do not read.

use std::time::Duration;

use common::Counter;
use proto::v1::{Role, SectionKind};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::{
    agent::{Agent, section},
    fleet::{Fleet, eventually},
    reports::{columns, definitions, half, workload},
};

const EDGES: u32 = 1500;

/// Both sides of many edges, so that an answer is larger than what connections hold.
async fn many_edges(fleet: &Fleet) -> (Agent, Agent) {
    let (mut a, mut b) =
        (Agent::connect(fleet, "a", 1).await.0, Agent::connect(fleet, "b", 2).await.0);
    for (agent, name, role) in [(&mut a, "web", Role::Client), (&mut b, "db", Role::Server)] {
        let halves = (1..=EDGES).map(|id| half(id, 1, role, 1000 + id));
        let definitions = definitions(vec![workload(1, name)], halves.collect());
        let values = [(Counter::Connections, 1)];
        let records: Vec<_> = (1..=EDGES).map(|id| (id, &values[..], &[][..])).collect();
        agent
            .report(vec![
                section(SectionKind::Definitions, &definitions),
                columns(SectionKind::Totals, &records),
            ])
            .await;
    }
    eventually(async || {
        let text = fleet.get("/metrics").await.body;
        let edges = text.lines().filter(|line| line.starts_with("weft_edge_connections_total"));
        (edges.count() == EDGES as usize).then_some(())
    })
    .await;
    (a, b)
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_readers_are_cut_off_when_others_wait() {
    let fleet = Fleet::start().await;
    let _agents = many_edges(&fleet).await;
    let mut slow: Vec<TcpStream> = Vec::new();
    for _ in 0..4 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut stream = socket.connect(fleet.aggregator.http_address).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        // It begins, and then waits for a reader who does not take it.
        stream.read_exact(&mut [0; 16]).await.unwrap();
        slow.push(stream);
    }
    let all = timeout(Duration::from_secs(15), fleet.get("/metrics")).await.unwrap().body;
    let edges = all.lines().filter(|line| line.starts_with("weft_edge_connections_total"));
    assert_eq!(edges.count(), EDGES as usize);
    assert!(fleet.series("weft_aggregator_answers_cut_total").await >= Some(1.0));
    // Who was cut off is told so: the answer does not end as it should.
    let mut rest = Vec::new();
    let read = timeout(Duration::from_secs(5), slow[0].read_to_end(&mut rest)).await.unwrap();
    assert!(read.is_err() || !rest.ends_with(b"0\r\n\r\n"));
}
