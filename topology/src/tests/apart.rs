//! Servers behind one address, whose connections have to be told apart.

use super::world::*;
use crate::{
    model::{Endpoint, Ends, Role},
    *,
};

const A: &str = "10.0.0.1";
const B: &str = "10.0.0.2";
const D: &str = "10.0.0.3";
const VIP: &str = "10.96.0.10";
const POD: &str = "10.244.0.5";

fn ends(client: &str, server: &str, server_port: u16) -> Ends {
    Ends { client: global(client), server: global(server), server_port }
}

/// A service address that leads to two servers, and the nodes of the clients and of both.
struct Virtual {
    world: World,
    nodes: [NodeIx; 3],
}

impl Virtual {
    fn new() -> Self {
        let mut world = World::new();
        let nodes = [world.node("a", A), world.node("b", B), world.node("d", D)];
        Virtual { world, nodes }
    }

    /// One that a client has used, whose address others may come from, too.
    fn used() -> (Self, HalfIx) {
        let mut service = Virtual::new();
        let web = service.client("web", A);
        service.world.exchange(web, 100, 10);
        service.servers(["one", "two"], A, 0);
        service.world.pass(1);
        (service, web)
    }

    fn client(&mut self, name: &str, from: &str) -> HalfIx {
        let world = &mut self.world;
        let half = world.client(self.nodes[0], name, global(from), global(VIP), 80);
        let told = [ends(from, B, 8080), ends(from, D, 8080)];
        world.graph.add_translations(half, told, world.now);
        half
    }

    fn servers(&mut self, names: [&str; 2], from: &str, client_port: u16) -> [HalfIx; 2] {
        [(1, B), (2, D)].map(|(at, address)| {
            let (name, address) = (names[at - 1], global(address));
            let (role, peer, port) = (Role::Server, global(from), 8080);
            self.world.half(self.nodes[at], name, role, address, peer, port, client_port)
        })
    }

    fn asked(&mut self) -> Vec<Vec<Endpoint>> {
        self.nodes.iter().map(|node| self.world.graph.take_endpoints(*node)).collect()
    }
}

fn both() -> Vec<Vec<Endpoint>> {
    let one = |address| vec![Endpoint { address: global(address), port: 8080 }];
    vec![Vec::new(), one(B), one(D)]
}

fn nobody() -> Vec<Vec<Endpoint>> {
    vec![Vec::new(); 3]
}

#[test]
fn where_others_may_follow_it_is_asked_for_at_once_and_each_minute() {
    let (mut service, web) = Virtual::used();
    assert!(service.world.graph.has_questions(service.nodes[1]));
    assert_eq!(service.asked(), both());
    assert!(!service.world.graph.has_questions(service.nodes[1]));
    service.world.pass(30);
    assert_eq!(service.asked(), nobody());
    service.world.pass(30);
    service.world.exchange(web, 1, 1);
    service.world.pass(1);
    assert_eq!(service.asked(), both());
}

#[test]
fn an_address_of_one_client_alone_needs_nothing() {
    let mut service = Virtual::new();
    let web = service.client("web", POD);
    service.world.exchange(web, 100, 10);
    let servers = service.servers(["one", "two"], POD, 0);
    servers.into_iter().for_each(|half| service.world.exchange(half, 10, 100));
    service.world.pass(20);
    assert_eq!(service.asked(), nobody());
    service.client("job", POD);
    service.world.pass(1);
    assert_eq!(service.asked(), both());
}

#[test]
fn servers_of_one_service_need_nothing() {
    let mut service = Virtual::new();
    for name in ["web", "job"] {
        let half = service.client(name, A);
        service.world.exchange(half, 100, 10);
    }
    let servers = service.servers(["api", "api"], A, 0);
    servers.into_iter().for_each(|half| service.world.exchange(half, 10, 100));
    service.world.pass(20);
    assert_eq!(service.asked(), nobody());
    let truth = [row("job", "api", 8080, 1, 100, 10), row("web", "api", 8080, 1, 100, 10)];
    assert_eq!(published(&service.world), truth);
}

