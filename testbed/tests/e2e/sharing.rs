//! Several processes behind one address, and one address in several namespaces.

use std::net::{IpAddr, Ipv4Addr};

use testbed::traffic::{Command, Ending, Listen};

use crate::{
    support::{burst, exchange, open},
    world::{at, world},
};

#[test]
fn several_clients_on_one_host() {
    let Some(world) = world() else { return };
    let [one, two, _] = &world.hosts;
    let mut db = two.peer("db").unwrap();
    let target = db.listen(two.ipv4(), 5_432).unwrap();
    let (mut web, mut cart) = (one.peer("web").unwrap(), one.peer("cart").unwrap());
    web.burst(burst(target, 11, exchange(2, 111, 1_111))).unwrap();
    cart.burst(burst(target, 7, exchange(3, 77, 7_777))).unwrap();
    web.open(open("g", target, 2)).unwrap();
    world.must_show(&mut [&mut web, &mut cart, &mut db]);
    web.end("g", Ending::ClientResets).unwrap();
    world.must_show(&mut [&mut web, &mut cart, &mut db]);
    world.stop();
}

#[test]
fn several_servers_behind_one_port() {
    let Some(world) = world() else { return };
    let [one, two, _] = &world.hosts;
    let (mut blue, mut green) = (two.peer("blue").unwrap(), two.peer("green").unwrap());
    let address = at(two.ipv4(), 80);
    let shared = Listen { address, mptcp: false, reuse_port: true };
    blue.listen_as(shared.clone()).unwrap();
    green.listen_as(shared).unwrap();
    let mut web = one.peer("web").unwrap();
    web.burst(burst(address, 60, exchange(1, 200, 900))).unwrap();
    let graph = world.must_show(&mut [&mut web, &mut blue, &mut green]);
    assert_eq!(graph.edges.len(), 2);
    world.stop();
}

#[test]
fn several_processes_on_both_sides() {
    let Some(world) = world() else { return };
    let [one, two, _] = &world.hosts;
    let (mut blue, mut green) = (two.peer("blue").unwrap(), two.peer("green").unwrap());
    let address = at(two.ipv4(), 80);
    let shared = Listen { address, mptcp: false, reuse_port: true };
    blue.listen_as(shared.clone()).unwrap();
    green.listen_as(shared).unwrap();
    let (mut web, mut cart) = (one.peer("web").unwrap(), one.peer("cart").unwrap());
    web.burst(burst(address, 40, exchange(1, 300, 1_000))).unwrap();
    cart.burst(burst(address, 30, exchange(2, 70, 5_000))).unwrap();
    let graph = world.must_show(&mut [&mut web, &mut cart, &mut blue, &mut green]);
    assert_eq!(graph.edges.len(), 4);
    // At the same time, now that everybody is known.
    let (one_way, other_way) = (exchange(1, 90, 800), exchange(3, 60, 600));
    web.tell(&Command::Burst(burst(address, 50, one_way))).unwrap();
    cart.tell(&Command::Burst(burst(address, 50, other_way))).unwrap();
    web.answer().unwrap();
    cart.answer().unwrap();
    world.must_show(&mut [&mut web, &mut cart, &mut blue, &mut green]);
    world.stop();
}

#[test]
fn one_service_on_several_hosts() {
    let Some(world) = world() else { return };
    let [one, two, three] = &world.hosts;
    let mut shards = [two.peer("shard").unwrap(), three.peer("shard").unwrap()];
    let mut web = one.peer("web").unwrap();
    for (shard, host) in shards.iter_mut().zip([two, three]) {
        let target = shard.listen(host.ipv4(), 6_379).unwrap();
        web.burst(burst(target, 5, exchange(1, 50, 60))).unwrap();
    }
    let [first, second] = &mut shards;
    let graph = world.must_show(&mut [&mut web, first, second]);
    assert_eq!(graph.edges.len(), 1);
    world.stop();
}

