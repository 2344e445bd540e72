//! Why an edge is there: by which evidence, who saw it and when, and where its sides disagree.

use std::time::Duration;

use super::world::*;
use crate::{model::Role, *};

fn explained(world: &mut World) -> (ViewEdge, Explanation) {
    let edge = world.edge();
    let explanation = world.graph.explain(edge.id, world.now).unwrap();
    (edge, explanation)
}

fn meeting(world: &mut World) -> (ViewEdge, Meeting) {
    let (edge, explanation) = explained(world);
    assert_eq!((explanation.links.len(), explanation.links_left_out), (1, 0));
    (edge, explanation.links[0].clone())
}

#[test]
fn every_kind_of_evidence_is_told() {
    let ends = (global("10.0.0.1"), global("10.0.0.2"));
    let of = |prepare: &dyn Fn(&mut World)| {
        let mut world = World::new();
        let a = world.node("a", "10.0.0.1");
        let half = world.client(a, "web", ends.0, ends.1, 80);
        world.exchange(half, 100, 10);
        prepare(&mut world);
        world.pass(70);
        let (edge, meeting) = meeting(&mut world);
        assert_eq!(meeting.told.unwrap().1, edge.resolved_by);
        edge.resolved_by
    };
    let node_b = |world: &mut World| world.connect("b", incarnation(2, 1, 1)).unwrap().node;
    assert_eq!(of(&|_| {}), Basis::Address);
    let network = || Network::new(ip("10.0.0.0"), 24, "office".to_owned()).unwrap();
    assert_eq!(
        of(&|world| {
            world.graph.set_rules(Rules { networks: vec![network()], ..Rules::default() });
        }),
        Basis::Cidr
    );
    assert_eq!(of(&|world| _ = world.node("b", "10.0.0.2")), Basis::HostAddress);
    let user = |world: &mut World, role| {
        let b = node_b(world);
        let half = world.half(b, "db", role, ends.1, global("10.0.0.9"), 80, 0);
        world.pass(70);
        let _ = half;
    };
    assert_eq!(of(&|world| user(world, Role::Client)), Basis::WorkloadAddress);
    assert_eq!(of(&|world| user(world, Role::Server)), Basis::Served);
    assert_eq!(
        of(&|world| {
            let b = world.node("b", "10.0.0.2");
            world.listen(b, "db", "0.0.0.0", 80);
        }),
        Basis::Listener
    );
    assert_eq!(
        of(&|world| {
            let b = world.node("b", "10.0.0.2");
            let half = world.server(b, "db", ends.1, ends.0, 80);
            world.exchange(half, 10, 100);
        }),
        Basis::BothHalves
    );
}

#[test]
fn hosts_are_remembered_with_when_they_saw_it() {
    let mut world = World::new();
    let (a, b) = (world.node("a", "10.0.0.1"), world.node("b", "10.0.0.2"));
    let begin = world.now;
    let client = world.client(a, "web", global("10.0.0.1"), global("10.0.0.2"), 80);
    let server = world.server(b, "db", global("10.0.0.2"), global("10.0.0.1"), 80);
    world.exchange(client, 100, 10);
    world.exchange(server, 10, 100);
    world.pass(20);
    world.add(client, &[(Counter::BytesSent, 100)]);
    world.pass(1);
    let last = world.now;
    world.graph.retire_half(server, world.now);
    world.pass(5);
    let (_, explanation) = explained(&mut world);
    let told: Vec<_> = explanation
        .hosts
        .iter()
        .map(|seen| (seen.host.as_str(), seen.role, seen.first, seen.last, seen.watching))
        .collect();
    // A half that ends is looked at once more.
    let after = last.plus(Duration::from_secs(1));
    assert_eq!(told[0], ("a", Role::Client, begin, last, true));
    assert_eq!(told[1], ("b", Role::Server, begin, after, false));
    // When the halves and their link are forgotten, the edge still knows, after a restart, too.
    world.graph.retire_half(client, world.now);
    world.pass(100);
    let config = Config::default();
    world.graph = Graph::resume(config, world.graph.snapshot());
    let edge = Id::of_edge(
        Id::of_node(model::WorkloadKind::Process, "", "web"),
        Id::of_node(model::WorkloadKind::Process, "", "db"),
        80,
        PROTOCOL,
    );
    let explanation = world.graph.explain(edge, world.now).unwrap();
    assert!(explanation.links.is_empty());
    let hosts: Vec<_> = explanation.hosts.iter().map(|seen| seen.host.as_str()).collect();
    assert_eq!(hosts, ["a", "b"]);
    assert!(explanation.hosts.iter().all(|seen| !seen.watching && seen.first == begin));
    assert_eq!(world.graph.explain(Id::of_node(model::WorkloadKind::Pod, "", ""), world.now), None);
}

