//! A real Docker engine: what it calls its containers is what the graph calls them.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use testbed::{
    fleet::Fleet,
    lab::{Container, Docker},
    traffic::{Answer, Command, Peer, Report},
    truth::{EdgeName, Truth, truth},
};

use crate::{
    support::{burst, exchange, skip},
    world::{INTERVAL, SETTLED, Unstarted, World, at, unstarted},
};

/// Two user networks of an engine; no packet of them leaves the host.
const FRONT: (&str, &str) = ("front", "172.30.1.0/24");
const BACK: (&str, &str) = ("back", "172.30.2.0/24");

/// How long the two ends of a connection may disagree.
const AGREED: Duration = Duration::from_secs(5);

/// An engine with two networks on the first host, and agents on all, the first told of its engine.
fn world_with_docker() -> Option<(World, Docker)> {
    if let Err(reason) = Docker::check() {
        skip(&reason.to_string());
        return None;
    }
    let Unstarted { hosts, lab, alone } = unstarted()?;
    let docker = Docker::start(&hosts[0]).unwrap();
    for (name, subnet) in [FRONT, BACK] {
        docker.network(name, subnet).unwrap();
    }
    let mut fleet = Fleet::start(&lab, INTERVAL).unwrap();
    let socket = docker.socket().display().to_string();
    fleet.add_agent_with(&hosts[0], &["--container-engine", &socket]).unwrap();
    for host in &hosts[1..] {
        fleet.add_agent(host).unwrap();
    }
    Some((World { fleet, hosts, lab, _alone: alone }, docker))
}

fn container<'a>(name: &'a str, network: (&'a str, &str), ip: &'a str) -> Container<'a> {
    Container { name, network: network.0, ip, ..Container::default() }
}

/// A container of a compose file, called as compose would.
fn composed<'a>(
    name: &'a str,
    compose: (&'a str, &'a str),
    network: (&'a str, &str),
    ip: &'a str,
) -> Container<'a> {
    Container { compose: Some(compose), ..container(name, network, ip) }
}

