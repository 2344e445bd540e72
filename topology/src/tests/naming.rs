//! Who is at an address?

use super::world::*;
use crate::{
    model::{Address, HalfKey, NodeAddress, Role, Scope, WorkloadKind},
    *,
};

const A: &str = "10.0.0.1";
const B: &str = "10.0.0.2";
const POD: &str = "10.1.0.7";

/// A client on `a` whose attempts at an address all fail, so no half ever answers.
fn target(prepare: impl FnOnce(&mut World, NodeIx, NodeIx), peer: &str) -> String {
    let mut world = World::new();
    let (a, b) = (world.node("a", A), world.node("b", B));
    prepare(&mut world, a, b);
    let client = world.client(a, "web", global(A), global(peer), 80);
    world.add(client, &[(Counter::FailedRefused, 1)]);
    world.pass(11);
    let edges: Vec<_> = world.edges().into_iter().filter(|edge| edge.0 == "web").collect();
    assert_eq!(edges.len(), 1, "{edges:?}");
    edges[0].1.clone()
}

#[test]
fn a_listener_at_the_address_comes_first() {
    let name = target(
        |world, _, b| {
            world.listen(b, "any", "0.0.0.0", 80);
            world.listen(b, "exact", B, 80);
        },
        B,
    );
    assert_eq!(name, "exact");
}

#[test]
fn a_listener_at_every_address_serves_the_nodes_addresses() {
    assert_eq!(target(|world, _, b| world.listen(b, "any", "::", 80), B), "any");
    assert_eq!(target(|world, _, b| world.listen(b, "any", "0.0.0.0", 80), B), "any");
    assert_eq!(target(|world, _, b| world.listen(b, "any", "0.0.0.0", 81), B), "host b");
    assert_eq!(target(|world, a, _| world.listen(a, "any", "0.0.0.0", 80), B), "host b");
}

#[test]
fn a_listener_that_closed_serves_no_more() {
    let name = target(
        |world, _, b| {
            world.listen(b, "old", B, 80);
            world.listen(b, "new", B, 80);
            let new = world.listener(b, "new", B, 80);
            world.graph.set_listeners(b, [new]);
        },
        B,
    );
    assert_eq!(name, "new");
}

#[test]
fn two_services_at_one_port_tell_nothing() {
    let name = target(
        |world, _, b| {
            world.listen(b, "one", B, 80);
            world.listen(b, "two", B, 80);
        },
        B,
    );
    assert_eq!(name, "host b");
}

#[test]
fn server_halves_of_others_tell_who_serves_a_port() {
    let prepare = |world: &mut World, _, b| {
        let half = world.server(b, "api", global(B), global("10.0.0.3"), 80);
        world.exchange(half, 1, 1);
    };
    assert_eq!(target(prepare, B), "api");
}

#[test]
fn the_only_user_of_an_address_that_is_no_hosts_own() {
    let uses = |world: &mut World, b, name: &str| {
        world.client(b, name, global(POD), global("10.0.0.3"), 443);
    };
    assert_eq!(target(|world, _, b| uses(world, b, "pod"), POD), "pod");
    let two = |world: &mut World, _, b| {
        uses(world, b, "pod");
        uses(world, b, "sidecar");
    };
    assert_eq!(target(two, POD), format!("external {POD}"));
}

#[test]
fn the_only_user_of_a_hosts_own_address_is_still_not_the_host() {
    let prepare = |world: &mut World, _, b| {
        world.client(b, "cron", global(B), global("10.0.0.3"), 443);
    };
    assert_eq!(target(prepare, B), "host b");
}

#[test]
fn an_announced_address_outside_the_hosts_own_namespace_is_its_users() {
    let announce = |world: &mut World, b| {
        let at = |text, network_namespace| NodeAddress { address: global(text), network_namespace };
        world.graph.set_addresses(b, vec![at(B, ROOT), at(POD, 7)]);
        world.graph.set_host_namespace(b, Some(ROOT));
    };
    let used = |world: &mut World, _, b| {
        announce(world, b);
        world.client(b, "pod", global(POD), global("10.0.0.3"), 443);
    };
    assert_eq!(target(used, POD), "pod");
    assert_eq!(target(|world, _, b| announce(world, b), POD), "host b");
    assert_eq!(target(used, B), "host b");
}

#[test]
fn a_reboot_leaves_no_listener_behind() {
    let mut world = World::new();
    let (a, b) = (world.node("a", A), world.node("b", B));
    world.listen(b, "old", B, 80);
    world.pass(1);
    let refused = world.client(a, "web", global(A), global(B), 80);
    world.add(refused, &[(Counter::FailedRefused, 1)]);
    assert_eq!(world.edges()[0].1, "old");
    let old = world.connect("b", incarnation(1, 1, 1)).unwrap();
    world.graph.node_disconnected(old, world.now);
    world.connect("b", incarnation(2, 1, 1)).unwrap();
    assert_eq!(world.edges()[0].1, "host b");
}

#[test]
fn what_nobody_has_is_external() {
    assert_eq!(target(|_, _, _| {}, "192.0.2.1"), "external 192.0.2.1");
    assert_eq!(target(|_, _, _| {}, "2001:db8::1"), "external 2001:db8::1");
    assert_eq!(target(|_, _, _| {}, "::ffff:192.0.2.1"), "external 192.0.2.1");
}

#[test]
fn an_address_that_several_hosts_announce_is_nobodys() {
    let prepare = |world: &mut World, a, b| {
        for (node, own) in [(a, A), (b, B)] {
            let at = |text| NodeAddress { address: global(text), network_namespace: ROOT };
            world.graph.set_addresses(node, vec![at(own), at("172.17.0.1")]);
        }
    };
    assert_eq!(target(prepare, "172.17.0.1"), "external 172.17.0.1");
}

