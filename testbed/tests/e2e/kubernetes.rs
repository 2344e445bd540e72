//! Pods of a node by what an API server says of them, in cgroups as kubelets make them with either driver.

use std::time::Duration;

use serde_json::Value;
use testbed::{
    apiserver::{ApiServer, recorded},
    fleet::Fleet,
    truth::EdgeName,
};

use crate::{
    docker::{agreed, node},
    support::{burst, exchange},
    world::{INTERVAL, SETTLED, Unstarted, World, at, unstarted},
};

/// As long as a busy machine may take.
const LIMIT: Duration = Duration::from_secs(30);

/// A server on the first host, and agents on all, the first told of its server.
fn world_with_pods() -> Option<(World, ApiServer)> {
    let Unstarted { hosts, lab, alone } = unstarted()?;
    let server = ApiServer::start(Some(hosts[0].namespace()), lab.folder(), hosts[0].name());
    let server = server.unwrap();
    let mut fleet = Fleet::start(&lab, INTERVAL).unwrap();
    let file = |path: std::path::PathBuf| path.display().to_string();
    let (url, ca, token) = (server.url(), file(server.ca()), file(server.token()));
    let flags = ["--kubernetes", &url, "--kubernetes-ca", &ca, "--kubernetes-token", &token];
    fleet.add_agent_with(&hosts[0], &flags).unwrap();
    for host in &hosts[1..] {
        fleet.add_agent(host).unwrap();
    }
    server.wait_for_watch(LIMIT).unwrap();
    Some((World { fleet, hosts, lab, _alone: alone }, server))
}

/// The cgroup of a container, as the driver for systemd has it.
fn slice(class: &str, pod: &str, runtime: &str, digits: &str) -> String {
    let (pod, id) = (pod.replace('-', "_"), recorded::container(digits));
    let (parent, dashed) = match class {
        "" => (String::new(), String::new()),
        class => (format!("kubepods-{class}.slice/"), format!("-{class}")),
    };
    format!("kubepods.slice/{parent}kubepods{dashed}-pod{pod}.slice/{runtime}-{id}.scope")
}

/// As the other driver has it.
fn plain(class: &str, pod: &str, digits: &str) -> String {
    format!("kubepods/{class}/pod{pod}/{}", recorded::container(digits))
}

