//! Several owners behind one address on both sides: the client's host knows whose connection it
//! was.

use common::Counter;
use proto::v1::{HalfDefinition, Role, SectionKind, TupleOwner, TupleOwners};

use crate::{
    agent::{Agent, section},
    fleet::{Fleet, eventually},
    reports::{columns, definitions, half, workload},
};

#[tokio::test(flavor = "multi_thread")]
async fn the_clients_host_is_asked_whose_connection_it_was() {
    let fleet = Fleet::start().await;
    let (mut a, _) = Agent::connect(&fleet, "a", 1).await;
    let (mut b, _) = Agent::connect(&fleet, "b", 1).await;
    let one = [(Counter::Connections, 1)];
    let totals = || columns(SectionKind::Totals, &[(1, &one, &[]), (2, &one, &[])]);
    let clients = definitions(
        vec![workload(1, "cart"), workload(2, "search")],
        vec![half(1, 1, Role::Client, 80), half(2, 2, Role::Client, 80)],
    );
    a.report(vec![section(SectionKind::Definitions, &clients), totals()]).await;
    let single = |id, port| HalfDefinition { client_port: port, ..half(id, id, Role::Server, 80) };
    let servers = definitions(
        vec![workload(1, "blue"), workload(2, "green")],
        vec![single(1, 40_001), single(2, 40_002)],
    );
    b.report(vec![section(SectionKind::Definitions, &servers), totals()]).await;

    // It is asked although it has nothing to report.
    let mut asked = Vec::new();
    while asked.len() < 2 {
        asked.extend(a.question().await.tuples);
    }
    let owner = |tuple: proto::v1::Tuple| {
        assert_eq!(tuple.server_port, 80);
        let workload = if tuple.client_port == 40_001 { 1 } else { 2 };
        TupleOwner { tuple: Some(tuple), workload }
    };
    let owners = TupleOwners { owners: asked.into_iter().map(owner).collect() };
    a.report(vec![section(SectionKind::TupleOwners, &owners)]).await;
    eventually(async || {
        let topology = fleet.topology().await;
        let there = |client, server| {
            crate::fleet::find_edge(&topology, client, server)
                .is_some_and(|edge| edge["connections"] == 1)
        };
        let never = |client, server| !there(client, server);
        (there("cart", "blue")
            && there("search", "green")
            && never("cart", "green")
            && never("search", "blue"))
        .then_some(())
    })
    .await;
}
