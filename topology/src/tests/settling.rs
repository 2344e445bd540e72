//! When a link settles, and what happens when better evidence comes later.

use super::world::*;
use crate::*;

const A: &str = "10.0.0.1";
const B: &str = "10.0.0.2";

#[test]
fn one_half_alone_is_pending_for_ten_seconds() {
    let mut world = World::new();
    let a = world.node("a", A);
    let client = world.client(a, "web", global(A), global("192.0.2.1"), 443);
    world.exchange(client, 1, 2);
    world.pass(9);
    assert!(world.edge().pending);
    assert!(world.series().is_empty());
    world.pass(1);
    assert!(!world.edge().pending);
    assert_eq!(world.series().len(), 1);
    assert_eq!(world.edges(), [row("web", "external 192.0.2.1", 443, 1, 1, 2)]);
}

#[test]
fn a_pending_edge_shows_at_once_and_only_where_now_is() {
    let mut world = World::new();
    let a = world.node("a", A);
    let begin = world.now;
    let client = world.client(a, "web", global(A), global("192.0.2.1"), 443);
    world.exchange(client, 1, 2);
    assert!(world.edge().pending);
    world.pass(7);
    let past = Window { from: begin, to: begin };
    assert!(world.graph.view(past, world.now).edges.is_empty());
}

#[test]
fn two_halves_settle_without_waiting_for_long() {
    let mut world = World::new();
    let (a, b) = (world.node("a", A), world.node("b", B));
    let client = world.client(a, "web", global(A), global(B), 80);
    world.exchange(client, 1, 2);
    world.pass(1);
    let server = world.server(b, "api", global(B), global(A), 80);
    world.exchange(server, 2, 1);
    world.pass(1);
    assert!(world.edge().pending);
    world.pass(2);
    assert!(!world.edge().pending);
    assert_eq!(world.edges(), [row("web", "api", 80, 1, 1, 2)]);
}

#[test]
fn what_one_side_alone_has_counted_stays_in_sight_when_the_link_settles() {
    let mut world = World::new();
    let (a, b) = (world.node("a", A), world.node("b", B));
    let client = world.client(a, "web", global(A), global(B), 80);
    let server = world.server(b, "api", global(B), global(A), 80);
    world.exchange(client, 100, 70);
    world.exchange(server, 50, 90);
    // A reset that was sent without a socket.
    world.add(client, &[(Counter::ResetReceived, 1)]);
    let mut settled_at = None;
    for second in 0..20 {
        let edge = world.edge();
        if !edge.pending {
            settled_at.get_or_insert(second);
        }
        let get = |measure| edge.totals.get(measure);
        assert_eq!(get(Measure::ResetsByServer), 1, "after {second} s");
        let bytes = (get(Measure::BytesToServer), get(Measure::BytesToClient));
        assert_eq!(bytes, (100, if second < 4 { 70 } else { 75 }), "after {second} s");
        if edge.pending {
            assert!(world.series().is_empty());
        } else if second < 7 {
            assert_eq!(world.series().values().next().unwrap().get(Measure::ResetsByServer), 0);
        }
        if second == 3 {
            // One side goes on, the other one catches up.
            world.add(client, &[(Counter::BytesReceived, 5)]);
            world.add(server, &[(Counter::BytesSent, 25), (Counter::BytesReceived, 5)]);
        }
        world.pass(1);
    }
    assert_eq!(settled_at, Some(2));
    assert_eq!(world.series().values().next().unwrap().get(Measure::ResetsByServer), 1);
    assert_eq!(published(&world), [row("web", "api", 80, 1, 100, 75)]);
}

#[test]
fn what_one_side_alone_counts_later_waits() {
    let mut world = World::new();
    let (a, b) = (world.node("a", A), world.node("b", B));
    let client = world.client(a, "web", global(A), global(B), 80);
    let server = world.server(b, "api", global(B), global(A), 80);
    world.exchange(client, 100, 70);
    world.exchange(server, 70, 100);
    world.pass(9);
    world.exchange(client, 9, 9);
    world.pass(4);
    assert_eq!(world.edges(), [row("web", "api", 80, 1, 100, 70)]);
    world.pass(7);
    assert_eq!(world.edges(), [row("web", "api", 80, 2, 109, 79)]);
}

#[test]
fn a_pending_edge_leaves_no_trace_where_it_was_guessed() {
    let mut world = World::new();
    let a = world.node("a", A);
    let client = world.client(a, "web", global(A), global(B), 80);
    world.exchange(client, 1, 2);
    world.pass(5);
    assert_eq!(world.edges(), [row("web", &format!("external {B}"), 80, 1, 1, 2)]);
    let b = world.node("b", B);
    let server = world.server(b, "api", global(B), global(A), 80);
    world.exchange(server, 2, 1);
    world.pass(3);
    assert_eq!(world.edges(), [row("web", "api", 80, 1, 1, 2)]);
    assert_eq!(world.series().len(), 1);
}

