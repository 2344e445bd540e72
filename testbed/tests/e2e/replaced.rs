//! Pins that the next agent cannot go on with.

use std::{fs, net::SocketAddr, process::Command as Program};

use testbed::{lab::Host, traffic::Peer};

use crate::{
    pinned::{Bpffs, Talk, kill_agents, log, start_agents, world},
    support::{burst, exchange},
    world::{SETTLED, World, unstarted},
};

/// Sets a 64-bit word of the ledger that is pinned for a host.
fn set_word(dir: &str, word: usize, value: u64) {
    let map = format!("{dir}/map_ledger");
    let key = ["key", "hex", "00", "00", "00", "00"];
    let bpftool = |args: &[&str]| {
        let output = Program::new("bpftool").args(args).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let shown = bpftool(&[&["-j", "map", "lookup", "pinned", &map], &key[..]].concat());
    let shown: serde_json::Value = serde_json::from_slice(&shown).unwrap();
    let bytes = shown["value"].as_array().unwrap().iter();
    let hex = |byte: &serde_json::Value| byte.as_str().unwrap()[2..].to_owned();
    let mut bytes: Vec<String> = bytes.map(hex).collect();
    for (at, byte) in value.to_ne_bytes().iter().enumerate() {
        bytes[word * 8 + at] = format!("{byte:02x}");
    }
    let bytes: Vec<&str> = bytes.iter().map(String::as_str).collect();
    let update = [&["map", "update", "pinned", &map], &key[..], &["value", "hex"], &bytes];
    bpftool(&update.concat());
}

/// Places of words in the ledger's head.
const MAGIC: usize = 0;
const SCHEMA: usize = 2;

#[test]
fn what_another_schema_has_counted_is_read_out() {
    let Some(unstarted) = unstarted() else { return };
    let spool = unstarted.lab.folder().join("spool").to_str().unwrap().to_owned();
    let mut pins = Bpffs::mount();
    pins.spool = Some(spool);
    let mut world = world(unstarted, &pins);
    let mut talk = Talk::begin(&world);
    talk.go_on(&world);
    let truth = talk.truth(&world);
    world.must_become(&truth);
    for round in 0..2 {
        talk.go_on(&world);
        kill_agents(&mut world);
        talk.go_on(&world);
        for host in &world.hosts[..2] {
            set_word(&pins.of(host), SCHEMA, 1_000 + round);
        }
        let truth = talk.truth(&world);
        start_agents(&mut world, &pins);
        let log = log(&mut world, 1);
        assert!(log.contains("read out and replaced: it is of schema 100"), "{log}");
        world.must_become_within(SETTLED, &truth);
    }
    world.stop();
}

/// Nothing that an agent sends arrives.
const CUT: &str = "table inet cut {
    chain out { type filter hook output priority 0; tcp dport 7443 drop; }
}";

/// What was replaced is told by whoever comes to it, and only then given up.
#[test]
fn a_last_report_outlives_agents_that_are_killed() {
    let Some(unstarted) = unstarted() else { return };
    let mut pins = Bpffs::mount();
    let mut world = world(unstarted, &pins);
    let mut talk = Talk::begin(&world);
    talk.go_on(&world);
    let truth = talk.truth(&world);
    world.must_become(&truth);
    kill_agents(&mut world);
    talk.go_on(&world);
    for host in &world.hosts[..2] {
        set_word(&pins.of(host), SCHEMA, 1_000);
        host.namespace().nft(CUT).unwrap();
    }
    let truth = talk.truth(&world);
    pins.cut_off = true;
    for text in ["read out and replaced", "going on with", "going on with"] {
        start_agents(&mut world, &pins);
        let log = log(&mut world, 0);
        assert!(log.contains(text), "{log}");
        kill_agents(&mut world);
    }
    for host in &world.hosts[..2] {
        assert_eq!(set_aside(&pins, host), 1);
        host.namespace().nft("delete table inet cut").unwrap();
    }
    pins.cut_off = false;
    start_agents(&mut world, &pins);
    world.must_become_within(SETTLED, &truth);
    let gone = world.fleet.wait("what was set aside to go", SETTLED, |_| {
        let left: usize = world.hosts[..2].iter().map(|host| set_aside(&pins, host)).sum();
        if left == 0 { Ok(()) } else { Err(format!("{left}")) }
    });
    gone.unwrap();
    talk.go_on(&world);
    let truth = talk.truth(&world);
    world.must_become_within(SETTLED, &truth);
    world.stop();
}

