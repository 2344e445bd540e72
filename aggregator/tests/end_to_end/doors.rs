//! Those who crowd the doors: they take neither the turns nor the places of others.

use std::{net::SocketAddr, path::Path, pin::pin, process::Command, sync::Arc, time::Duration};

use rustls::{ClientConnection, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::{
    agent::Agent,
    binary,
    fleet::{Fleet, eventually},
    restarts::Program,
};

/// The beginning of a handshake.
fn client_hello(fleet: &Fleet) -> Vec<u8> {
    let tls = proto::tls::client_config(&fleet.node("a")).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(Arc::new(tls), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// Says something from an address of this host, and no more.
async fn says(fleet: &Fleet, from: [u8; 4], what: &[u8]) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((from, 0))).unwrap();
    let mut stream = socket.connect(fleet.aggregator.grpc_address).await.unwrap();
    stream.write_all(what).await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn who_begins_a_handshake_and_no_more_keeps_nobody_out() {
    let fleet = Fleet::start().await;
    let hello = client_hello(&fleet);
    let mut crowd = Vec::new();
    // More than there are turns, with half a word.
    for _ in 0..300 {
        crowd.push(says(&fleet, [127, 0, 0, 1], &hello[..hello.len() / 2]).await);
    }
    let in_time = |node: &'static str, session| {
        timeout(Duration::from_millis(2500), Agent::connect(&fleet, node, session))
    };
    let (mut a, _) = in_time("a", 1).await.expect("half a word takes no turn");
    // As many as there are turns, with a whole one, from somewhere else.
    for _ in 0..300 {
        crowd.push(says(&fleet, [127, 0, 0, 2], &hello).await);
    }
    let _b = in_time("b", 2).await.expect("an address does not have all turns");
    a.report(vec![]).await;
    // They are sent away.
    let failed = "weft_aggregator_tls_handshakes_failed_total";
    eventually(async || fleet.series(failed).await.filter(|failed| *failed >= 300.0)).await;
    drop(crowd);
    let under_way = "weft_aggregator_tls_handshakes";
    eventually(async || fleet.series(under_way).await.filter(|left| *left == 0.0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_has_a_few_connections_and_keeps_the_one_it_uses() {
    let fleet = Fleet::start().await;
    let (mut agent, _) = Agent::connect(&fleet, "a", 1).await;
    let mut idle = Vec::new();
    for _ in 0..12 {
        let tls = proto::tls::client_config(&fleet.node("a")).unwrap();
        let stream = TcpStream::connect(fleet.aggregator.grpc_address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
        idle.push(connector.connect(name, stream).await.unwrap());
    }
    let ended = r#"weft_aggregator_connections_ended_total{reason="too_many"}"#;
    eventually(async || fleet.series(ended).await.filter(|ended| *ended == 5.0)).await;
    let closed = async |stream: &mut tokio_rustls::client::TlsStream<TcpStream>| {
        let mut said = Vec::new();
        timeout(Duration::from_secs(2), stream.read_to_end(&mut said)).await.is_ok()
    };
    assert!(closed(&mut idle[0]).await, "the oldest made room");
    assert!(!closed(&mut idle[11]).await, "the newest is there");
    agent.report(vec![]).await;
}

fn limit_files(program: &Program, limit: &str) {
    let pid = program.pid().to_string();
    let done = Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={limit}")]).status();
    assert!(done.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_file_descriptors_streams_go_on_and_others_wait() {
    let folder = tempfile::tempdir().unwrap();
    let dir: &Path = folder.path();
    binary::pki(dir);
    aggregator::pki::node(dir, "n2").unwrap();
    let program = Program::start(dir);
    let (mut a, _) = program.connect(dir, "n1").await;
    a.report(vec![]).await;
    limit_files(&program, "3:4096");
    let mut waiting = pin!(program.connect(dir, "n2"));
    assert!(timeout(Duration::from_secs(1), waiting.as_mut()).await.is_err());
    // Who is there notices nothing.
    a.report(vec![]).await;
    assert_eq!(program.said("connections of agents have to wait"), 1);
    limit_files(&program, "1024:4096");
    let (mut b, _) = waiting.await;
    b.report(vec![]).await;
    let delayed = r#"weft_aggregator_accepts_delayed_total{side="agents"}"#;
    let refused = program.series(delayed).await.unwrap();
    assert!((2.0..50.0).contains(&refused), "it neither gave up nor span: {refused}");
}
