//! What becomes of batches.

use common::{Counter, HistogramKind, histogram::bucket_of_ns};
use proto::v1::{Definitions, Role, Section, SectionKind};
use tonic::Code;

use crate::{
    agent::{Agent, hello, section},
    fleet::{Fleet, eventually},
    reports::{client, columns, definitions, half, increments, server, status, totals, workload},
};

const CONNECTIONS: &str = concat!(
    "weft_edge_connections_total{client=\"web\",client_namespace=\"\",server=\"db\",",
    "server_namespace=\"\",server_port=\"5432\"}"
);

/// Two agents that have reported three connections of `web` to `db`.
async fn three_connections(fleet: &Fleet) -> (Agent, Agent) {
    let (mut a, _) = Agent::connect(fleet, "a", 1).await;
    let (mut b, _) = Agent::connect(fleet, "b", 1).await;
    a.report(vec![client(), totals(&[(Counter::Connections, 2), (Counter::BytesSent, 100)])]).await;
    let rtt = bucket_of_ns(1_000_000);
    let values = [(Counter::Connections, 1), (Counter::Closed, 3), (Counter::BytesReceived, 2000)];
    let buckets = [(HistogramKind::Rtt, rtt, 10), (HistogramKind::Connect, rtt, 3)];
    a.report(vec![columns(SectionKind::Increments, &[(1, &values, &buckets)])]).await;
    let values = [
        (Counter::Connections, 3),
        (Counter::Closed, 3),
        (Counter::BytesReceived, 100),
        (Counter::BytesSent, 2000),
    ];
    b.report(vec![status(), server(), totals(&values)]).await;
    (a, b)
}