#[test]
fn pods_are_services_of_their_owners() {
    let Some((world, server)) = world_with_pods() else { return };
    let [one, two, _] = &world.hosts;
    let networks: Vec<_> = (0..4).map(|_| one.add_network().unwrap()).collect();
    let pod = |leaf: String, network| one.peer_at("process", Some(&leaf), network).unwrap();
    let first = slice("burstable", &recorded::pod(1), "cri-containerd", "a1");
    let mut web = pod(first, &networks[0]);
    let mut other = pod(plain("burstable", &recorded::pod(2), "b1"), &networks[1]);
    let mut db = pod(slice("", &recorded::pod(3), "cri-containerd", "c1"), &networks[2]);
    // Both on the host's own network, one of them from a file of the kubelet's.
    let mut exporter = pod(plain("besteffort", &recorded::pod(4), "d1"), one.network());
    let of_a_file = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";
    let mut control = pod(slice("burstable", of_a_file, "cri-containerd", "e1"), one.network());
    let mut shopper = two.peer("shopper").unwrap();
    let database = db.listen(networks[2].ipv4(), 5_432).unwrap();
    let front = web.listen(networks[0].ipv4(), 80).unwrap();
    let back = other.listen(networks[1].ipv4(), 80).unwrap();
    let api = control.listen(one.ipv4(), 6_443).unwrap();
    web.burst(burst(database, 5, exchange(2, 50, 5_000))).unwrap();
    other.burst(burst(database, 3, exchange(1, 60, 600))).unwrap();
    exporter.burst(burst(api, 4, exchange(1, 70, 700))).unwrap();
    for address in [front, back] {
        shopper.burst(burst(address, 2, exchange(1, 80, 8_000))).unwrap();
    }
    // A Job that is over before its pod's status says a word of its container.
    server.cut();
    server.happen(recorded::JOB_ADDED);
    let leaf = slice("burstable", &recorded::pod(6), "crio", "f1");
    let mut report = pod(leaf.clone(), &networks[3]);
    report.burst(burst(database, 2, exchange(1, 90, 900))).unwrap();
    let mut gone = vec![("report".to_owned(), report.report().unwrap())];
    drop(report);
    one.remove_leaf(&leaf).unwrap();
    // A pod that takes the place of another, with its address.
    gone.push(("web".to_owned(), other.report().unwrap()));
    drop(other);
    server.happen(recorded::WEB_DELETED);
    server.happen(recorded::WEB_REPLACED);
    let mut new = pod(plain("burstable", &recorded::pod(7), "b7"), &networks[1]);
    let back = new.listen(networks[1].ipv4(), 80).unwrap();
    shopper.burst(burst(back, 6, exchange(1, 80, 8_000))).unwrap();
    let mut peers = [
        ("web", &mut web),
        ("web", &mut new),
        ("db", &mut db),
        ("exporter", &mut exporter),
        ("kube-apiserver", &mut control),
        ("shopper", &mut shopper),
    ];
    let truth = agreed(&mut peers, &gone);
    let edge = |client: &str, server: &str, port| EdgeName {
        client: client.into(),
        server: server.into(),
        port,
    };
    assert_eq!(truth[&edge("shopper", "web", 80)].connections, 10);
    assert_eq!(truth[&edge("web", "db", 5_432)].connections, 8);
    assert_eq!(truth[&edge("report", "db", 5_432)].connections, 2);
    assert_eq!(truth[&edge("exporter", "kube-apiserver", 6_443)].connections, 4);
    let graph = world.must_become_within(SETTLED, &truth);
    let document = world.fleet.json("/api/v1/topology").unwrap();
    for (namespace, name) in [
        ("shop", "web"),
        ("shop", "db"),
        ("shop", "report"),
        ("monitoring", "exporter"),
        ("kube-system", "kube-apiserver"),
    ] {
        assert_eq!(node(&document, namespace, name)["kind"], "pod", "{name}");
    }
    let labels = &node(&document, "shop", "db")["labels"];
    assert_eq!(
        (&labels["owner.kind"], &labels["container"]),
        (&"StatefulSet".into(), &"postgres".into())
    );
    assert_eq!(graph.edge("shopper", "web", 80)["seen_by"], "both");
    // Names were there before anything was published.
    let metrics = world.fleet.get("/metrics").unwrap().body;
    for digits in ["a1", "b1", "b7", "c1", "d1", "e1", "f1"] {
        assert!(!metrics.contains(&digits.repeat(6)), "{digits} has no name in {metrics}");
    }
    let asked = server.state().asked.clone();
    assert!(asked.iter().all(|asked| asked.status == 200), "{asked:?}");
    assert_eq!(asked.iter().filter(|asked| !asked.is_watch()).count(), 1, "one list, at once");
    world.stop();
}

#[test]
fn an_agent_that_may_not_ask_for_pods_says_so_and_counts_on() {
    let Some((world, server)) = world_with_pods() else { return };
    server.state().refuses = Some((403, recorded::FORBIDDEN.to_owned()));
    server.cut();
    let [one, two, _] = &world.hosts;
    let mut db = one.peer("db").unwrap();
    let mut app = two.peer("app").unwrap();
    let address = db.listen(one.ipv4(), 5_432).unwrap();
    assert_eq!(address, at(one.ipv4(), 5_432));
    app.burst(burst(address, 3, exchange(1, 10, 1_000))).unwrap();
    let truth = agreed(&mut [("db", &mut db), ("app", &mut app)], &[]);
    world.must_become_within(SETTLED, &truth);
    let told = |fleet: &Fleet| {
        let nodes = fleet.json("/api/v1/nodes").map_err(|error| error.to_string())?;
        let text = |value: &Value| value.to_string();
        let is_told = text(&nodes).contains("pods is forbidden");
        if is_told { Ok(()) } else { Err(text(&nodes)) }
    };
    world.fleet.wait("the refusal", LIMIT, told).unwrap();
    world.stop();
}