#[test]
fn better_evidence_gets_later_gains_and_takes_nothing_back() {
    let mut world = World::new();
    let a = world.node("a", A);
    let client = world.client(a, "web", global(A), global(B), 80);
    world.exchange(client, 100, 10);
    world.pass(12);
    let b = world.node("b", B);
    let server = world.server(b, "api", global(B), global(A), 80);
    world.add(server, &[(Counter::BytesReceived, 100), (Counter::BytesSent, 10)]);
    world.add(server, &[(Counter::Connections, 1)]);
    world.pass(3);
    world.exchange(client, 5, 1);
    world.exchange(server, 1, 5);
    world.pass(2);
    let external = format!("external {B}");
    assert_eq!(
        world.edges(),
        [row("web", "api", 80, 1, 5, 1), row("web", &external, 80, 1, 100, 10)]
    );
    // Connections that are open belong to the better edge alone.
    let view = world.view();
    let mut open: Vec<_> = view.edges.iter().map(|edge| edge.connections_open).collect();
    open.sort_unstable();
    assert_eq!(open, [0, 2]);
}

#[test]
fn series_of_equal_labels_are_one() {
    let mut world = World::new();
    let a = world.node("a", A);
    let peer = global("192.0.2.1");
    for kind in [model::WorkloadKind::Process, model::WorkloadKind::Container] {
        let workload = world.graph.intern_workload(a, named(kind, "web")).unwrap();
        let role = model::Role::Client;
        let local = global(A);
        let key = model::HalfKey { workload, local, peer, server_port: 80, client_port: 0, role };
        let half = world.graph.open_half(a, key, 0, world.now).unwrap();
        world.exchange(half, 1, 2);
    }
    world.pass(11);
    assert_eq!(world.edges().len(), 2);
    let series = world.series();
    assert_eq!(series.len(), 1);
    let totals = series.values().next().unwrap();
    assert_eq!(totals.get(Measure::Connections), 2);
    assert_eq!(world.graph.published().next().unwrap().connections_open(), 2);
}

#[test]
fn an_expired_series_comes_back_where_it_was() {
    let mut world = World::new();
    let a = world.node("a", A);
    let client = world.client(a, "web", global(A), global("192.0.2.1"), 443);
    world.add(client, &[(Counter::FailedTimeout, 3)]);
    world.pass(11);
    world.graph.retire_half(client, world.now);
    world.pass(3700);
    assert!(world.series().is_empty());
    world.pass(3700);
    assert_eq!(world.graph.stats().edges, 0);
    assert_eq!(world.graph.stats().links, 0);
    let client = world.client(a, "web", global(A), global("192.0.2.1"), 443);
    world.add(client, &[(Counter::FailedTimeout, 1)]);
    world.pass(11);
    let series = world.series();
    assert_eq!(series.values().next().unwrap().get(Measure::FailedTimeout), 4);
    assert_eq!(world.edge().totals.get(Measure::FailedTimeout), 1);
}

#[test]
fn an_open_connection_keeps_an_idle_edge() {
    let mut world = World::new();
    let a = world.node("a", A);
    let client = world.client(a, "web", global(A), global("192.0.2.1"), 443);
    world.exchange(client, 1, 2);
    world.pass(8000);
    assert_eq!(world.series().len(), 1);
    let edge = world.edge();
    assert_eq!((edge.connections_open, edge.totals.is_zero()), (1, true));
    assert_eq!(edge.seen_by, SeenBy::Client);
}

/// Client half on `a` towards `b`, which has told everything up to now.
fn towards_b() -> (World, NodeIx, HalfIx) {
    let mut world = World::new();
    let (a, b) = (world.node("a", A), world.node("b", B));
    world.graph.node_told(b, world.now, Stretch::Next, world.now);
    world.pass(30);
    let client = world.client(a, "web", global(A), global(B), 80);
    world.exchange(client, 1, 2);
    (world, b, client)
}

#[test]
fn a_side_that_its_host_is_late_to_tell_of_is_waited_for() {
    let (mut world, b, _) = towards_b();
    // It tells of ten seconds ago: there is more to come.
    let moment = world.now.minus(std::time::Duration::from_secs(10));
    world.graph.node_told(b, moment, Stretch::Next, world.now);
    world.pass(20);
    assert!(world.edge().pending && world.series().is_empty());
    let server = world.server(b, "api", global(B), global(A), 80);
    world.exchange(server, 2, 1);
    world.pass(3);
    assert_eq!(world.edges(), [row("web", "api", 80, 1, 1, 2)]);
    assert_eq!(world.series().len(), 1);
}

