//! Two views of one edge make one edge.

use super::world::*;
use crate::{
    model::{HalfKey, Role, WorkloadKind},
    *,
};

const A: &str = "10.0.0.1";
const B: &str = "10.0.0.2";

/// `web` on `a` and `db` on `b`.
fn pair() -> (World, HalfIx, HalfIx) {
    let mut world = World::new();
    let (a, b) = (world.node("a", A), world.node("b", B));
    let client = world.client(a, "web", global(A), global(B), 5432);
    let server = world.server(b, "db", global(B), global(A), 5432);
    (world, client, server)
}

#[test]
fn two_halves_make_one_edge_and_count_once() {
    let (mut world, client, server) = pair();
    world.exchange(client, 100, 2000);
    world.exchange(server, 2000, 100);
    world.pass(3);
    assert_eq!(world.edges(), [row("web", "db", 5432, 1, 100, 2000)]);
    let edge = world.edge();
    assert_eq!((edge.seen_by, edge.pending, edge.connections_open), (SeenBy::Both, false, 1));
    assert!(world.view().coverage.complete);
}

#[test]
fn of_two_views_the_larger_number_holds_in_the_end() {
    let (mut world, client, server) = pair();
    world.add(client, &[(Counter::BytesSent, 90), (Counter::BytesReceived, 30)]);
    world.add(server, &[(Counter::BytesReceived, 100), (Counter::BytesSent, 20)]);
    world.add(client, &[(Counter::ResetSent, 2), (Counter::ResetReceived, 1)]);
    world.add(server, &[(Counter::ResetSent, 3), (Counter::ResetReceived, 1)]);
    world.pass(3);
    assert_eq!(published(&world), [row("web", "db", 5432, 0, 90, 20)]);
    world.pass(25);
    assert_eq!(published(&world), [row("web", "db", 5432, 0, 100, 30)]);
    assert_eq!(world.edges(), [row("web", "db", 5432, 0, 100, 30)]);
    let totals = world.edge().totals;
    assert_eq!(totals.get(Measure::ResetsByClient), 2);
    assert_eq!(totals.get(Measure::ResetsByServer), 3);
}

#[test]
fn each_side_adds_what_only_it_knows() {
    let (mut world, client, server) = pair();
    world.add(client, &[(Counter::Retransmits, 3), (Counter::FailedRefused, 1)]);
    world.add(client, &[(Counter::FailedTimeout, 2), (Counter::FailedUnreachable, 3)]);
    world.add(client, &[(Counter::FailedAborted, 4), (Counter::FailedLocal, 5)]);
    world.add(server, &[(Counter::Retransmits, 4)]);
    world.graph.add_bucket(client, HistogramKind::Rtt, 80, 2);
    world.graph.add_bucket(server, HistogramKind::Rtt, 90, 3);
    world.graph.add_bucket(client, HistogramKind::Connect, 85, 1);
    world.graph.add_bucket(client, HistogramKind::Lifetime, 200, 1);
    world.graph.add_bucket(server, HistogramKind::Lifetime, 201, 1);
    world.pass(3);
    let totals = world.edge().totals;
    assert_eq!(totals.get(Measure::Retransmits), 7);
    assert_eq!(totals.failures(), 15);
    assert_eq!(totals.get(Measure::FailedLocal), 5);
    let buckets = |kind| totals.histogram(kind).iter().collect::<Vec<_>>();
    assert_eq!(buckets(HistogramKind::Rtt), [(80, 2), (90, 3)]);
    assert_eq!(buckets(HistogramKind::Connect), [(85, 1)]);
    assert_eq!(buckets(HistogramKind::Lifetime), [(200, 1)]);
}

#[test]
fn segments_are_those_that_each_side_sent() {
    let (mut world, client, server) = pair();
    world.add(client, &[(Counter::SegmentsSent, 10), (Counter::SegmentsReceived, 7)]);
    world.add(server, &[(Counter::SegmentsSent, 8), (Counter::SegmentsReceived, 9)]);
    world.pass(25);
    assert_eq!(world.edge().totals.segments(), 18);
}

#[test]
fn a_client_alone_has_its_own_view() {
    let mut world = World::new();
    let a = world.node("a", A);
    let client = world.client(a, "web", global(A), global("198.51.100.7"), 443);
    world.exchange(client, 10, 20);
    world.add(client, &[(Counter::SegmentsSent, 3), (Counter::SegmentsReceived, 4)]);
    world.pass(11);
    assert_eq!(world.edges(), [row("web", "external 198.51.100.7", 443, 1, 10, 20)]);
    let edge = world.edge();
    assert_eq!((edge.seen_by, edge.totals.segments()), (SeenBy::Client, 7));
    assert_eq!(world.view().coverage.edges_one_sided, 0);
}