/// Folders of counts that are not told yet.
fn set_aside(pins: &Bpffs, host: &Host) -> usize {
    let entries = fs::read_dir(pins.of(host)).unwrap().flatten();
    entries.filter(|entry| entry.file_type().unwrap().is_dir()).count()
}

/// Two hosts' peers that have talked five times, and where.
fn talking(world: &World) -> (Peer, Peer, SocketAddr) {
    let (mut web, mut db) =
        (world.hosts[0].peer("web").unwrap(), world.hosts[1].peer("db").unwrap());
    let target = db.listen(world.hosts[1].ipv4(), 5_432).unwrap();
    web.burst(burst(target, 5, exchange(1, 100, 100))).unwrap();
    (web, db, target)
}

/// What somebody has detached counts no more, whatever fits otherwise.
#[test]
fn what_is_detached_is_replaced() {
    let Some(unstarted) = unstarted() else { return };
    let pins = Bpffs::mount();
    let mut world = world(unstarted, &pins);
    let (mut web, mut db, target) = talking(&world);
    kill_agents(&mut world);
    // Nobody has told of these yet.
    web.burst(burst(target, 5, exchange(1, 100, 100))).unwrap();
    let link = format!("{}/link_sock_ops", pins.of(&world.hosts[0]));
    let output = Program::new("bpftool").args(["link", "detach", "pinned", &link]).output();
    assert!(output.unwrap().status.success());
    start_agents(&mut world, &pins);
    let logs = [log(&mut world, 0), log(&mut world, 1)];
    assert!(logs[0].contains("read out and replaced: sock_ops is detached"), "{}", logs[0]);
    assert!(logs[1].contains("going on with"), "{}", logs[1]);
    web.burst(burst(target, 5, exchange(1, 100, 100))).unwrap();
    world.must_show(&mut [&mut web, &mut db]);
    world.stop();
}

#[test]
fn what_is_half_made_or_unreadable_is_replaced() {
    let Some(unstarted) = unstarted() else { return };
    let pins = Bpffs::mount();
    let mut world = world(unstarted, &pins);
    let (mut web, mut db, target) = talking(&world);
    world.must_show(&mut [&mut web, &mut db]);
    // One agent was killed before its programs were all pinned, the other is of a version that nobody knows.
    for (host, word, value) in [(0, MAGIC, 0), (1, 1, 99)] {
        world.fleet.kill_agent(&world.hosts[host]).unwrap();
        set_word(&pins.of(&world.hosts[host]), word, value);
    }
    start_agents(&mut world, &pins);
    let logs = [log(&mut world, 0), log(&mut world, 1)];
    assert!(!logs[0].contains("going on with"), "{}", logs[0]);
    assert!(logs[1].contains("its ledger is of version 99"), "{}", logs[1]);
    web.burst(burst(target, 5, exchange(1, 100, 100))).unwrap();
    world.must_show(&mut [&mut web, &mut db]);
    world
        .fleet
        .wait("the loss", SETTLED, |fleet| {
            let nodes = fleet.json("/api/v1/nodes").map_err(|error| error.to_string())?;
            let nodes = nodes["nodes"].as_array().cloned().unwrap_or_default();
            let lost = nodes.iter().any(|node| node["losses"]["pins_unreadable"] == 1);
            if lost { Ok(()) } else { Err(format!("{nodes:?}")) }
        })
        .unwrap();
    world.stop();
}
