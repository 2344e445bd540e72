//! A host that vanishes from the network without a word.

use std::{
    fs,
    time::{Duration, Instant},
};

use testbed::fleet::Fleet;

use crate::{
    support::{burst, exchange},
    world::world,
};

/// The aggregator asks a silent agent after 10 s, and waits for 10 s; the rest is for a busy machine.
const NOTICED: Duration = Duration::from_secs(30);

/// How long it may take until everything is as it was.
const LIMIT: Duration = Duration::from_secs(60);

/// Nothing leaves the host and nothing reaches it: no FIN, no reset.
const GONE: &str = "table inet gone {
    chain out { type filter hook output priority 0; drop; }
    chain in { type filter hook input priority 0; drop; }
}";

/// Connections of agents that a process has, by its kernel.
fn connections(process: u32) -> usize {
    // The port of agents and "established".
    let is_one = |line: &&str| {
        let mut fields = line.split_whitespace().skip(1);
        let local = fields.next().unwrap_or("");
        local.ends_with(":1D13") && fields.nth(1) == Some("01")
    };
    let tables = ["tcp", "tcp6"].map(|table| format!("/proc/{process}/net/{table}"));
    tables.iter().map(|path| fs::read_to_string(path).unwrap().lines().filter(is_one).count()).sum()
}

fn is_connected(fleet: &Fleet, name: &str) -> bool {
    let nodes = fleet.json("/api/v1/nodes").unwrap();
    let mut nodes = nodes["nodes"].as_array().unwrap().iter();
    nodes.any(|node| node["name"] == name && node["connected"] == true)
}

#[test]
fn a_host_that_vanishes_is_given_up_in_bounded_time() {
    let Some(mut world) = world() else { return };
    let aggregator = world.fleet.aggregator().id();
    let [one, two, _] = &world.hosts;
    let (mut web, mut db) = (one.peer("web").unwrap(), two.peer("db").unwrap());
    let target = db.listen(two.ipv4(), 5_432).unwrap();
    web.burst(burst(target, 5, exchange(2, 100, 1_000))).unwrap();
    world.must_show(&mut [&mut web, &mut db]);
    let before = connections(aggregator);
    assert_eq!(before, world.hosts.len());
    two.namespace().nft(GONE).unwrap();
    let begin = Instant::now();
    let noticed = world.fleet.wait("the end of its stream", NOTICED, |fleet| {
        let (left, connected) = (connections(aggregator), is_connected(fleet, two.name()));
        // Its place is free, too.
        if left < before && !connected { Ok(()) } else { Err(format!("{left}, {connected}")) }
    });
    noticed.unwrap();
    assert!(begin.elapsed() > Duration::from_secs(4), "it has said that it goes");
    two.namespace().nft("delete table inet gone").unwrap();
    let back = world.fleet.wait("the host", LIMIT, |fleet| {
        if is_connected(fleet, two.name()) { Ok(()) } else { Err("it is not there".to_owned()) }
    });
    back.unwrap();
    web.burst(burst(target, 3, exchange(1, 200, 500))).unwrap();
    world.must_show(&mut [&mut web, &mut db]);
    world.stop();
}
