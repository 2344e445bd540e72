//! What restricted readers are told of why an edge is there.

use std::time::Duration;

use common::Counter;
use topology::{
    AgentFacts, Config, Graph, HalfIx, Incarnation, NodeIx, Timestamp, Window,
    model::{Address, Ends, HalfKey, NodeAddress, Scope, Workload, WorkloadKind},
};

use super::*;
use crate::{config, http::restrict::restrict};

/// A fleet with a host for the clients and one for the servers.
struct World {
    graph: Graph,
    now: Timestamp,
    hosts: [NodeIx; 2],
}

/// Of no host, so that it is known by who uses it.
const CLIENT: &str = "10.244.0.5";
const SERVER: &str = "10.0.0.2";

fn address(ip: &str) -> Address {
    Address { ip: ip.parse().unwrap(), scope: Scope::Global }
}

fn grant(namespaces: Option<&[&str]>) -> Grant {
    let namespaces = namespaces.map(|names| names.iter().map(ToString::to_string).collect());
    Grant { name: String::new(), role: config::Role::Read, namespaces }
}

impl World {
    fn new() -> Self {
        let now = Timestamp::from_unix_ns(43_203_000_000_000);
        let mut graph = Graph::new(Config::default());
        let mut connect = |name: &str| {
            let incarnation = Incarnation { boot_id: [1; 16], generation: 1, session: 1 };
            let facts = AgentFacts { from: format!("{name}:1"), ..AgentFacts::default() };
            graph.node_connected(name, incarnation, facts, now).unwrap().node
        };
        let hosts = [connect("a"), connect("b")];
        for (node, ip) in hosts.into_iter().zip(["10.0.0.1", SERVER]) {
            let address = NodeAddress { address: address(ip), network_namespace: 1 };
            graph.set_addresses(node, vec![address]);
        }
        Self { graph, now, hosts }
    }

    /// A half of a service, as `namespace/name`, that has counted so much.
    fn half(&mut self, service: &str, role: Role, port: u16, bytes: u64) -> HalfIx {
        let node = self.hosts[usize::from(role == Role::Server)];
        let (namespace, name) = service.split_once('/').unwrap();
        let workload = Workload {
            kind: WorkloadKind::Pod,
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            labels: Default::default(),
        };
        let workload = self.graph.intern_workload(node, workload).unwrap();
        let (local, peer) = match role {
            Role::Client => (address(CLIENT), address(SERVER)),
            Role::Server => (address(SERVER), address(CLIENT)),
        };
        let key = HalfKey { workload, local, peer, server_port: port, client_port: 0, role };
        let half = self.graph.open_half(node, key, 0, self.now).unwrap();
        let counter = match role {
            Role::Client => Counter::BytesSent,
            Role::Server => Counter::BytesReceived,
        };
        self.graph.add(half, Counter::Connections, 1);
        self.graph.add(half, counter, bytes);
        half
    }

    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now = self.now.plus(Duration::from_secs(1));
            self.graph.tick(self.now);
        }
    }

    /// What somebody is told of the edge between two services.
    fn why(&mut self, client: &str, server: &str, namespaces: Option<&[&str]>) -> Why {
        let grant = grant(namespaces);
        let window = Window { from: Timestamp::default(), to: self.now };
        let view = restrict(self.graph.view(window, self.now), &grant);
        let called = |id| {
            let node = view.nodes.iter().find(|node| node.id == id).unwrap();
            format!("{}/{}", node.namespace, node.name)
        };
        let ends = |edge: &&ViewEdge| (called(edge.source), called(edge.target));
        let asked = (client.to_owned(), server.to_owned());
        let id = view.edges.iter().find(|edge| ends(edge) == asked).unwrap().id;
        let explanation = self.graph.explain(id, self.now).unwrap();
        Found::in_view(view, id).unwrap().explain(explanation, &grant)
    }
}

impl Why {
    fn tells(&self, text: &str) -> bool {
        serde_json::to_string(self).unwrap().contains(text)
    }
}