#[test]
fn nobody_is_waited_for_without_end() {
    let (mut world, b, _) = towards_b();
    world.graph.node_told(b, world.now, Stretch::Next, world.now);
    world.pass(11);
    assert_eq!(world.edges(), [row("web", "host b", 80, 1, 1, 2)], "it is not late");

    let (mut world, b, _) = towards_b();
    let moment = world.now.minus(std::time::Duration::from_secs(10));
    world.graph.node_heard(b, None, world.now);
    world.graph.node_told(b, moment, Stretch::Next, world.now);
    world.pass(59);
    assert!(world.edge().pending);
    world.pass(2);
    assert_eq!(world.edges(), [row("web", "host b", 80, 1, 1, 2)]);
}

/// It tells, each second, of what happened so long ago.
fn tell_late(world: &mut World, node: NodeIx, seconds: u64) {
    for _ in 0..seconds {
        let moment = world.now.minus(std::time::Duration::from_secs(90));
        world.graph.node_heard(node, None, world.now);
        world.graph.node_told(node, moment, Stretch::Next, world.now);
        world.pass(1);
    }
}

#[test]
fn a_host_that_is_far_behind_is_waited_for_while_it_tells() {
    let (mut world, b, _) = towards_b();
    tell_late(&mut world, b, 90);
    assert!(world.edge().pending && world.series().is_empty());
    let server = world.server(b, "api", global(B), global(A), 80);
    world.exchange(server, 2, 1);
    world.pass(3);
    assert_eq!(world.edges(), [row("web", "api", 80, 1, 1, 2)]);

    let (mut world, b, _) = towards_b();
    tell_late(&mut world, b, 599);
    assert!(world.edge().pending);
    tell_late(&mut world, b, 2);
    assert!(!world.edge().pending, "not without end");
}

#[test]
fn a_host_that_was_restarted_still_has_its_address() {
    let mut world = World::new();
    let a = world.node("a", A);
    let before = world.connect("b", incarnation(1, 1, 1)).unwrap();
    let b = before.node;
    let address = model::NodeAddress { address: global(B), network_namespace: ROOT };
    world.graph.set_addresses(b, vec![address]);
    world.graph.node_told(b, world.now, Stretch::Next, world.now);
    world.pass(30);
    world.graph.node_disconnected(before, world.now);
    world.connect("b", incarnation(2, 1, 2)).unwrap();
    let client = world.client(a, "web", global(A), global(B), 80);
    world.exchange(client, 1, 2);
    world.pass(20);
    assert!(world.edge().pending, "it has not caught up");
    let server = world.server(b, "api", global(B), global(A), 80);
    world.exchange(server, 2, 1);
    world.pass(3);
    assert_eq!(world.edges(), [row("web", "api", 80, 1, 1, 2)]);
}

#[test]
fn after_a_start_nobody_is_called_unknown_before_everybody_is_back() {
    const NEW: &str = "10.0.1.7";
    let mut world = World::new();
    world.node("a", A);
    world.node("b", B);
    world.pass(30);
    // Again and again before the second host is back, which has an address that nobody has heard of.
    for _ in 0..4 {
        world.graph.restarted(world.now);
        let a = world.connect("a", incarnation(1, 1, 1)).unwrap().node;
        let client = world.client(a, "web", global(A), global(NEW), 80);
        world.exchange(client, 1, 2);
        world.pass(50);
        assert!(world.edge().pending && world.series().is_empty());
    }
    let b = world.connect("b", incarnation(1, 1, 1)).unwrap().node;
    world.graph.node_told(b, world.now, Stretch::Next, world.now);
    let server = world.server(b, "api", global(NEW), global(A), 80);
    world.exchange(server, 2, 1);
    world.pass(3);
    assert_eq!(world.edges(), [row("web", "api", 80, 4, 4, 8)]);

    world.graph.restarted(world.now);
    let again = world.connect("a", incarnation(1, 1, 1)).unwrap();
    world.graph.node_told(again.node, world.now, Stretch::Next, world.now);
    let client = world.client(again.node, "web", global(A), global("10.0.1.8"), 80);
    world.exchange(client, 1, 2);
    world.pass(50);
    // Who has been back since does not count when he goes again.
    world.graph.node_disconnected(again, world.now);
    world.pass(9);
    assert!(world.series().keys().all(|(_, server, _)| server == "api"));
    world.pass(2);
    assert_eq!(world.series().len(), 2, "who is not back after a minute is not waited for");
}