/// The edge once it has settled.
async fn settled(fleet: &Fleet) -> serde_json::Value {
    fleet.edge("web", "db", |edge| edge["pending"] == false).await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_halves_are_one_edge_counted_once() {
    let fleet = Fleet::start().await;
    let _agents = three_connections(&fleet).await;
    let edge = settled(&fleet).await;
    assert_eq!(edge["seen_by"], "both");
    assert_eq!(edge["server_port"], 5432);
    assert_eq!(edge["protocol"], "tcp");
    assert_eq!(edge["connections"], 3);
    assert_eq!(edge["connections_open"], 0);
    assert_eq!(edge["bytes_to_server"], 100);
    assert_eq!(edge["bytes_to_client"], 2000);
    assert_eq!(edge["rtt_seconds"]["count"], 10);
    let p99 = edge["rtt_seconds"]["p99"].as_f64().unwrap();
    assert!((0.0009..0.0011).contains(&p99), "{p99}");
    assert_eq!(edge["connect_seconds"]["count"], 3);
    assert_eq!(edge["lifetime_seconds"]["count"], 0);
    assert!(edge["lifetime_seconds"]["p50"].is_null());
    for reason in ["refused", "timeout", "unreachable", "aborted", "local"] {
        assert_eq!(edge["failed"][reason], 0);
    }
    assert_eq!(edge["resets"], serde_json::json!({"by_client": 0, "by_server": 0}));

    eventually(async || fleet.series(CONNECTIONS).await.filter(|value| *value == 3.0)).await;
    let nodes = fleet.get("/api/v1/nodes").await.json();
    let b = &nodes["nodes"][1];
    assert_eq!(b["name"], "b");
    assert_eq!(b["version"], "1.2.3");
    assert_eq!(b["kernel"], "6.1.0-test");
    assert_eq!(b["connected"], true);
    assert_eq!(b["losses"]["halves_full"], 3);
    assert_eq!(b["programs"][1]["state"], "failed");
    assert_eq!(b["programs"][1]["reason"], "kernel too old");
    assert!(b["clock_skew_seconds"].as_f64().unwrap().abs() < 5.0);
    assert!(b["certificate_expires"].as_str().unwrap().ends_with('Z'));
    let topology = fleet.topology().await;
    assert_eq!(topology["coverage"]["inserts_refused"], 3);
    assert_eq!(topology["coverage"]["nodes_reporting"], 2);
    assert_eq!(topology["coverage"]["complete"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_batch_changes_nothing() {
    let fleet = Fleet::start().await;
    let (mut a, mut b) = three_connections(&fleet).await;
    settled(&fleet).await;
    let again = || vec![increments(&[(Counter::Connections, 5)])];
    let seq = a.report(again()).await;
    // Both sides say the same, so that nothing has to wait until the larger number holds.
    b.report(again()).await;
    fleet.edge("web", "db", |edge| edge["connections"] == 8).await;
    // On the same stream: the acknowledgement is repeated, and that is all.
    assert_eq!(a.send(seq, again()).await.unwrap(), seq);
    assert_eq!(a.send(1, again()).await.unwrap(), seq);
    drop(a);

    // On a new stream of the session, definitions count, numbers do not.
    let (mut a, welcome) = Agent::connect(&fleet, "a", 1).await;
    assert_eq!(welcome.acked_seq, seq);
    let replayed = vec![client(), totals(&[(Counter::Connections, 70)]), again().remove(0)];
    assert_eq!(a.send(1, replayed).await.unwrap(), seq);
    a.report(vec![increments(&[(Counter::Connections, 1)])]).await;
    b.report(vec![increments(&[(Counter::Connections, 1)])]).await;
    fleet.edge("web", "db", |edge| edge["connections"] == 9).await;
    assert_eq!(fleet.topology().await["coverage"]["batches_lost"], 0);
    assert_eq!(fleet.series("weft_aggregator_batches_replayed_total").await, Some(3.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reconnect_sends_totals_and_changes_nothing() {
    let fleet = Fleet::start().await;
    let (a, _b) = three_connections(&fleet).await;
    settled(&fleet).await;
    drop(a);
    let sent = [
        (Counter::Connections, 3),
        (Counter::Closed, 3),
        (Counter::BytesSent, 100),
        (Counter::BytesReceived, 2000),
    ];
    // Of the same session, and of a later one that kept the kernel's maps.
    for session in [1, 2] {
        let (mut a, welcome) = connect_when_free(&fleet, session).await;
        assert_eq!(welcome.acked_seq, if session == 1 { 2 } else { 0 });
        a.report(vec![client(), totals(&sent)]).await;
        a.report(vec![]).await;
        let edge = settled(&fleet).await;
        assert_eq!(edge["connections"], 3);
        assert_eq!(edge["bytes_to_client"], 2000);
    }
    assert_eq!(fleet.series(CONNECTIONS).await, Some(3.0));
}

/// Ends half 1.
fn retire() -> Section {
    let ended = Definitions { retired_halves: vec![1], ..Definitions::default() };
    section(SectionKind::Definitions, &ended)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preface_counts_as_a_whole_and_once() {
    let fleet = Fleet::start().await;
    let (mut b, _) = Agent::connect(&fleet, "b", 1).await;
    b.report(vec![server(), totals(&[(Counter::Connections, 20)])]).await;
    let connections = |count| totals(&[(Counter::Connections, count)]);
    // Twice: the first stream breaks before the last batch of the number.
    let (mut a, _) = Agent::connect(&fleet, "a", 1).await;
    a.preface(5, true, vec![client(), connections(12)]).await;
    fleet.edge("web", "db", |edge| edge["connections"] == 20).await;
    drop(a);
    let (mut a, welcome) = connect_when_free(&fleet, 1).await;
    assert_eq!(welcome.acked_seq, 0);
    a.preface(5, true, vec![client(), connections(12)]).await;
    a.preface(5, false, vec![status()]).await;
    assert_eq!(a.acknowledged().await.unwrap(), 5);
    // What the agent had to let go of in between is in the totals, and not missing.
    a.preface(9, false, vec![connections(17)]).await;
    assert_eq!(a.acknowledged().await.unwrap(), 9);
    assert_eq!(a.send(10, vec![increments(&[(Counter::Connections, 4)])]).await.unwrap(), 10);
    // Beyond what the server says: it shows that nothing is missing.
    fleet.edge("web", "db", |edge| edge["connections"] == 21).await;
    assert_eq!(fleet.topology().await["coverage"]["batches_lost"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_neither_ends_a_half_nor_begins_it_anew() {
    let fleet = Fleet::start().await;
    let (mut b, _) = Agent::connect(&fleet, "b", 1).await;
    b.report(vec![server(), totals(&[(Counter::Connections, 1)])]).await;
    let connections = |count| totals(&[(Counter::Connections, count)]);
    let (mut a, _) = Agent::connect(&fleet, "a", 1).await;
    // It ends, and comes again.
    a.report(vec![client(), connections(10)]).await;
    a.report(vec![retire()]).await;
    a.report(vec![client(), connections(3)]).await;
    fleet.edge("web", "db", |edge| edge["connections"] == 13).await;
    drop(a);
    let (mut a, welcome) = connect_when_free(&fleet, 1).await;
    assert_eq!(welcome.acked_seq, 3);
    for (seq, sections) in
        [(1, vec![client(), connections(10)]), (2, vec![retire()]), (3, vec![client()])]
    {
        a.send(seq, sections).await.unwrap();
    }
    a.report(vec![increments(&[(Counter::Connections, 1)])]).await;
    fleet.edge("web", "db", |edge| edge["connections"] == 14).await;
    // Totals of its second life.
    a.preface(9, false, vec![client(), connections(5)]).await;
    a.acknowledged().await.unwrap();
    fleet.edge("web", "db", |edge| edge["connections"] == 15).await;
}

/// Connects node `a` once its stream before has ended.
async fn connect_when_free(fleet: &Fleet, session: u64) -> (Agent, proto::v1::Welcome) {
    eventually(async || Agent::try_connect(fleet, "a", hello("a", session)).await.ok()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_stream_of_the_same_agent_takes_over() {
    let fleet = Fleet::start().await;
    let (mut old, _) = Agent::connect(&fleet, "a", 1).await;
    old.report(vec![client(), totals(&[(Counter::Connections, 1)])]).await;
    let (mut new, welcome) = Agent::connect(&fleet, "a", 1).await;
    assert_eq!(welcome.acked_seq, 1);
    assert_eq!(old.ended().await.code(), Code::Aborted);
    new.report(vec![client(), totals(&[(Counter::Connections, 2)])]).await;
    fleet.edge("web", "10.0.0.2", |edge| edge["connections"] == 2).await;
    assert_eq!(fleet.series("weft_aggregator_streams").await, Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_leaves_is_silent() {
    let fleet = Fleet::start_with(|config| config.expected_nodes = vec!["never".to_owned()]).await;
    let (a, _) = Agent::connect(&fleet, "a", 1).await;
    drop(a);
    let coverage = eventually(async || {
        let coverage = fleet.topology().await["coverage"].clone();
        (coverage["nodes_reporting"] == 0).then_some(coverage)
    })
    .await;
    assert_eq!(coverage["nodes_expected"], 2);
    assert_eq!(coverage["nodes_silent"], serde_json::json!(["a", "never"]));
    assert_eq!(fleet.series(r#"weft_node_connected{node="a"}"#).await, Some(0.0));
    assert_eq!(fleet.series(r#"weft_node_connected{node="never"}"#).await, Some(0.0));
    assert_eq!(fleet.series("weft_aggregator_streams").await, Some(0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_used_is_counted_and_what_cannot_be_read_ends_the_stream() {
    let fleet = Fleet::start().await;
    let (mut a, _) = Agent::connect(&fleet, "a", 1).await;
    let unknown = Section { kind: 4711, payload: vec![1, 2, 3].into() };
    let mut odd = definitions(
        vec![workload(1, "web"), workload(0, "nameless")],
        vec![half(1, 1, Role::Client, 5432), half(2, 9, Role::Client, 1)],
    );
    odd.retired_halves = vec![77];
    let records = columns(
        SectionKind::Increments,
        &[(1, &[(Counter::Connections, 1)], &[]), (2, &[(Counter::Connections, 1)], &[])],
    );
    a.report(vec![unknown, section(SectionKind::Definitions, &odd), records]).await;
    fleet.edge("web", "10.0.0.2", |edge| edge["connections"] == 1).await;
    for (series, value) in [
        ("weft_aggregator_sections_unknown_total", 1.0),
        ("weft_aggregator_definitions_refused_total", 2.0),
        ("weft_aggregator_records_undefined_total", 1.0),
        ("weft_aggregator_records_total", 2.0),
        (r#"weft_node_losses_total{node="a",cause="aggregator_records_undefined"}"#, 1.0),
    ] {
        assert_eq!(fleet.series(series).await, Some(value), "{series}");
    }

    // A number is left out: what was in it is missing, and shown to be.
    a.next += 3;
    a.report(vec![]).await;
    assert_eq!(fleet.topology().await["coverage"]["batches_lost"], 3);

    for kind in [SectionKind::Increments, SectionKind::Definitions, SectionKind::NodeStatus] {
        let (mut a, _) = connect_when_free(&fleet, 1).await;
        let garbage = Section { kind: kind as u32, payload: vec![0xff; 40].into() };
        let refused = a.send(a.next, vec![garbage]).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{kind:?}");
    }
    let (mut a, _) = connect_when_free(&fleet, 1).await;
    let large = vec![0; proto::MAX_MESSAGE_BYTES + 1];
    let large = Section { kind: SectionKind::Totals as u32, payload: large.into() };
    assert_eq!(a.send(a.next, vec![large]).await.unwrap_err().code(), Code::OutOfRange);
    let (mut a, _) = connect_when_free(&fleet, 1).await;
    assert_eq!(a.send(0, vec![]).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retired_half_has_said_its_last_word_in_the_same_batch() {
    let fleet = Fleet::start().await;
    let (mut a, _) = Agent::connect(&fleet, "a", 1).await;
    a.report(vec![client(), totals(&[(Counter::Connections, 1)])]).await;
    let retire = Definitions { retired_halves: vec![1], ..Default::default() };
    let retire = section(SectionKind::Definitions, &retire);
    a.report(vec![retire, increments(&[(Counter::Connections, 1)])]).await;
    fleet.edge("web", "10.0.0.2", |edge| edge["connections"] == 2).await;
    a.report(vec![increments(&[(Counter::Connections, 1)])]).await;
    assert_eq!(fleet.series("weft_aggregator_records_undefined_total").await, Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_stops_with_a_stream_open() {
    let fleet = Fleet::start().await;
    let (mut a, _) = Agent::connect(&fleet, "a", 1).await;
    let begin = std::time::Instant::now();
    let (ended, stopped) = tokio::join!(a.ended(), fleet.aggregator.stop());
    stopped.unwrap();
    assert_eq!(ended.code(), Code::Unavailable);
    assert!(begin.elapsed() < std::time::Duration::from_secs(4), "{:?}", begin.elapsed());
}
