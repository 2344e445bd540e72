//! Names of containers that come late, and rules that change while the aggregator runs.

use std::fs;

use common::Counter;
use proto::v1::{self, ContainerName, ContainerNames, SectionKind, WorkloadKind};

use crate::{
    agent::{Agent, section},
    fleet::{Fleet, eventually},
    reports::{columns, status},
};

const ID: &str = "0123456789ab";

/// A container that talks to an address that nobody covers.
fn container() -> v1::Section {
    let workload = v1::WorkloadDefinition {
        id: 1,
        kind: WorkloadKind::Container.into(),
        name: ID.to_owned(),
        ..Default::default()
    };
    let address = |id, ip: [u8; 4]| v1::AddressDefinition {
        id,
        address: Some(v1::Address { ip: ip.to_vec(), scope: None }),
    };
    let half = v1::HalfDefinition {
        id: 1,
        workload: 1,
        local: 1,
        peer: 2,
        server_port: 443,
        client_port: 0,
        birth: 0,
        role: v1::Role::Client.into(),
    };
    let definitions = v1::Definitions {
        workloads: vec![workload],
        addresses: vec![address(1, [10, 0, 0, 1]), address(2, [192, 0, 2, 9])],
        halves: vec![half],
        retired_halves: Vec::new(),
    };
    section(SectionKind::Definitions, &definitions)
}

fn named(name: &str) -> v1::Section {
    let labels = [("compose.project", "shop"), ("compose.service", name)];
    let name = ContainerName {
        container: ID.to_owned(),
        kind: WorkloadKind::Container.into(),
        name: format!("shop-{name}-1"),
        namespace: String::new(),
        labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
    };
    section(SectionKind::ContainerNames, &ContainerNames { names: vec![name] })
}

const MOVED: &[(Counter, u64)] = &[(Counter::Connections, 1), (Counter::BytesSent, 100)];

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_comes_late_survives_a_restart() {
    let fleet = Fleet::start().await;
    let (mut a, _) = Agent::connect(&fleet, "a", 1).await;
    a.report(vec![status(), container(), columns(SectionKind::Totals, &[(1, MOVED, &[])])]).await;
    fleet.edge(ID, "192.0.2.9", |edge| edge["pending"] == false).await;
    a.report(vec![named("web")]).await;
    let edge = fleet.edge("web", "192.0.2.9", |edge| edge["bytes_to_server"] == 100).await;
    let topology = fleet.topology().await;
    let web = topology["nodes"].as_array().unwrap().iter().find(|node| node["name"] == "web");
    let web = web.unwrap();
    assert_eq!((&web["namespace"], &web["id"]), (&"shop".into(), &edge["source"]));
    // The series was published, and keeps its labels.
    let series = format!("weft_edge_connections_total{{client=\"{ID}\",client_namespace=\"\"");
    assert!(fleet.get("/metrics").await.body.contains(&series));
    drop(a);
    let fleet = fleet.restart(|_| {}).await;
    fleet.edge("web", "192.0.2.9", |_| true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_are_taken_in_when_their_file_changes() {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules.toml");
    fs::write(&rules, "[[networks]]\ncidr = '192.0.2.0/24'\nname = 'provider'\n").unwrap();
    let fleet = Fleet::start_with(|config| config.rules = Some(rules.clone())).await;
    let (mut a, _) = Agent::connect(&fleet, "a", 1).await;
    a.report(vec![
        status(),
        container(),
        named("web"),
        columns(SectionKind::Totals, &[(1, MOVED, &[])]),
    ])
    .await;
    fleet.edge("web", "provider", |_| true).await;
    // What makes no sense changes nothing.
    fs::write(&rules, "nonsense").unwrap();
    let text = "[[services]]\nkind = 'container'\nname = 'shop-*'\nservice = 'front'\n";
    fs::write(&rules, text).unwrap();
    eventually(async || {
        let topology = fleet.topology().await;
        let names: Vec<_> =
            topology["nodes"].as_array()?.iter().map(|node| node["name"].as_str()).collect();
        names.contains(&Some("front")).then_some(())
    })
    .await;
    a.report(vec![columns(SectionKind::Increments, &[(1, MOVED, &[])])]).await;
    fleet.edge("front", "192.0.2.9", |edge| edge["bytes_to_server"].as_u64() >= Some(100)).await;
}
