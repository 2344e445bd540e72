//! Addresses that a host translates, as Kubernetes and container engines have it, and addresses that are a host's own.

use std::net::{IpAddr, Ipv4Addr};

use testbed::{
    lab::{Behind, Bridge, Host},
    traffic::{Ending, Peer},
    truth::{self, EdgeCount, EdgeName, Truth},
};

use crate::{
    support::{burst, exchange, open},
    world::{SETTLED, World, at, world},
};

/// A service's address, which is nobody's.
const SERVICE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10));
/// Another one.
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 96, 0, 11));
/// Addresses behind bridges, the same on every host.
const RANGE: [u8; 3] = [172, 18, 0];
/// Name of the bridges.
const BRIDGE: &str = "inner";

/// Has a host translate destinations, as these rules say, and hide what is behind its bridge.
fn translate(host: &Host, rules: &str) {
    let [a, b, c] = RANGE;
    host.namespace().sysctl("net/ipv4/ip_forward", "1").unwrap();
    host.namespace()
        .nft(&format!(
            "table ip translation {{
               chain pre {{ type nat hook prerouting priority -100; {rules} }}
               chain out {{ type nat hook output priority -100; {rules} }}
               chain post {{
                 type nat hook postrouting priority 100
                 ip saddr {a}.{b}.{c}.0/24 oifname != \"{BRIDGE}\" masquerade
               }}
             }}"
        ))
        .unwrap();
}

/// A rule that leads connections to a service's address to each of these in turn.
fn service(address: IpAddr, servers: &[(IpAddr, u16)]) -> String {
    let turns: Vec<_> = servers
        .iter()
        .enumerate()
        .map(|(turn, (server, port))| format!("{turn} : {server} . {port}"))
        .collect();
    format!(
        "ip daddr {address} tcp dport 80 dnat ip addr . port to numgen inc mod {} map {{ {} }};",
        servers.len(),
        turns.join(", ")
    )
}

/// A network of the host's own.
struct Inner {
    bridge: Bridge,
    behind: Vec<Behind>,
}

impl Inner {
    fn new(host: &Host) -> Self {
        Self { bridge: host.add_bridge(BRIDGE, RANGE).unwrap(), behind: Vec::new() }
    }

    /// A peer with the address of this number; the first that can be is 2.
    fn peer(&mut self, host: &Host, name: &str, number: u8) -> (Peer, IpAddr) {
        let behind = host.attach(&self.bridge, number).unwrap();
        let peer = host.peer_in(name, None, behind.namespace()).unwrap();
        let address = behind.ipv4();
        self.behind.push(behind);
        (peer, address)
    }
}

fn must_settle(world: &World, peers: &mut [&mut Peer]) {
    let truth = truth::collect(peers, |address| world.name_of(address)).unwrap();
    world.must_become_within(SETTLED, &truth);
}

#[test]
fn a_services_address_leads_to_several_servers() {
    let Some(world) = world() else { return };
    let [one, two, three] = &world.hosts;
    let (mut blue, mut green) = (two.peer("blue").unwrap(), three.peer("green").unwrap());
    blue.listen(two.ipv4(), 8_080).unwrap();
    green.listen(three.ipv4(), 8_081).unwrap();
    translate(one, &service(SERVICE, &[(two.ipv4(), 8_080), (three.ipv4(), 8_081)]));
    let mut web = one.peer("web").unwrap();
    web.burst(burst(at(SERVICE, 80), 21, exchange(2, 100, 1_000))).unwrap();
    web.open(open("g", at(SERVICE, 80), 4)).unwrap();
    web.exchange("g", exchange(1, 60, 70), Ending::Keep).unwrap();
    must_settle(&world, &mut [&mut web, &mut blue, &mut green]);
    web.burst(burst(at(SERVICE, 80), 5, exchange(1, 300, 30))).unwrap();
    must_settle(&world, &mut [&mut web, &mut blue, &mut green]);
    let graph = world.fleet.graph().unwrap();
    assert_eq!(graph.edge("web", "blue", 8_080)["seen_by"], "both");
    world.stop();
}

