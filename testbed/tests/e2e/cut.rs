//! An agent that cannot reach the aggregator for a while.

use std::{
    net::SocketAddr,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
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

const TEN_MINUTES: Duration = Duration::from_secs(600);

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
    let shown = world.fleet.wait("the hole", LIMIT, |fleet| {
        let (batches, seconds) =
            (loss(&world, "resolution_folded"), loss(&world, "resolution_folded_seconds"));
        let coverage = &fleet.json("/api/v1/topology").unwrap()["coverage"];
        let (holes, two) = (coverage["holes"].as_array().unwrap(), world.hosts[1].name());
        let folded = |hole: &Value| hole["reason"] == "folded" && hole["node"] == two;
        if batches >= 10 && seconds > 0 && !holes.is_empty() && holes.iter().all(folded) {
            Ok(())
        } else {
            Err(format!("{batches}, {seconds} s, {coverage}"))
        }
    });
    shown.unwrap();
    world.stop();
}

/// Length of a step of the history.
const STEP_MS: u128 = 10_000;

/// A step, by its begin in milliseconds since the epoch.
#[derive(Clone, Copy, Debug)]
struct Step(u128);

impl Step {
    /// The next one, just after it has begun.
    fn next() -> Self {
        let now = now_ms();
        let begin = now - now % STEP_MS + STEP_MS;
        let wait = Duration::from_millis(u64::try_from(begin - now).unwrap());
        std::thread::sleep(wait + Duration::from_secs(1));
        Self(begin)
    }

    /// What the graph says of it.
    fn view(self, world: &World) -> Value {
        let (from, to) = (self.0, self.0 + STEP_MS);
        world.fleet.json(&format!("/api/v1/topology?from={from}&to={to}")).unwrap()
    }
}

fn now_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()
}

/// Connections and bytes of the only edge of a step; what was lost of it, besides.
fn told(view: &Value) -> (Vec<[u64; 3]>, &Value) {
    let edges = view["edges"].as_array().unwrap().iter();
    let numbers = edges.map(|edge| {
        ["connections", "bytes_to_server", "bytes_to_client"].map(|key| edge[key].as_u64().unwrap())
    });
    (numbers.filter(|numbers| numbers[0] > 0).collect(), &view["coverage"]["holes"])
}

/// So many connections to somebody without an agent, within a step.
fn talk(job: &mut Peer, away: SocketAddr, connections: u32) -> Step {
    let step = Step::next();
    job.burst(burst(away, connections, exchange(1, 200, 500))).unwrap();
    assert!(now_ms() < step.0 + STEP_MS - 2_000, "the machine is too slow for this");
    step
}

#[test]
#[ignore = "takes eleven minutes"]
fn an_outage_of_ten_minutes_costs_nothing() {
    let Some(unstarted) = unstarted() else { return };
    let world = world(unstarted, &[]);
    let [one, two, _] = &world.hosts;
    let (mut web, mut db) = (one.peer("web").unwrap(), two.peer("db").unwrap());
    let target = db.listen(two.ipv4(), 5_432).unwrap();
    let (from, mut bursts) = (now_ms() - STEP_MS, 0);
    let mut talk = || {
        web.burst(burst(target, 3, exchange(2, 300, 2_000))).unwrap();
        bursts += 1;
        std::thread::sleep(Duration::from_secs(1));
    };
    talk();
    two.namespace().nft(CUT).unwrap();
    let begin = Instant::now();
    while begin.elapsed() < TEN_MINUTES {
        talk();
    }
    assert_eq!(value(two, "weft_agent_connected"), 0.0);
    two.namespace().nft("delete table inet cut").unwrap();
    let sent = [3 * bursts, 3 * bursts * 600, 3 * bursts * 4_000];
    let shown = world.fleet.wait("everything", LIMIT, |fleet| {
        let to = now_ms();
        let view = fleet.json(&format!("/api/v1/topology?from={from}&to={to}")).unwrap();
        let (edges, holes) = told(&view);
        let complete = edges == [sent] && holes.as_array().unwrap().is_empty();
        if complete { Ok(()) } else { Err(format!("{edges:?} for {sent:?}, {holes}")) }
    });
    shown.unwrap();
    assert_eq!(loss(&world, "resolution_folded"), 0, "nor has any of its time");
    world.stop();
}

#[test]
fn what_happened_in_an_outage_lies_where_it_happened() {
    let Some(unstarted) = unstarted() else { return };
    let spool = unstarted.lab.folder().join("spool");
    let spool = spool.to_str().unwrap();
    let world = world(unstarted, &["--queue-max-bytes", "16KiB", "--spool-dir", spool]);
    let [_, two, three] = &world.hosts;
    let (mut job, mut server) = (two.peer("job").unwrap(), three.peer("away").unwrap());
    let away = server.listen(three.ipv4(), 8_080).unwrap();
    job.burst(burst(away, 1, exchange(1, 1, 1))).unwrap();
    let settled = world.fleet.wait("a settled edge", LIMIT, |fleet| {
        let edges = &fleet.json("/api/v1/topology").unwrap()["edges"];
        if edges[0]["pending"] == false { Ok(()) } else { Err(edges.to_string()) }
    });
    settled.unwrap();
    let before = talk(&mut job, away, 3);
    let _ = Step::next();
    two.namespace().nft(CUT).unwrap();
    let cut = world.fleet.wait("a full memory", LIMIT, |_| {
        job.burst(burst(away, 1, exchange(1, 1, 1))).unwrap();
        let (connected, spooled) =
            (value(two, "weft_agent_connected"), value(two, "weft_agent_spool_bytes"));
        let cut = connected == 0.0 && spooled > 0.0;
        if cut { Ok(()) } else { Err(format!("{connected}, {spooled}")) }
    });
    cut.unwrap();
    // Somebody talks in two of three steps.
    let during = [talk(&mut job, away, 5), Step::next(), talk(&mut job, away, 7)];
    let _ = Step::next();
    for step in during {
        let view = step.view(&world);
        let (numbers, holes) = told(&view);
        assert_eq!(numbers, [[0; 3]; 0]);
        assert_eq!(
            (&holes[0]["node"], &holes[0]["reason"]),
            (&json!(two.name()), &json!("silent"))
        );
        assert_eq!(view["coverage"]["complete"], false);
    }
    two.namespace().nft("delete table inet cut").unwrap();
    let delivered = world.fleet.wait("an empty spool", LIMIT, |_| {
        let (connected, spooled) =
            (value(two, "weft_agent_connected"), value(two, "weft_agent_spool_bytes"));
        let delivered = connected == 1.0 && spooled == 0.0;
        if delivered { Ok(()) } else { Err(format!("{connected}, {spooled}")) }
    });
    delivered.unwrap();
    let expected = [(before, 3), (during[0], 5), (during[1], 0), (during[2], 7)];
    let placed = world.fleet.wait("what happened", LIMIT, |_| {
        for (step, n) in expected {
            let view = step.view(&world);
            let numbers = if n > 0 { vec![[n, n * 200, n * 500]] } else { Vec::new() };
            let complete = view["coverage"]["complete"] == true;
            if told(&view) != (numbers, &json!([])) || !complete {
                return Err(view.to_string());
            }
        }
        Ok(())
    });
    placed.unwrap();
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