#[test]
fn what_is_told_apart_is_whose_it_was_and_what_was_not_is_the_firsts() {
    let mut service = Virtual::new();
    let web = service.client("web", A);
    let first = service.servers(["one", "two"], A, 0);
    for (half, bytes) in first.into_iter().zip([1000, 7]) {
        service.world.exchange(web, bytes, 2 * bytes);
        service.world.exchange(half, 2 * bytes, bytes);
    }
    service.world.pass(2);
    let job = service.client("job", A);
    for (client, port, bytes) in [(web, 40_001, [30, 3]), (job, 40_002, [500, 50])] {
        let servers = service.servers(["one", "two"], A, port);
        for (half, bytes) in servers.into_iter().zip(bytes) {
            service.world.exchange(client, bytes, 2 * bytes);
            service.world.exchange(half, 2 * bytes, bytes);
        }
    }
    let node = service.nodes[0];
    for _ in 0..3 {
        service.world.pass(1);
        for question in service.world.graph.take_questions(node) {
            assert!(question.server == global(B) || question.server == global(D));
            let name = if question.client_port == 40_002 { "job" } else { "web" };
            let owner = service.world.process(node, name);
            service.world.graph.tuple_owner(node, question, Some(owner));
        }
    }
    service.world.pass(10);
    let truth = [
        row("job", "one", 8080, 1, 500, 1000),
        row("job", "two", 8080, 1, 50, 100),
        row("web", "one", 8080, 2, 1030, 2060),
        row("web", "two", 8080, 2, 10, 20),
    ];
    assert_eq!(
        (published(&service.world), service.world.edges()),
        (truth.to_vec(), truth.to_vec())
    );
}

#[test]
fn connections_from_one_port_to_servers_of_the_clients_host_are_asked_about_each() {
    let mut service = Virtual::new();
    let ([node, ..], servers) = (service.nodes, [("one", POD), ("two", "10.244.0.6")]);
    let Virtual { world, .. } = &mut service;
    for name in ["web", "job"] {
        let client = world.client(node, name, global(A), global(VIP), 80);
        let told = servers.map(|(_, server)| ends(A, server, 8080));
        world.graph.add_translations(client, told, world.now);
        world.exchange(client, 100, 10);
    }
    for (name, server) in servers {
        let (server, client) = (global(server), global(A));
        let half = world.half(node, name, Role::Server, server, client, 8080, 40_001);
        world.graph.add_translations(half, [ends(A, VIP, 80)], world.now);
        world.exchange(half, 10, 100);
    }
    world.pass(1);
    let mut asked: Vec<_> =
        world.graph.take_questions(node).iter().map(|question| question.server).collect();
    asked.sort();
    assert_eq!(asked, servers.map(|(_, server)| global(server)));
}

/// Single connections of `web` to both servers, and of each whose it was.
fn single(service: &mut Virtual, web: HalfIx, ports: std::ops::Range<u16>) -> Vec<HalfIx> {
    let halves: Vec<_> = ports.flat_map(|port| service.servers(["one", "two"], A, port)).collect();
    for half in &halves {
        service.world.exchange(web, 10, 20);
        service.world.exchange(*half, 20, 10);
    }
    service.world.pass(1);
    let node = service.nodes[0];
    let owner = service.world.process(node, "web");
    for question in service.world.graph.take_questions(node) {
        service.world.graph.tuple_owner(node, question, Some(owner));
    }
    halves
}