#[test]
fn a_published_port_is_its_containers() {
    let Some(world) = world() else { return };
    let [one, two, _] = &world.hosts;
    let mut inner = Inner::new(two);
    let (mut api, address) = inner.peer(two, "api", 2);
    api.listen(address, 80).unwrap();
    translate(two, &format!("ip daddr {} tcp dport 8080 dnat to {address}:80;", two.ipv4()));
    let (mut web, mut near) = (one.peer("web").unwrap(), two.peer("near").unwrap());
    web.burst(burst(at(two.ipv4(), 8_080), 12, exchange(1, 200, 2_000))).unwrap();
    near.burst(burst(at(two.ipv4(), 8_080), 3, exchange(1, 50, 500))).unwrap();
    must_settle(&world, &mut [&mut web, &mut near, &mut api]);
    world.stop();
}

#[test]
fn clients_behind_one_address_are_themselves() {
    let Some(world) = world() else { return };
    let [one, two, _] = &world.hosts;
    let mut inner = Inner::new(one);
    translate(one, "");
    let mut db = two.peer("db").unwrap();
    let target = db.listen(two.ipv4(), 5_432).unwrap();
    let (mut web, _) = inner.peer(one, "web", 2);
    let (mut job, _) = inner.peer(one, "job", 3);
    let mut host = one.peer("tool").unwrap();
    web.burst(burst(target, 11, exchange(2, 111, 1_111))).unwrap();
    job.burst(burst(target, 7, exchange(3, 77, 7_777))).unwrap();
    host.burst(burst(target, 2, exchange(1, 33, 333))).unwrap();
    must_settle(&world, &mut [&mut web, &mut job, &mut host, &mut db]);
    world.stop();
}

#[test]
fn both_ends_are_translated_at_once() {
    let Some(world) = world() else { return };
    let [one, two, three] = &world.hosts;
    // `green` is behind a published port.
    let (mut clients, mut servers) = (Inner::new(one), Inner::new(three));
    let mut blue = two.peer("blue").unwrap();
    blue.listen(two.ipv4(), 8_080).unwrap();
    let (mut green, address) = servers.peer(three, "green", 2);
    green.listen(address, 80).unwrap();
    translate(three, &format!("ip daddr {} tcp dport 8081 dnat to {address}:80;", three.ipv4()));
    let (blue_at, green_at) = ((two.ipv4(), 8_080), (three.ipv4(), 8_081));
    translate(one, &(service(SERVICE, &[blue_at, green_at]) + &service(OTHER, &[green_at])));
    let (mut web, _) = clients.peer(one, "web", 2);
    let (mut job, _) = clients.peer(one, "job", 3);
    web.burst(burst(at(SERVICE, 80), 20, exchange(1, 100, 1_000))).unwrap();
    job.burst(burst(at(OTHER, 80), 9, exchange(2, 70, 5_000))).unwrap();
    must_settle(&world, &mut [&mut web, &mut job, &mut blue, &mut green]);
    world.stop();
}

#[test]
fn networks_of_the_same_range_are_each_hosts_own() {
    let Some(world) = world() else { return };
    let [one, two, three] = &world.hosts;
    let mut bank = three.peer("bank").unwrap();
    let target = bank.listen(three.ipv4(), 443).unwrap();
    let (mut peers, mut inners) = (Vec::new(), Vec::new());
    for (number, host) in [(1, one), (2, two)] {
        let mut inner = Inner::new(host);
        translate(host, "");
        let (mut api, address) = inner.peer(host, &format!("api-{}", host.name()), 2);
        let (mut web, _) = inner.peer(host, &format!("web-{}", host.name()), 3);
        let inside = api.listen(address, 80).unwrap();
        web.burst(burst(inside, 5 * number, exchange(1, 100, 900))).unwrap();
        web.burst(burst(target, 3 * number, exchange(1, 400, 40))).unwrap();
        peers.extend([api, web]);
        inners.push(inner);
    }
    peers.push(bank);
    must_settle(&world, &mut peers.iter_mut().collect::<Vec<_>>());
    assert_eq!(world.fleet.graph().unwrap().edges.len(), 4);
    world.stop();
}