#[test]
fn what_the_sides_disagree_on_is_told() {
    let mut world = World::new();
    let (a, b) = (world.node("a", "10.0.0.1"), world.node("b", "10.0.0.2"));
    let client = world.client(a, "web", global("10.0.0.1"), global("10.0.0.2"), 80);
    world.exchange(client, 100, 10);
    world.pass(3);
    // Nothing of it has settled yet.
    let (edge, meeting_of_one) = meeting(&mut world);
    assert!(edge.pending && !meeting_of_one.settled && !meeting_of_one.both);
    let server = world.server(b, "db", global("10.0.0.2"), global("10.0.0.1"), 80);
    world.exchange(server, 10, 80);
    world.pass(30);
    let (edge, meeting) = meeting(&mut world);
    assert_eq!(edge.totals.get(Measure::BytesToServer), 100);
    assert!(meeting.both && !meeting.shared && meeting.settled);
    let difference = Difference { measure: Measure::BytesToServer, client: 100, server: 80 };
    assert_eq!(meeting.differences, [difference]);
    let spot = |address: &str| Some(Spot { address: address.to_owned(), within: None });
    assert_eq!((meeting.client, meeting.server), (spot("10.0.0.1"), spot("10.0.0.2")));
}

#[test]
fn what_was_counted_for_another_edge_before_is_said() {
    let mut world = World::new();
    let a = world.node("a", "10.0.0.1");
    let client = world.client(a, "web", global("10.0.0.1"), global("10.0.0.2"), 80);
    world.exchange(client, 100, 10);
    world.pass(12);
    let before = world.edge().id;
    let b = world.node("b", "10.0.0.2");
    let server = world.server(b, "db", global("10.0.0.2"), global("10.0.0.1"), 80);
    world.exchange(server, 10, 100);
    world.pass(12);
    world.exchange(client, 50, 0);
    world.pass(2);
    let explanation = world.graph.explain(before, world.now).unwrap();
    let meeting = &explanation.links[0];
    assert_eq!((meeting.told, meeting.both), (None, false));
    // What the sides disagree on is the other edge's.
    assert!(meeting.differences.is_empty());
    let after = world.view().edges.into_iter().find(|edge| edge.id != before).unwrap();
    let explanation = world.graph.explain(after.id, world.now).unwrap();
    assert!(explanation.links[0].both && !explanation.links[0].differences.is_empty());
}

#[test]
fn asking_moves_no_time() {
    let mut world = World::new();
    let a = world.node("a", "10.0.0.1");
    let client = world.client(a, "web", global("10.0.0.1"), global("10.0.0.2"), 80);
    world.exchange(client, 100, 10);
    world.pass(12);
    let edge = world.edge().id;
    let (clock, first) = (world.graph.clock(), world.graph.remembered_from());
    assert!(world.graph.explain(edge, world.now.plus(Duration::from_secs(3600))).is_some());
    assert_eq!((world.graph.clock(), world.graph.remembered_from()), (clock, first));
}

#[test]
fn other_addresses_of_the_ends_are_told() {
    let (outer, web) = (global("10.0.0.2"), global("10.0.0.1"));
    let inner = model::Address { ip: ip("172.17.0.2"), scope: model::Scope::Network(7) };
    let mut world = World::new();
    let (a, b) = (world.node("a", "10.0.0.1"), world.node("b", "10.0.0.2"));
    let client = world.client(a, "web", web, outer, 8080);
    let server = world.server(b, "api", inner, web, 80);
    world.exchange(client, 100, 10);
    world.exchange(server, 10, 100);
    let told = model::Ends { client: web, server: outer, server_port: 8080 };
    world.graph.add_translations(server, [told], world.now);
    world.pass(3);
    let (_, meeting) = meeting(&mut world);
    let spot = |address: &str, within: Option<&str>| Spot {
        address: address.to_owned(),
        within: within.map(str::to_owned),
    };
    assert_eq!(meeting.client, Some(spot("10.0.0.1", None)));
    assert_eq!(meeting.server, Some(spot("172.17.0.2", Some("b"))));
    assert_eq!(meeting.server_port, 80);
    assert_eq!(meeting.also, [(Role::Server, spot("10.0.0.2", None), Some(8080))]);
}

