//! What Grafana makes of the answers: frames of its own library.

use common::{Counter, HistogramKind};
use proto::v1::{AddressDefinition, Definitions, HalfDefinition, Role, SectionKind};

use crate::{
    agent::{Agent, section},
    fleet::{Fleet, eventually},
    reports::{address, columns, half, workload},
    tools::{GRAFANA, contract, tool},
};

/// Services in the graph, apart from what they all talk to.
const CROWD: u32 = 5_000;

/// An agent whose host has so many services, in 20 namespaces, each with an edge to the same database.
async fn crowd(fleet: &Fleet) -> Agent {
    let (mut agent, _) = Agent::connect(fleet, "crowd", 1).await;
    for from in (1..=CROWD).step_by(500) {
        let ids = || from..from + 500;
        let workloads = ids().map(|id| {
            let mut workload = workload(id, &format!("service \"{id}\" (ä)"));
            workload.namespace = format!("team-{}", id % 20);
            workload
        });
        let addresses = [(1, "10.0.0.1"), (2, "10.0.0.2")];
        let address = |(id, ip)| AddressDefinition { id, address: Some(address(ip)) };
        // Each on a port of its own: one address, and still one edge each.
        let halves: Vec<HalfDefinition> =
            ids().map(|id| half(id, id, Role::Client, 10_000 + id)).collect();
        let definitions = Definitions {
            workloads: workloads.collect(),
            addresses: addresses.map(address).into(),
            halves,
            retired_halves: Vec::new(),
        };
        let values = ids().map(|id| {
            let id = u64::from(id);
            [
                (Counter::Connections, id % 7),
                (Counter::BytesSent, 1_000 + id),
                (Counter::BytesReceived, 3 * id),
                (Counter::FailedTimeout, id % 3),
            ]
        });
        let values: Vec<_> = values.collect();
        let samples = [(HistogramKind::Rtt, 100, 3), (HistogramKind::Rtt, 140, 1)];
        let records: Vec<_> =
            ids().zip(&values).map(|(id, values)| (id, &values[..], &samples[..])).collect();
        let totals = columns(SectionKind::Totals, &records);
        agent.report(vec![section(SectionKind::Definitions, &definitions), totals]).await;
    }
    agent
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_makes_frames_that_the_panel_can_draw() {
    let Some(modules) = tool(GRAFANA) else { return };
    let fleet = Fleet::start().await;
    let address = format!("http://{}", fleet.aggregator.http_address);
    let _agent = crowd(&fleet).await;
    eventually(async || {
        let topology = fleet.topology().await;
        let edges = topology["edges"].as_array().unwrap();
        let settled = edges.iter().filter(|edge| edge["pending"] == false).count();
        (settled == CROWD as usize).then_some(())
    })
    .await;
    let said = contract(&address, &modules, None);
    assert!(said.starts_with("5001 nodes, 5000 edges"), "{said}");
}