#[test]
fn routed_addresses_behind_bridges_are_the_fleets() {
    let Some(world) = world() else { return };
    let [one, two, _] = &world.hosts;
    let mut peers = Vec::new();
    let mut bridges = Vec::new();
    for (host, range) in [(one, [10, 244, 1]), (two, [10, 244, 2])] {
        let bridge = host.add_bridge(BRIDGE, range).unwrap();
        host.announce(&bridge).unwrap();
        let behind = host.attach(&bridge, 2).unwrap();
        let name = format!("pod-{}", host.name());
        peers.push(host.peer_in(&name, None, behind.namespace()).unwrap());
        bridges.push((bridge, behind));
    }
    let [first, second] = &mut peers[..] else { return };
    let target = second.listen(bridges[1].1.ipv4(), 80).unwrap();
    first.burst(burst(target, 8, exchange(1, 100, 900))).unwrap();
    must_settle(&world, &mut [first, second]);
    world.stop();
}

#[test]
fn a_translation_on_a_host_without_an_agent_invents_no_edge() {
    let Some(world) = world() else { return };
    let [one, two, _] = &world.hosts;
    let gate = world.lab.host("gate").unwrap();
    let mut api = two.peer("api").unwrap();
    api.listen(two.ipv4(), 80).unwrap();
    gate.namespace().sysctl("net/ipv4/ip_forward", "1").unwrap();
    let (outer, inner) = (gate.ipv4(), two.ipv4());
    gate.namespace()
        .nft(&format!(
            "table ip gate {{
               chain pre {{
                 type nat hook prerouting priority -100
                 ip daddr {outer} tcp dport 8080 dnat to {inner}:80
               }}
               chain post {{ type nat hook postrouting priority 100; masquerade; }}
             }}"
        ))
        .unwrap();
    let mut web = one.peer("web").unwrap();
    web.burst(burst(at(outer, 8_080), 6, exchange(1, 100, 1_000))).unwrap();
    let count = EdgeCount {
        connections: 6,
        bytes_to_server: 600,
        bytes_to_client: 6_000,
        ..EdgeCount::default()
    };
    let edge = |client: &str, server: &str, port| EdgeName {
        client: client.to_owned(),
        server: server.to_owned(),
        port,
    };
    let outer = outer.to_string();
    let truth = Truth::from([
        (edge("web", &outer, 8_080), count.clone()),
        (edge(&outer, "api", 80), count),
    ]);
    let graph = world.must_become_within(SETTLED, &truth);
    assert_eq!(graph.edge("web", &outer, 8_080)["seen_by"], "client");
    world.stop();
}

#[test]
fn every_pair_behind_one_address_and_one_service_is_found_and_no_other() {
    let Some(world) = world() else { return };
    let [one, two, three] = &world.hosts;
    let mut clients = Inner::new(one);
    let (mut blue, mut green) = (two.peer("blue").unwrap(), three.peer("green").unwrap());
    blue.listen(two.ipv4(), 8_080).unwrap();
    green.listen(three.ipv4(), 8_080).unwrap();
    translate(one, &service(SERVICE, &[(two.ipv4(), 8_080), (three.ipv4(), 8_080)]));
    let (mut web, _) = clients.peer(one, "web", 2);
    let (mut job, _) = clients.peer(one, "job", 3);
    web.burst(burst(at(SERVICE, 80), 20, exchange(1, 100, 1_000))).unwrap();
    job.burst(burst(at(SERVICE, 80), 10, exchange(1, 900, 50))).unwrap();
    let mut peers = [&mut web, &mut job, &mut blue, &mut green];
    let truth = truth::collect(&mut peers, |address| world.name_of(address)).unwrap();
    // Whose part of what a server counted is whose, addresses do not tell; sums are exact.
    let sums = |edges: &Truth| {
        let mut sums = [0; 3];
        for count in edges.values() {
            sums[0] += count.connections;
            sums[1] += count.bytes_to_server;
            sums[2] += count.bytes_to_client;
        }
        sums
    };
    world
        .fleet
        .wait("every edge", SETTLED, |fleet| {
            let graph = fleet.graph().map_err(|error| error.to_string())?;
            let same = graph.edges.keys().eq(truth.keys()) && sums(&graph.edges) == sums(&truth);
            if same { Ok(()) } else { Err(format!("{:#?} is not {truth:#?}", graph.edges)) }
        })
        .unwrap();
    world.stop();
}