#[test]
fn clients_behind_one_address_are_told_by_their_own() {
    let db_at = global("10.0.0.2");
    let mut world = World::new();
    let (a, b) = (world.node("a", "10.0.0.1"), world.node("b", "10.0.0.2"));
    let web = world.client(a, "web", global("10.244.0.5"), db_at, 5432);
    let job = world.client(a, "job", global("10.244.0.6"), db_at, 5432);
    let db = world.server(b, "db", db_at, global("10.0.0.1"), 5432);
    let told = model::Ends { client: global("10.0.0.1"), server: db_at, server_port: 5432 };
    for (half, sent, received) in [(web, 100, 10), (job, 30, 3), (db, 13, 130)] {
        world.exchange(half, sent, received);
    }
    world.add(db, &[(Counter::Connections, 1)]);
    for half in [web, job] {
        world.graph.add_translations(half, [told], world.now);
    }
    world.pass(20);
    let view = world.view();
    for (name, address) in [("web", "10.244.0.5"), ("job", "10.244.0.6")] {
        let is_its = |id| view.nodes.iter().any(|node| node.id == id && node.name == name);
        let edge = view.edges.iter().find(|edge| is_its(edge.source)).unwrap();
        let explanation = world.graph.explain(edge.id, world.now).unwrap();
        let meeting = &explanation.links[0];
        assert_eq!(meeting.client.as_ref().unwrap().address, address);
        let also: Vec<_> = meeting.also.iter().map(|(_, spot, _)| spot.address.as_str()).collect();
        assert_eq!((meeting.shared, also), (true, vec!["10.0.0.1"]));
    }
}

#[test]
fn of_many_hosts_both_sides_are_told_and_of_many_links_the_busiest() {
    let mut world = World::new();
    let b = world.node("b", "10.0.1.1");
    for n in 0..60_u8 {
        let own = format!("10.0.0.{n}");
        let a = world.node(&format!("a{n:02}"), &own);
        let client = world.client(a, "web", global(&own), global("10.0.1.1"), 80);
        let server = world.server(b, "db", global("10.0.1.1"), global(&own), 80);
        let bytes = 1000 + u64::from(n);
        // At one they disagree.
        world.exchange(client, bytes + u64::from(n == 7), 0);
        world.exchange(server, 0, bytes);
    }
    world.pass(20);
    let (_, explanation) = explained(&mut world);
    assert_eq!((explanation.hosts.len(), explanation.hosts_left_out), (51, [10, 0]));
    assert!(explanation.hosts.iter().all(|seen| seen.watching));
    assert_eq!(explanation.hosts[49].host, "a49");
    assert_eq!(explanation.hosts[50].role, Role::Server);
    assert_eq!((explanation.links.len(), explanation.links_left_out), (50, 10));
    let client = |at: usize| explanation.links[at].client.clone().unwrap().address;
    assert_eq!(
        (client(0), client(1), client(49)),
        ("10.0.0.7".into(), "10.0.0.59".into(), "10.0.0.11".into())
    );
}

#[test]
fn of_very_many_links_not_all_are_looked_at() {
    let mut world = World::new();
    let network = Network::new(ip("10.1.0.0"), 16, "office".to_owned()).unwrap();
    world.graph.set_rules(Rules { networks: vec![network], ..Rules::default() });
    let a = world.node("a", "10.0.0.1");
    // Of somebody else, before them all.
    let other = world.client(a, "job", global("10.0.0.1"), global("192.0.2.1"), 81);
    world.exchange(other, 1, 1);
    for n in 0..10_020_u32 {
        let peer = global(&format!("10.1.{}.{}", n / 250, n % 250));
        let half = world.client(a, "web", global("10.0.0.1"), peer, 80);
        world.exchange(half, 100, 10);
    }
    for settled in [false, true] {
        world.pass(if settled { 11 } else { 1 });
        let edges = world.view().edges;
        let edge = edges.iter().find(|edge| edge.server_port == 80).unwrap();
        let explanation = world.graph.explain(edge.id, world.now).unwrap();
        assert_eq!(explanation.links[0].settled, settled);
        let links = (explanation.links.len(), explanation.links_left_out);
        assert_eq!((links, explanation.hosts.len()), ((50, 9_970), 1));
    }
}