/// What all have counted, under the names that the graph must give them, once both ends agree.
pub fn agreed(peers: &mut [(&str, &mut Peer)], gone: &[(String, Report)]) -> Truth {
    let deadline = Instant::now() + AGREED;
    loop {
        let reports =
            peers.iter_mut().map(|(name, peer)| ((*name).to_owned(), peer.report().unwrap()));
        let reports: Vec<_> = reports.chain(gone.iter().cloned()).collect();
        match truth(&reports, |address| address.ip().to_string()) {
            Ok(truth) => return truth,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// The node of this namespace and name in a document.
pub fn node<'a>(document: &'a Value, namespace: &str, name: &str) -> &'a Value {
    let is = |node: &&Value| node["namespace"] == namespace && node["name"] == name;
    document["nodes"].as_array().unwrap().iter().find(is).unwrap_or_else(|| panic!("{document}"))
}

#[test]
fn compose_services_on_two_networks_are_services_of_their_projects() {
    let Some((world, docker)) = world_with_docker() else { return };
    let one = &world.hosts[0];
    let peer = |container: &Container<'_>| docker.peer(one, container).unwrap();
    let mut db = peer(&composed("shop-db-1", ("shop", "db"), BACK, "172.30.2.10"));
    let mut webs: Vec<Peer> = Vec::new();
    for (name, front, back) in
        [("shop-web-1", "172.30.1.11", "172.30.2.11"), ("shop-web-2", "172.30.1.12", "172.30.2.12")]
    {
        let mut web = peer(&composed(name, ("shop", "web"), FRONT, front));
        let address = web.listen(front.parse().unwrap(), 80).unwrap();
        docker.run(&["network", "connect", "--ip", back, BACK.0, name]).unwrap();
        assert_eq!(address.port(), 80);
        webs.push(web);
    }
    // A service of the same name in another project is another one.
    let mut blog = peer(&composed("blog-web-1", ("blog", "web"), FRONT, "172.30.1.21"));
    let mut proxy = peer(&container("proxy", FRONT, "172.30.1.5"));
    // The engine keeps the directory of its containers to itself.
    let mut cron = one.peer_at("cron", Some("processes"), one.network()).unwrap();
    let database = db.listen("172.30.2.10".parse().unwrap(), 5_432).unwrap();
    let posts = blog.listen("172.30.1.21".parse().unwrap(), 8_080).unwrap();
    for (number, front) in ["172.30.1.11", "172.30.1.12"].into_iter().enumerate() {
        let web = at(front.parse().unwrap(), 80);
        proxy.burst(burst(web, 4, exchange(1, 100 + number as u64, 900))).unwrap();
    }
    proxy.burst(burst(posts, 3, exchange(2, 70, 700))).unwrap();
    for web in &mut webs {
        web.burst(burst(database, 5, exchange(2, 50, 5_000))).unwrap();
    }
    cron.burst(burst(database, 2, exchange(1, 10, 10_000))).unwrap();
    let [first, second] = &mut webs[..] else { panic!("two of them") };
    let mut peers = [
        ("db", &mut db),
        ("web", first),
        ("web", second),
        ("web", &mut blog),
        ("proxy", &mut proxy),
        ("cron", &mut cron),
    ];
    let truth = agreed(&mut peers, &[]);
    assert_eq!(truth.len(), 4);
    let graph = world.must_become_within(SETTLED, &truth);
    let document = world.fleet.json("/api/v1/topology").unwrap();
    let (shop, blog) = (node(&document, "shop", "web"), node(&document, "blog", "web"));
    assert_eq!(shop["labels"]["image"], "traffic:1", "{shop}");
    assert_eq!(node(&document, "", "proxy")["kind"], "container");
    assert_eq!(graph.edge("proxy", "web", 80)["target"], shop["id"]);
    assert_eq!(graph.edge("proxy", "web", 8_080)["target"], blog["id"]);
    assert_eq!(graph.edge("proxy", "web", 80)["seen_by"], "both");
    // Names were there before anything was published.
    let metrics = world.fleet.get("/metrics").unwrap().body;
    for id in docker.run(&["ps", "--quiet"]).unwrap().lines() {
        assert!(!metrics.contains(&id[..12]), "{id} has no name in {metrics}");
    }
    docker.stop().unwrap();
    world.stop();
}

#[test]
fn a_container_with_the_address_of_another_is_not_the_other() {
    let Some((world, docker)) = world_with_docker() else { return };
    let one = &world.hosts[0];
    let mut app = docker.peer(one, &container("app", BACK, "172.30.2.5")).unwrap();
    let mut gone = Vec::new();
    for (number, service) in ["orders", "billing", "orders"].into_iter().enumerate() {
        let name = format!("shop-{service}-{number}");
        let server = composed(&name, ("shop", service), BACK, "172.30.2.20");
        let mut server = docker.peer(one, &server).unwrap();
        let address = server.listen("172.30.2.20".parse().unwrap(), 5_432).unwrap();
        app.burst(burst(address, 5 + number as u32, exchange(1, 100, 1_000))).unwrap();
        // Until both ends know of every end.
        let mut served = vec![(service.to_owned(), server.report().unwrap())];
        served.extend(gone.iter().cloned());
        agreed(&mut [("app", &mut app), (service, &mut server)], &gone);
        gone.push((service.to_owned(), server.report().unwrap()));
        docker.remove(&name).unwrap();
    }
    let truth = agreed(&mut [("app", &mut app)], &gone);
    let edge = |server: &str| EdgeName { client: "app".into(), server: server.into(), port: 5_432 };
    assert_eq!(truth[&edge("orders")].connections, 12);
    assert_eq!(truth[&edge("billing")].connections, 6);
    world.must_become_within(SETTLED, &truth);
    docker.stop().unwrap();
    world.stop();
}

#[test]
fn a_container_that_is_gone_at_once_has_its_name() {
    let Some((world, docker)) = world_with_docker() else { return };
    let one = &world.hosts[0];
    let mut db = docker.peer(one, &container("db", BACK, "172.30.2.10")).unwrap();
    let address = db.listen("172.30.2.10".parse().unwrap(), 5_432).unwrap();
    let orders = [Command::Burst(burst(address, 2, exchange(1, 30, 300))), Command::Report];
    let mut gone = Vec::new();
    let mut run = |called: &str, container: &Container<'_>| {
        let answers = docker.run_to_its_end(container, &orders).unwrap();
        let Some(Answer::Report(report)) = answers.last() else { panic!("{answers:?}") };
        gone.push((called.to_owned(), report.clone()));
    };
    run("quick", &container("quick", BACK, "172.30.2.30"));
    for number in 1..=4 {
        let (name, ip) = (format!("shop-job-{number}"), format!("172.30.2.3{number}"));
        run("job", &composed(&name, ("shop", "job"), BACK, &ip));
    }
    let truth = agreed(&mut [("db", &mut db)], &gone);
    assert_eq!(truth.len(), 2);
    world.must_become_within(SETTLED, &truth);
    let document = world.fleet.json("/api/v1/topology").unwrap();
    assert_eq!(node(&document, "shop", "job")["kind"], "container");
    docker.stop().unwrap();
    world.stop();
}

#[test]
fn a_published_port_leads_to_the_container() {
    let Some((world, docker)) = world_with_docker() else { return };
    let [one, two, _] = &world.hosts;
    let web = Container {
        options: &["--publish", "8080:80"],
        ..composed("shop-web-1", ("shop", "web"), FRONT, "172.30.1.11")
    };
    let mut web = docker.peer(one, &web).unwrap();
    web.listen("172.30.1.11".parse().unwrap(), 80).unwrap();
    let mut shopper = two.peer("shopper").unwrap();
    shopper.burst(burst(at(one.ipv4(), 8_080), 6, exchange(1, 100, 1_000))).unwrap();
    let expected = "shopper -> web, 6 connections seen by both";
    let only = |fleet: &Fleet| -> Result<(), String> {
        let graph = fleet.graph().map_err(|error| error.to_string())?;
        let edge = graph.edge("shopper", "web", 80);
        let counted = [&edge["connections"], &edge["bytes_to_server"], &edge["bytes_to_client"]];
        let right =
            counted.iter().map(|value| value.as_u64()).eq([6, 6 * 100, 6 * 1_000].map(Some))
                && edge["seen_by"] == "both";
        if right && graph.edges.len() == 1 { Ok(()) } else { Err(format!("{:?}", graph.edges)) }
    };
    world.fleet.wait(expected, SETTLED, only).unwrap();
    docker.stop().unwrap();
    world.stop();
}