#[test]
fn a_server_alone_has_its_own_view() {
    let mut world = World::new();
    let b = world.node("b", B);
    let server = world.server(b, "db", global(B), global("203.0.113.9"), 5432);
    world.exchange(server, 20, 10);
    world.graph.add_bucket(server, HistogramKind::Lifetime, 200, 1);
    world.pass(11);
    assert_eq!(world.edges(), [row("external 203.0.113.9", "db", 5432, 1, 10, 20)]);
    let edge = world.edge();
    assert_eq!((edge.seen_by, edge.connections_open), (SeenBy::Server, 1));
    assert_eq!(edge.totals.histogram(HistogramKind::Lifetime).count(), 1);
}

#[test]
fn several_clients_of_one_address_share_one_server_half() {
    let mut world = World::new();
    let (a, b) = (world.node("a", A), world.node("b", B));
    let web = world.client(a, "web", global(A), global(B), 80);
    let job = world.client(a, "job", global(A), global(B), 80);
    let server = world.server(b, "api", global(B), global(A), 80);
    world.exchange(web, 100, 10);
    world.exchange(job, 200, 20);
    world.exchange(server, 15, 150);
    world.exchange(server, 17, 155);
    world.pass(3);
    assert_eq!(
        published(&world),
        [row("job", "api", 80, 1, 200, 20), row("web", "api", 80, 1, 100, 10)]
    );
    // What the server counted beyond the clients' sum goes to the largest, once it has lasted.
    world.pass(25);
    assert_eq!(
        world.edges(),
        [row("job", "api", 80, 1, 205, 22), row("web", "api", 80, 1, 100, 10)]
    );
}

#[test]
fn several_servers_of_one_port_share_one_client_half() {
    let mut world = World::new();
    let (a, b) = (world.node("a", A), world.node("b", B));
    let client = world.client(a, "web", global(A), global(B), 80);
    let one = world.half(b, "api1", Role::Server, global(B), global(A), 80, 40001);
    let two = world.half(b, "api2", Role::Server, global(B), global(A), 80, 40002);
    world.exchange(one, 10, 100);
    world.exchange(two, 30, 300);
    world.add(client, &[(Counter::Connections, 2), (Counter::BytesSent, 405)]);
    world.add(client, &[(Counter::BytesReceived, 40), (Counter::FailedTimeout, 1)]);
    world.pass(3);
    assert_eq!(
        published(&world),
        [row("web", "api1", 80, 1, 100, 10), row("web", "api2", 80, 1, 300, 30)]
    );
    world.pass(25);
    assert_eq!(
        world.edges(),
        [row("web", "api1", 80, 1, 100, 10), row("web", "api2", 80, 1, 305, 30)]
    );
    let failures: u64 = world.view().edges.iter().map(|edge| edge.totals.failures()).sum();
    assert_eq!(failures, 1);
    assert!(world.graph.take_questions(a).is_empty());
}

#[test]
fn several_processes_of_one_service_are_one_party() {
    let mut world = World::new();
    let (a, b) = (world.node("a", A), world.node("b", B));
    let mut workload = named(WorkloadKind::Process, "web");
    let mut halves = Vec::new();
    for pid in ["1", "2", "3"] {
        workload.labels.insert("pid".to_owned(), pid.to_owned());
        let workload = world.graph.intern_workload(a, workload.clone()).unwrap();
        let (local, peer) = (global(A), global(B));
        let role = Role::Client;
        let key = HalfKey { workload, local, peer, server_port: 80, client_port: 0, role };
        halves.push(world.graph.open_half(a, key, 0, world.now).unwrap());
    }
    let server = world.server(b, "api", global(B), global(A), 80);
    for half in halves {
        world.exchange(half, 1, 2);
        world.exchange(server, 2, 1);
    }
    world.pass(3);
    assert_eq!(world.edges(), [row("web", "api", 80, 3, 3, 6)]);
}

#[test]
fn open_connections_are_the_clients_while_it_reports() {
    let (mut world, client, server) = pair();
    world.add(client, &[(Counter::Connections, 3), (Counter::Adopted, 2), (Counter::Closed, 1)]);
    world.add(server, &[(Counter::Connections, 3), (Counter::Adopted, 2)]);
    world.pass(3);
    assert_eq!(world.edge().connections_open, 4);
    world.graph.retire_half(client, world.now);
    world.pass(1);
    assert_eq!(world.edge().connections_open, 5);
}