#[test]
fn a_workload_without_an_owner_is_named_after_its_node() {
    let mut world = World::new();
    let (a, b) = (world.node("a", A), world.node("b", B));
    let workload = world.graph.intern_workload(a, named(WorkloadKind::Host, "whatever")).unwrap();
    let (local, peer, role) = (global(A), global(B), Role::Client);
    let key = HalfKey { workload, local, peer, server_port: 80, client_port: 0, role };
    let client = world.graph.open_half(a, key, 0, world.now).unwrap();
    let server = world.server(b, "api", global(B), global(A), 80);
    world.exchange(client, 1, 2);
    world.exchange(server, 2, 1);
    world.pass(3);
    assert_eq!(world.edges(), [row("host a", "api", 80, 1, 1, 2)]);
}

#[test]
fn a_covered_hosts_client_that_stays_silent_is_the_host_and_one_sided() {
    let mut world = World::new();
    let (_, b) = (world.node("a", A), world.node("b", B));
    let server = world.server(b, "api", global(B), global(A), 80);
    world.exchange(server, 2, 1);
    world.pass(11);
    assert_eq!(world.edges(), [row("host a", "api", 80, 1, 1, 2)]);
    let coverage = world.view().coverage;
    assert_eq!((coverage.edges_one_sided, coverage.complete), (1, false));
}

#[test]
fn a_failed_attempt_is_not_one_sided() {
    let mut world = World::new();
    let (a, _) = (world.node("a", A), world.node("b", B));
    let client = world.client(a, "web", global(A), global(B), 80);
    world.add(client, &[(Counter::FailedRefused, 1)]);
    world.pass(11);
    assert_eq!(world.edge().totals.get(Measure::FailedRefused), 1);
    assert_eq!(world.view().coverage.edges_one_sided, 0);
}

#[test]
fn an_attempt_without_an_address_joins_the_clients_other_edge() {
    let mut world = World::new();
    let (a, b) = (world.node("a", A), world.node("b", B));
    let client = world.client(a, "web", global(A), global(B), 80);
    let server = world.server(b, "api", global(B), global(A), 80);
    let failed = world.client(a, "web", global("0.0.0.0"), global(B), 80);
    world.exchange(client, 1, 2);
    world.exchange(server, 2, 1);
    world.add(failed, &[(Counter::FailedLocal, 7)]);
    world.pass(11);
    let edge = world.edge();
    assert_eq!(edge.totals.get(Measure::FailedLocal), 7);
    assert_eq!(edge.totals.get(Measure::Connections), 1);
}

#[test]
fn loopback_stays_in_its_namespace_and_on_its_host() {
    let mut world = World::new();
    let (a, b) = (world.node("a", A), world.node("b", B));
    for (node, cookie, client, server) in
        [(a, 7, "web1", "db1"), (a, 8, "web2", "db2"), (b, 7, "web3", "db3")]
    {
        let client = world.client(node, client, loopback(cookie), loopback(cookie), 5432);
        let server = world.server(node, server, loopback(cookie), loopback(cookie), 5432);
        world.exchange(client, 1, cookie);
        world.exchange(server, cookie, 1);
    }
    world.pass(3);
    assert_eq!(
        world.edges(),
        [
            row("web1", "db1", 5432, 1, 1, 7),
            row("web2", "db2", 5432, 1, 1, 8),
            row("web3", "db3", 5432, 1, 1, 7)
        ]
    );
}

#[test]
fn nobody_on_loopback_is_the_host_unless_the_namespace_is_a_workloads_own() {
    let mut world = World::new();
    let a = world.node("a", A);
    for (name, cookie) in [("web", ROOT), ("pod", 7)] {
        let client = world.client(a, name, loopback(cookie), loopback(cookie), 81);
        world.add(client, &[(Counter::FailedRefused, 1)]);
    }
    world.pass(11);
    assert_eq!(world.edges(), [row("pod", "pod", 81, 0, 0, 0), row("web", "host a", 81, 0, 0, 0)]);
}

#[test]
fn the_same_name_on_several_hosts_is_one_service() {
    let mut world = World::new();
    let (a, b) = (world.node("a", A), world.node("b", B));
    let peer = global("192.0.2.1");
    let one = world.client(a, "web", global(A), peer, 443);
    let two = world.client(b, "web", global(B), peer, 443);
    world.exchange(one, 1, 10);
    world.exchange(two, 2, 20);
    world.pass(11);
    assert_eq!(world.edges(), [row("web", "external 192.0.2.1", 443, 2, 3, 30)]);
    let view = world.view();
    let web = view.nodes.iter().find(|node| node.name == "web").unwrap();
    assert_eq!(web.hosts, ["a", "b"]);
    assert_eq!(web.id, Id::of_node(WorkloadKind::Process, "", "web"));
}

#[test]
fn a_network_of_one_host_is_not_anothers() {
    let mut world = World::new();
    let (a, b) = (world.node("a", A), world.node("b", B));
    let bridge = |text| Address { ip: ip(text), scope: Scope::Network(3) };
    for (node, web, db, bytes) in [(a, "web1", "db1", 5), (b, "web2", "db2", 6)] {
        let client = world.client(node, web, bridge("172.18.0.2"), bridge("172.18.0.3"), 80);
        let server = world.server(node, db, bridge("172.18.0.3"), bridge("172.18.0.2"), 80);
        world.exchange(client, bytes, 0);
        world.exchange(server, 0, bytes);
    }
    world.pass(3);
    assert_eq!(world.edges(), [row("web1", "db1", 80, 1, 5, 0), row("web2", "db2", 80, 1, 6, 0)]);
}
