//! Agents of another version than the aggregator's.

use common::Counter;
use prost::Message;
use proto::v1::{
    HostSignal, HostSignals, NodeStatus, Program, Role, Section, SectionKind, WorkloadDefinition,
};
use tonic::Code;

use crate::{
    agent::{Agent, hello, section},
    fleet::{Fleet, eventually},
    reports::{client, definitions, half, increments, server, totals, workload},
};

/// A field that this version has not heard of: number 99, a length and three bytes.
const UNHEARD_OF: [u8; 6] = [0x9a, 0x06, 3, 1, 2, 3];

/// A section with such a field.
fn later(kind: SectionKind, message: &impl Message) -> Section {
    let mut payload = message.encode_to_vec();
    payload.extend_from_slice(&UNHEARD_OF);
    Section { kind: kind as u32, payload: payload.into() }
}

const SENT: [(Counter, u64); 3] =
    [(Counter::Connections, 2), (Counter::BytesSent, 100), (Counter::BytesReceived, 50)];
const RECEIVED: [(Counter, u64); 3] =
    [(Counter::Connections, 2), (Counter::BytesSent, 50), (Counter::BytesReceived, 100)];

async fn must_be_exact(fleet: &Fleet) {
    fleet.edge("web", "db", |edge| edge["pending"] == false && edge["connections"] == 2).await;
    let nodes = fleet.get("/api/v1/nodes").await.json();
    for node in nodes["nodes"].as_array().unwrap() {
        assert_eq!(node["losses"].as_object().unwrap().len(), 0, "{node}");
    }
    assert_eq!(fleet.topology().await["coverage"]["complete"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_of_the_next_minor_version_is_understood_as_far_as_possible() {
    let fleet = Fleet::start().await;
    let mut hello = hello("a", 1);
    hello.protocol_minor = proto::PROTOCOL_MINOR + 1;
    hello.agent_version = "9.9.9".to_owned();
    let (mut a, welcome) = Agent::try_connect(&fleet, "a", hello).await.unwrap();
    let versions = (welcome.protocol_version, welcome.protocol_minor);
    assert_eq!(versions, (proto::PROTOCOL_VERSION, proto::PROTOCOL_MINOR));
    let (mut b, _) = Agent::connect(&fleet, "b", 1).await;
    b.report(vec![server(), totals(&RECEIVED)]).await;

    // A kind of workload, a host signal, a state of a program, a section and fields of later versions.
    let web = WorkloadDefinition { kind: 77, ..workload(1, "web") };
    let defined = definitions(vec![web], vec![half(1, 1, Role::Client, 5432)]);
    let signal = HostSignal { kind: 77, buckets: vec![1], counts: vec![2] };
    let program =
        |name: &str, state| Program { name: name.to_owned(), state, reason: String::new() };
    let status = NodeStatus {
        programs: vec![program("walk_tcp", 1), program("walk_udp", 77)],
        ..NodeStatus::default()
    };
    a.report(vec![
        later(SectionKind::NodeStatus, &status),
        later(SectionKind::Definitions, &defined),
        increments(&SENT),
        later(SectionKind::HostSignals, &HostSignals { signals: vec![signal] }),
        Section { kind: 77, payload: vec![0xff; 100].into() },
    ])
    .await;
    must_be_exact(&fleet).await;
    let unknown = fleet.series("weft_aggregator_sections_unknown_total").await;
    assert_eq!(unknown, Some(3.0));
    let nodes = fleet.get("/api/v1/nodes").await.json();
    assert_eq!(nodes["nodes"][0]["version"], "9.9.9");
    assert_eq!(nodes["nodes"][0]["programs"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_of_the_minor_version_before_is_as_good() {
    let fleet = Fleet::start().await;
    let old = |node| {
        let mut hello = hello(node, 1);
        hello.protocol_minor = 0;
        hello
    };
    let (mut a, _) = Agent::try_connect(&fleet, "a", old("a")).await.unwrap();
    let (mut b, _) = Agent::try_connect(&fleet, "b", old("b")).await.unwrap();
    b.report(vec![server(), totals(&RECEIVED)]).await;
    a.report(vec![client(), totals(&SENT)]).await;
    // It says nothing of what a half had counted that ends.
    let mut ended = definitions(Vec::new(), Vec::new());
    ended.retired_halves.push(1);
    a.report(vec![section(SectionKind::Definitions, &ended)]).await;
    must_be_exact(&fleet).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_be_understood_is_told_whom_to_upgrade() {
    let fleet = Fleet::start().await;
    for (version, older) in [
        (proto::PROTOCOL_VERSION - 1, "upgrade the agent"),
        (proto::PROTOCOL_VERSION + 1, "upgrade the aggregator"),
    ] {
        let mut hello = hello("a", 1);
        hello.protocol_version = version;
        let refused = Agent::try_connect(&fleet, "a", hello).await.err().unwrap();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(refused.message().ends_with(older), "{refused}");
    }
    let refused = "weft_aggregator_streams_refused_total{reason=\"protocol\"}";
    eventually(async || fleet.series(refused).await.filter(|count| *count == 2.0)).await;
    assert!(fleet.get("/api/v1/nodes").await.json()["nodes"].as_array().unwrap().is_empty());
}
