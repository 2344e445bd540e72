//! More than there is room for: a scan through a host.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use serde_json::Value;
use testbed::{
    fleet::{Fleet, Graph},
    traffic::Reason,
    truth::{EdgeName, collect},
};

use crate::{
    support::{burst, exchange, open},
    world::{INTERVAL, Unstarted, World, at, unstarted},
};

/// Halves that the scanned host's agent tells apart.
const MAX_HALVES: usize = 500;

/// Addresses of loopback, each of which is scanned at every port.
const ADDRESSES: u32 = 500;
const PORTS: [u16; 12] = [21, 22, 23, 25, 53, 80, 110, 143, 443, 993, 3306, 6379];

/// How long until all of it shows.
const LIMIT: Duration = Duration::from_secs(60);

/// The most resident memory that the agent may come to.
const AGENT_BYTES: u64 = 64 << 20;

fn loss(world: &World, cause: &str) -> u64 {
    let nodes = world.fleet.json("/api/v1/nodes").unwrap();
    let all = nodes["nodes"].as_array().unwrap();
    let node = all.iter().find(|node| node["name"] == "one").unwrap();
    node["losses"].get(cause).and_then(Value::as_u64).unwrap_or(0)
}

/// Refused attempts of the scan: all, and those that count for `other`.
fn refused(graph: &Graph) -> (u64, u64) {
    let scans = graph.edges.iter().filter(|(name, _)| name.client == "scan");
    let counts = scans.map(|(name, count)| {
        let refused = count.failed.get(&Reason::Refused).copied().unwrap_or(0);
        (refused, if name.server == "other" { refused } else { 0 })
    });
    counts.fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1))
}

#[test]
fn a_scan_of_more_than_there_is_room_for_is_counted_to_the_last_attempt() {
    let Some(Unstarted { hosts, lab, alone }) = unstarted() else { return };
    let mut fleet = Fleet::start(&lab, INTERVAL).unwrap();
    let [one, two, _] = &hosts;
    fleet.add_agent_with(one, &["--max-halves", &MAX_HALVES.to_string()]).unwrap();
    fleet.add_agent(two).unwrap();
    let agent = fleet.agents()[0].process.id();
    let world = World { fleet, hosts, lab, _alone: alone };
    let [one, two, _] = &world.hosts;

    let (mut web, mut db) = (one.peer("web").unwrap(), two.peer("db").unwrap());
    let mut scan = one.peer("scan").unwrap();
    let target = db.listen(two.ipv4(), 5_432).unwrap();
    web.burst(burst(target, 5, exchange(2, 100, 1_000))).unwrap();
    world.must_show(&mut [&mut web, &mut db]);
    let mut attempts = 0;
    for port in PORTS {
        for number in 0..ADDRESSES {
            let ip = IpAddr::from(Ipv4Addr::from(0x7f01_0000 + number));
            assert_eq!(scan.open(open("g", at(ip, port), 1)).unwrap(), (0, 1));
            attempts += 1;
        }
        // At the same time, somebody else goes on with his work.
        web.burst(burst(target, 3, exchange(1, 300, 2_000))).unwrap();
    }
    let truth = collect(&mut [&mut web, &mut db], |address| world.name_of(address)).unwrap();
    let name = EdgeName { client: "web".into(), server: "db".into(), port: 5_432 };
    let shown = world.fleet.wait("every attempt", LIMIT, |fleet| {
        let graph = fleet.graph().map_err(|error| error.to_string())?;
        let (all, other) = refused(&graph);
        let work = graph.edges.get(&name) == truth.get(&name);
        let folded = graph.coverage["series_folded"].as_u64() > Some(0);
        if all == attempts && other > 0 && work && folded {
            return Ok(());
        }
        Err(format!("{all} of {attempts}, {other} of other, {:?}", graph.edges.get(&name)))
    });
    shown.unwrap();
    assert!(loss(&world, "halves_folded") > 0);
    assert_eq!((loss(&world, "halves_full"), loss(&world, "report_full")), (0, 0));
    let status = std::fs::read_to_string(format!("/proc/{agent}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let highest = line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1_024;
    assert!(highest < AGENT_BYTES, "{highest}");

    // What the scan took is given back: others find room.
    let mut port = 10_000;
    let apart = world.fleet.wait("room", LIMIT, |fleet| {
        port += 1;
        let ip = "127.0.9.9".parse().unwrap();
        scan.open(open("g", at(ip, port), 1)).map_err(|error| error.to_string())?;
        let graph = fleet.graph().map_err(|error| error.to_string())?;
        let found = graph.edges.keys().any(|name| name.server == "one" && name.port > 10_000);
        if found { Ok(()) } else { Err("all count for other".to_owned()) }
    });
    apart.unwrap();
    world.stop();
}