#[test]
fn who_shares_an_address_is_not_told_what_the_others_counted() {
    let mut world = World::new();
    world.half("shop/web", Role::Client, 80, 1000);
    world.half("bank/batch", Role::Client, 80, 7_000_000);
    world.half("data/db", Role::Server, 80, 7_000_500);
    world.pass(20);
    let all = world.why("shop/web", "data/db", None);
    assert!(all.meetings[0].shared && all.tells("7001000") && all.tells("7000500"));
    assert!(all.words.iter().any(|sentence| sentence.contains("7001000")), "{:?}", all.words);
    for namespaces in [&["shop"][..], &["shop", "data"]] {
        let own = world.why("shop/web", "data/db", Some(namespaces));
        assert!(own.meetings[0].differences.is_none());
        assert!(!own.tells("7001000") && !own.tells("7000500"), "{:?}", own.words);
        assert!(!own.words.iter().any(|sentence| sentence.contains("counted")), "{:?}", own.words);
    }
}

#[test]
fn who_had_an_address_before_is_not_told_what_others_count_there() {
    let mut world = World::new();
    let served = world.half("data/db", Role::Server, 80, 1000);
    // What tells whose the address is.
    let elsewhere = world.half("shop/web", Role::Client, 9, 1);
    world.pass(12);
    let own = world.why("shop/web", "data/db", Some(&["shop"]));
    assert_eq!(own.meetings[0].resolved_by, Some("workload_address"));
    world.graph.retire_half(elsewhere, world.now);
    world.pass(100);
    world.half("bank/batch", Role::Client, 80, 7_000_000);
    world.graph.add(served, Counter::BytesReceived, 6_000_000);
    world.pass(20);
    assert!(world.why("bank/batch", "data/db", None).tells("7000000"));
    for namespaces in [None, Some(&["shop"][..])] {
        let own = world.why("shop/web", "data/db", namespaces);
        assert_eq!((own.meetings[0].seen_by, own.meetings[0].shared), (None, false));
        assert!(own.meetings[0].differences.is_none());
        assert!(!own.tells("7000000") && !own.tells("6001000"), "{:?}", own.words);
        assert!(
            own.words.iter().any(|sentence| sentence.starts_with("At 1 of its meeting points"))
        );
    }
}

#[test]
fn other_addresses_are_told_to_those_who_may_see_everything() {
    let mut world = World::new();
    world.half("shop/web", Role::Client, 80, 1000);
    let server = world.half("shop/db", Role::Server, 5432, 1000);
    let told = Ends { client: address(CLIENT), server: address(SERVER), server_port: 80 };
    world.graph.add_translations(server, [told], world.now);
    world.pass(12);
    let all = world.why("shop/web", "shop/db", None);
    let also = &all.meetings[0].also;
    assert_eq!((also.len(), also[0].side, also[0].port), (1, "server", Some(80)));
    assert!(all.tells("10.0.0.2:5432: the server is also 10.0.0.2:80."), "{:?}", all.words);
    let own = world.why("shop/web", "shop/db", Some(&["shop"]));
    assert!(own.meetings[0].also.is_empty() && own.meetings[0].server.is_some());
    assert!(!own.tells("10.0.0.2:80"), "{:?}", own.words);
}

#[test]
fn a_reader_is_told_of_the_hosts_of_its_own_side() {
    let mut world = World::new();
    world.half("shop/web", Role::Client, 80, 1000);
    world.half("data/db", Role::Server, 80, 1000);
    world.pass(12);
    let mut hosts = |namespaces: Option<&[&str]>| {
        let why = world.why("shop/web", "data/db", namespaces);
        let left_out = why.hosts_left_out;
        (why.hosts.into_iter().map(|seen| seen.host).collect::<Vec<_>>(), left_out)
    };
    let told = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(hosts(None), (told(&["a", "b"]), 0));
    assert_eq!(hosts(Some(&["shop"])), (told(&["a"]), 0));
    assert_eq!(hosts(Some(&["data"])), (told(&["b"]), 0));
}