#[test]
fn the_same_loopback_port_in_two_namespaces() {
    let Some(world) = world() else { return };
    let one = &world.hosts[0];
    let other = one.add_network().unwrap();
    let home = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let mut alpha = one.peer("alpha").unwrap();
    let mut ask_alpha = one.peer("ask-alpha").unwrap();
    let mut beta = one.peer_at("beta", None, &other).unwrap();
    let mut ask_beta = one.peer_at("ask-beta", None, &other).unwrap();
    let target = alpha.listen(home, 8_080).unwrap();
    beta.listen(home, 8_080).unwrap();
    ask_alpha.burst(burst(target, 9, exchange(1, 90, 900))).unwrap();
    ask_beta.burst(burst(target, 4, exchange(2, 40, 400))).unwrap();
    let graph = world.must_show(&mut [&mut alpha, &mut ask_alpha, &mut beta, &mut ask_beta]);
    assert_eq!(graph.edges.len(), 2);
    // A failure over loopback is the namespace's own too.
    ask_beta.open(open("g", at(home, 8_081), 3)).unwrap();
    let mut peers = [&mut alpha, &mut ask_alpha, &mut beta, &mut ask_beta];
    let truth = testbed::truth::collect(&mut peers, |_| "one".into()).unwrap();
    world.must_become(&truth);
    world.stop();
}

#[test]
fn units_and_containers_are_named_after_their_cgroup() {
    let Some(world) = world() else { return };
    let [one, two, _] = &world.hosts;
    let id = "3f5c0d9a1b2e".repeat(6)[..64].to_owned();
    let mut web = one.peer_at("web", Some("shop.service"), one.network()).unwrap();
    let mut db = two.peer_at("db", Some(&id), two.network()).unwrap();
    let target = db.listen(two.ipv4(), 5_432).unwrap();
    web.burst(burst(target, 3, exchange(1, 100, 100))).unwrap();
    let truth = testbed::truth::truth(
        &[("shop.service".into(), web.report().unwrap()), (id[..12].into(), settled(&mut db, 3))],
        |_| "nobody".into(),
    )
    .unwrap();
    let graph = world.must_become(&truth);
    let kind = |name: &str| &graph.nodes.values().find(|node| node.name == name).unwrap().kind;
    assert_eq!(kind("shop.service"), "systemd");
    assert_eq!(kind(&id[..12]), "container");
    world.stop();
}

/// The report of a server once all its connections are closed.
fn settled(peer: &mut testbed::traffic::Peer, closed: usize) -> testbed::traffic::Report {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let report = peer.report().unwrap();
        let done = |end: &&testbed::traffic::Connection| end.end == testbed::traffic::End::Closed;
        if report.connections.iter().filter(done).count() == closed {
            return report;
        }
        assert!(std::time::Instant::now() < deadline, "{report:?}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[test]
fn a_peer_without_an_agent_is_external() {
    let Some(world) = world() else { return };
    let [one, two, _] = &world.hosts;
    let bank = world.lab.host("bank").unwrap();
    let mut outside = bank.peer("outside").unwrap();
    let (mut pay, mut api) = (one.peer("pay").unwrap(), two.peer("api").unwrap());
    let target = outside.listen(bank.ipv4(), 443).unwrap();
    pay.burst(burst(target, 6, exchange(2, 1_000, 3_000))).unwrap();
    let target = api.listen(two.ipv4(), 80).unwrap();
    outside.burst(burst(target, 4, exchange(1, 2_000, 10_000))).unwrap();
    let mut peers = [&mut outside, &mut pay, &mut api];
    let truth = testbed::truth::collect(&mut peers, |_| "nobody".into()).unwrap();
    // In the graph, the outside has no name but its address.
    let address = bank.ipv4().to_string();
    let named = |name: String| if name == "outside" { address.clone() } else { name };
    let truth = truth
        .into_iter()
        .map(|(mut edge, count)| {
            edge.client = named(edge.client);
            edge.server = named(edge.server);
            (edge, count)
        })
        .collect();
    let graph = world.must_become(&truth);
    assert_eq!(graph.edge("pay", &address, 443)["seen_by"], "client");
    assert_eq!(graph.edge(&address, "api", 80)["seen_by"], "server");
    world.stop();
}
