//! An agent that cannot reach the aggregator for a while.

use std::time::Duration;

use serde_json::Value;
use testbed::{
    fleet::{AGENT_HTTP, Fleet, get},
    lab::Host,
    traffic::Peer,
    truth::{Truth, collect},
};

use crate::{
    support::{burst, exchange},
    world::{INTERVAL, Unstarted, World, unstarted},
};

/// How long it may take until an outage is noticed, and until it is overcome.
const LIMIT: Duration = Duration::from_secs(60);

/// Neither to the aggregator nor back, without a word.
const CUT: &str = "table inet cut {
    chain out { type filter hook output priority 0; tcp dport 7443 drop; }
    chain in { type filter hook input priority 0; tcp sport 7443 drop; }
}";

/// A world whose second host has an agent with these arguments.
fn world(unstarted: Unstarted, args: &[&str]) -> World {
    let Unstarted { hosts, lab, alone } = unstarted;
    let mut fleet = Fleet::start(&lab, INTERVAL).unwrap();
    fleet.add_agent(&hosts[0]).unwrap();
    fleet.add_agent_with(&hosts[1], args).unwrap();
    World { fleet, hosts, lab, _alone: alone }
}

/// Cuts the second host off while `web` talks to `db` there, until a metric of the agent there
/// is as high as this.
fn talk_while_cut(world: &World, web: &mut Peer, db: &mut Peer, metric: &str, least: f64) -> Truth {
    let two = &world.hosts[1];
    let target = db.listen(two.ipv4(), 5_432).unwrap();
    web.burst(burst(target, 5, exchange(2, 100, 1_000))).unwrap();
    world.must_show(&mut [web, db]);
    two.namespace().nft(CUT).unwrap();
    let noticed = world.fleet.wait("a broken stream", LIMIT, |_| {
        web.burst(burst(target, 3, exchange(2, 300, 2_000))).unwrap();
        let connected = value(two, "weft_agent_connected");
        if connected == 0.0 { Ok(()) } else { Err("it is connected".to_owned()) }
    });
    noticed.unwrap();
    let reached = world.fleet.wait(metric, LIMIT, |_| {
        web.burst(burst(target, 3, exchange(1, 200, 500))).unwrap();
        let value = value(two, metric);
        if value >= least { Ok(()) } else { Err(format!("it is {value}")) }
    });
    reached.unwrap();
    collect(&mut [web, db], |address| world.name_of(address)).unwrap()
}

/// A value out of `/metrics` of a host's agent; 0 when it is not there.
fn value(host: &Host, metric: &str) -> f64 {
    let metrics = get(host.namespace(), &format!("http://{AGENT_HTTP}/metrics")).unwrap().body;
    let mut lines = metrics.lines().filter_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
    lines.next().map_or(0.0, |value| value.parse().unwrap())
}

/// A loss that the aggregator shows for the second host.
fn loss(world: &World, cause: &str) -> u64 {
    let nodes = world.fleet.json("/api/v1/nodes").unwrap();
    let all = nodes["nodes"].as_array().unwrap();
    let node = all.iter().find(|node| node["name"] == world.hosts[1].name()).unwrap();
    node["losses"].get(cause).and_then(Value::as_u64).unwrap_or(0)
}

#[test]
fn an_outage_longer_than_memory_costs_nothing() {
    let Some(unstarted) = unstarted() else { return };
    let spool = unstarted.lab.folder().join("spool");
    let spool = spool.to_str().unwrap();
    let world = world(unstarted, &["--queue-max-bytes", "16KiB", "--spool-dir", spool]);
    let [one, two, _] = &world.hosts;
    let (mut web, mut db) = (one.peer("web").unwrap(), two.peer("db").unwrap());
    let bytes = "weft_agent_spool_bytes";
    let truth = talk_while_cut(&world, &mut web, &mut db, bytes, 8_192.0);
    two.namespace().nft("delete table inet cut").unwrap();
    world.must_become_within(LIMIT, &truth);
    assert_eq!(loss(&world, "resolution_folded"), 0);
    let delivered = world.fleet.wait("an empty spool", LIMIT, |_| {
        if value(two, bytes) == 0.0 { Ok(()) } else { Err("there are files".to_owned()) }
    });
    delivered.unwrap();
    world.stop();
}

#[test]
fn an_outage_longer_than_every_bound_costs_only_resolution() {
    let Some(unstarted) = unstarted() else { return };
    let spool = unstarted.lab.folder().join("spool");
    let spool = spool.to_str().unwrap();
    let bounds = ["--queue-max-bytes", "16KiB", "--spool-max-bytes", "16KiB"];
    let world = world(unstarted, &[&bounds[..], &["--spool-dir", spool]].concat());
    let [one, two, _] = &world.hosts;
    let (mut web, mut db) = (one.peer("web").unwrap(), two.peer("db").unwrap());
    let folded = "weft_agent_losses_total{cause=\"resolution_folded\"}";
    let truth = talk_while_cut(&world, &mut web, &mut db, folded, 10.0);
    two.namespace().nft("delete table inet cut").unwrap();
    world.must_become_within(LIMIT, &truth);
    let shown = world.fleet.wait("the hole", LIMIT, |_| {
        let (batches, seconds) =
            (loss(&world, "resolution_folded"), loss(&world, "resolution_folded_seconds"));
        if batches >= 10 && seconds > 0 { Ok(()) } else { Err(format!("{batches}, {seconds} s")) }
    });
    shown.unwrap();
    world.stop();
}

#[test]
fn an_agent_that_is_replaced_while_it_is_cut_off_loses_nothing() {
    let Some(unstarted) = unstarted() else { return };
    let spool = unstarted.lab.folder().join("spool");
    let args = ["--queue-max-bytes", "16KiB", "--spool-dir", spool.to_str().unwrap()];
    let mut world = world(unstarted, &args);
    let [one, two, _] = &world.hosts;
    let (mut web, mut db) = (one.peer("web").unwrap(), two.peer("db").unwrap());
    let truth = talk_while_cut(&world, &mut web, &mut db, "weft_agent_spool_bytes", 1.0);
    world.fleet.stop_agent(two).unwrap();
    two.namespace().nft("delete table inet cut").unwrap();
    world.fleet.add_agent_with(two, &args).unwrap();
    world.must_become_within(LIMIT, &truth);
    assert!(value(two, "weft_agent_spool_delivered_total") > 0.0);
    assert_eq!(std::fs::read_dir(&spool).unwrap().count(), 0);
    world.stop();
}