#[test]
fn of_many_connections_those_that_are_over_make_room() {
    let mut service = Virtual::new();
    let web = service.client("web", A);
    let mut open = std::collections::VecDeque::new();
    for second in 0..50 {
        let first = 30_000 + 50 * second;
        open.push_back(single(&mut service, web, first..first + 50));
        let over = if open.len() > 8 { open.pop_front() } else { None };
        for half in over.into_iter().flatten() {
            service.world.add(half, &[(Counter::Closed, 1)]);
            service.world.graph.retire_half(half, service.world.now);
        }
    }
    let stats = service.world.graph.stats();
    assert_eq!((stats.halves_folded, stats.halves), (0, 1024));
    service.world.pass(100);
    let truth = ["one", "two"].map(|server| row("web", server, 8080, 2_500, 25_000, 50_000));
    assert_eq!(published(&service.world), truth);
}

#[test]
fn where_there_are_many_already_it_is_not_asked_for() {
    let mut service = Virtual::new();
    let web = service.client("web", A);
    let halves = single(&mut service, web, 30_000..30_600);
    assert_eq!(service.asked(), nobody());
    for half in halves.iter().skip(900) {
        service.world.graph.retire_half(*half, service.world.now);
    }
    service.world.pass(1);
    assert_eq!(service.asked(), both());
}

#[test]
fn it_is_asked_for_again_where_the_stream_has_ended_since() {
    let (mut service, web) = Virtual::used();
    assert_eq!(service.asked(), both());
    service.world.pass(1);
    service.world.connect("b", incarnation(1, 1, 1)).unwrap();
    service.world.exchange(web, 1, 1);
    service.world.pass(1);
    let [_, one, _] = &both()[..] else { panic!() };
    assert_eq!(service.asked(), [vec![], one.clone(), vec![]]);
    service.world.exchange(web, 1, 1);
    service.world.pass(1);
    assert!(service.nodes.iter().all(|node| !service.world.graph.has_questions(*node)));
}

#[test]
fn what_there_was_no_room_to_ask_for_is_asked_for_next() {
    let mut service = Virtual::new();
    let node = service.nodes[1];
    for number in 0..600 {
        let vip = global(&format!("10.97.{}.{}", number / 250, number % 250));
        let servers = [1, 2].map(|at| format!("10.{at}.{}.{}", number / 250, number % 250));
        let world = &mut service.world;
        let web = world.client(service.nodes[0], "web", global(A), vip, 80);
        let told = servers.clone().map(|server| ends(A, &server, 8080));
        world.graph.add_translations(web, told, world.now);
        for (server, name) in servers.iter().zip(["one", "two"]) {
            world.half(node, name, Role::Server, global(server), global(A), 8080, 0);
        }
    }
    // However long that takes.
    service.world.pass(20);
    let mut asked = std::collections::HashSet::new();
    for expected in [1024, 1200] {
        asked.extend(service.world.graph.take_endpoints(node));
        assert_eq!(asked.len(), expected);
        service.world.pass(1);
    }
}

#[test]
fn what_is_asked_for_survives_a_restart() {
    let (mut service, web) = Virtual::used();
    let bytes = postcard::to_stdvec(&service.world.graph.snapshot()).unwrap();
    let graph = Graph::resume(Config::default(), postcard::from_bytes(&bytes).unwrap());
    service.world.graph = graph;
    assert_eq!(service.asked(), both());
    service.world.exchange(web, 1, 1);
    service.world.pass(1);
    assert_eq!(service.asked(), nobody());
}

#[test]
fn a_clock_that_was_ahead_keeps_nobody_from_being_asked() {
    let (mut service, web) = Virtual::used();
    assert_eq!(service.asked(), both());
    let now = service.world.now.minus(std::time::Duration::from_secs(7_200));
    service.world.now = now;
    service.world.graph.restarted(now);
    let tied = service.world.graph.links.iter().filter_map(|link| link.tied.as_ref());
    assert!(tied.filter_map(|tied| tied.fresh).all(|fresh| fresh <= now));
    service.world.exchange(web, 1, 1);
    service.world.pass(1);
    assert_eq!(service.asked(), both());
}
