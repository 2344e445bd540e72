//! Agents that leave their programs counting, and agents that go on with them.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    process::Command as Program,
    thread,
    time::{Duration, Instant},
};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::Value;
use testbed::{
    binaries,
    fleet::{AGENT_HTTP, Fleet, KernelObjects, get},
    lab::Host,
    traffic::{Command, Ending, Peer},
    truth::{Truth, collect},
};

use crate::{
    support::{burst, exchange, open},
    world::{INTERVAL, SETTLED, Unstarted, World, unstarted},
};

/// A minute after a slot was last used it is given back, in two steps.
const GIVE_BACK: Duration = Duration::from_secs(120);

/// How long the kernel may take to free what nobody uses any more.
const FREE_LIMIT: Duration = Duration::from_secs(10);

/// A BPF file system of the test's own: what is pinned there goes with it.
pub struct Bpffs {
    folder: PathBuf,
    /// No agent reaches the aggregator.
    pub cut_off: bool,
    /// The second host's agent has a spool.
    pub spool: Option<String>,
}

impl Bpffs {
    pub fn mount() -> Self {
        let folder = std::env::temp_dir().join(format!("weft-pins-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let none: Option<&str> = None;
        mount(Some("bpf"), &folder, Some("bpf"), MsFlags::empty(), none).unwrap();
        Self { folder, cut_off: false, spool: None }
    }

    pub fn of(&self, host: &Host) -> String {
        self.folder.join(host.name()).to_str().unwrap().to_owned()
    }

    /// Starts agents on the first two hosts.
    fn start_agents(&self, fleet: &mut Fleet, hosts: &[Host]) {
        for (host, spool) in hosts.iter().zip([None, self.spool.as_deref()]) {
            let dir = self.of(host);
            let spool = spool.map(|spool| ["--spool-dir", spool]);
            let args = ["--pin-dir", &dir];
            let args = [&args[..], spool.as_ref().map_or(&[], |s| &s[..])].concat();
            let started = match self.cut_off {
                true => fleet.start_agent_with(host, &args),
                false => fleet.add_agent_with(host, &args),
            };
            started.unwrap();
        }
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        let _ = umount2(&self.folder, MntFlags::MNT_DETACH);
        let _ = fs::remove_dir(&self.folder);
    }
}

/// A world in which the agents of the first two hosts pin, and the third host has none: whatever is lost or
/// doubled is so on both sides of an edge, or on the only one.
pub fn world(unstarted: Unstarted, pins: &Bpffs) -> World {
    let Unstarted { hosts, lab, alone } = unstarted;
    let mut fleet = Fleet::start(&lab, INTERVAL).unwrap();
    pins.start_agents(&mut fleet, &hosts[..2]);
    World { fleet, hosts, lab, _alone: alone }
}

pub fn start_agents(world: &mut World, pins: &Bpffs) {
    pins.start_agents(&mut world.fleet, &world.hosts[..2]);
}

pub fn kill_agents(world: &mut World) {
    for host in &world.hosts[..2] {
        world.fleet.kill_agent(host).unwrap();
    }
}

/// What an agent that runs now has written.
pub fn log(world: &mut World, host: usize) -> String {
    let name = world.hosts[host].name().to_owned();
    let agent = world.fleet.agents().iter().find(|agent| agent.node == name);
    agent.unwrap().process.output()
}

/// Every counter of the edges in `/metrics`.
fn counters(fleet: &Fleet) -> BTreeMap<String, f64> {
    let metrics = fleet.get("/metrics").unwrap().body;
    let edges = metrics.lines().filter(|line| line.starts_with("weft_edge_"));
    let pairs = edges.filter_map(|line| line.rsplit_once(' '));
    let totals = pairs.filter(|(series, _)| {
        ["_total{", "_count{", "_bucket{"].iter().any(|kind| series.contains(kind))
    });
    totals.map(|(series, value)| (series.to_owned(), value.parse().unwrap())).collect()
}

fn must_not_have_fallen(before: &BTreeMap<String, f64>, now: &BTreeMap<String, f64>) {
    for (series, before) in before {
        let now = now.get(series).copied();
        assert!(now.is_some_and(|now| now >= *before), "{series} was {before} and is {now:?}");
    }
}

/// Everything that may happen while no agent runs: connections that only live then, old ones that go on, that end and
/// that only receive, new ones that stay, attempts that fail.
pub struct Talk {
    web: Peer,
    db: Peer,
    round: u32,
}

impl Talk {
    pub fn begin(world: &World) -> Self {
        let [one, two, _] = &world.hosts;
        let (mut web, mut db) = (one.peer("web").unwrap(), two.peer("db").unwrap());
        db.listen(two.ipv4(), 5_432).unwrap();
        let push = db.listen(two.ipv6(), 5_433).unwrap();
        web.open(open("hear", push, 2)).unwrap();
        web.open(open("old", (two.ipv4(), 5_432).into(), 3)).unwrap();
        web.open(open("ends-0", (two.ipv4(), 5_432).into(), 2)).unwrap();
        Self { web, db, round: 0 }
    }

    pub fn go_on(&mut self, world: &World) {
        let two = &world.hosts[1];
        let (target, push) = ((two.ipv4(), 5_432).into(), (two.ipv6(), 5_433).into());
        let round = self.round;
        let web = &mut self.web;
        web.burst(burst(target, 7, exchange(2, 100, 1_000))).unwrap();
        web.exchange("old", exchange(2, 5_000, 9_000), Ending::Keep).unwrap();
        web.exchange(&format!("ends-{round}"), exchange(1, 70, 80), Ending::ClientCloses).unwrap();
        web.open(open(&format!("ends-{}", round + 1), target, 2)).unwrap();
        self.db.ask(&Command::Push { address: push, bytes: 7_000 }).unwrap();
        web.ask(&Command::Receive { group: "hear".into(), bytes: 7_000 }).unwrap();
        let nobody = (two.ipv4(), 9).into();
        assert_eq!(web.open(open("refused", nobody, 3)).unwrap(), (0, 3));
        self.round += 1;
    }

    pub fn truth(&mut self, world: &World) -> Truth {
        collect(&mut [&mut self.web, &mut self.db], |address| world.name_of(address)).unwrap()
    }
}

#[test]
fn agents_that_are_killed_lose_nothing() {
    let Some(unstarted) = unstarted() else { return };
    let pins = Bpffs::mount();
    let mut world = world(unstarted, &pins);
    let mut talk = Talk::begin(&world);
    talk.go_on(&world);
    let truth = talk.truth(&world);
    world.must_become(&truth);
    for round in 0..kills() {
        let before = counters(&world.fleet);
        // Just before the end, so that some of it is read and not sent, or sent and not acknowledged.
        talk.go_on(&world);
        thread::sleep(Duration::from_millis(u64::from(round) * 61 % 250));
        kill_agents(&mut world);
        talk.go_on(&world);
        if round == 1 {
            // Longer than the agents' interval and than an edge takes to settle.
            thread::sleep(Duration::from_secs(3));
            talk.go_on(&world);
        }
        start_agents(&mut world, &pins);
        assert!(log(&mut world, 0).contains("going on with"), "{}", log(&mut world, 0));
        let truth = talk.truth(&world);
        world.must_become_within(SETTLED, &truth);
        must_not_have_fallen(&before, &counters(&world.fleet));
        if round == 1 {
            // Both have told it as one.
            let (holes, two) = (holes(&world), world.hosts[1].name());
            let folded = |hole: &&Value| hole["reason"] == "folded" && hole["node"] == two;
            assert_eq!(holes.iter().filter(folded).count(), 1, "{holes:?}");
            assert!(holes.iter().all(|hole| hole["reason"] == "folded"), "{holes:?}");
        }
    }
    // An owner that was named and goes while nobody looks, and one that only is there then. What the first one's command
    // would give as a name is cut off.
    let [one, two, _] = &world.hosts;
    let target = (two.ipv4(), 5_432).into();
    let mut named = one.peer("named-by-its-program").unwrap();
    named.burst(burst(target, 5, exchange(1, 300, 400))).unwrap();
    let Talk { web, db, .. } = &mut talk;
    let truth = collect(&mut [web, db, &mut named], |address| world.name_of(address)).unwrap();
    world.must_become_within(SETTLED, &truth);
    let mut brief = one.peer("brief").unwrap();
    for host in [one, two] {
        world.fleet.kill_agent(host).unwrap();
    }
    named.burst(burst(target, 2, exchange(1, 30, 40))).unwrap();
    brief.burst(burst(target, 5, exchange(1, 300, 400))).unwrap();
    let Talk { web, db, .. } = &mut talk;
    let mut peers = [web, db, &mut named, &mut brief];
    let truth = collect(&mut peers, |address| world.name_of(address)).unwrap();
    drop((named, brief));
    start_agents(&mut world, &pins);
    world.must_become_within(SETTLED, &truth);
    world.stop();
}

/// Stretches that somebody has told nothing of, or only a sum.
fn holes(world: &World) -> Vec<Value> {
    let view = world.fleet.json("/api/v1/topology").unwrap();
    view["coverage"]["holes"].as_array().unwrap().clone()
}

/// How often agents are killed: `WEFT_KILLS`, or a few times.
fn kills() -> u32 {
    std::env::var("WEFT_KILLS").ok().and_then(|times| times.parse().ok()).unwrap_or(4)
}

/// What a slot had counted that was given back is in the ledger alone.
#[test]
fn what_was_given_back_stays_counted() {
    let Some(unstarted) = unstarted() else { return };
    let pins = Bpffs::mount();
    let mut world = world(unstarted, &pins);
    let mut db = world.hosts[1].peer("db").unwrap();
    let target = db.listen(world.hosts[1].ipv4(), 5_432).unwrap();
    // Each process has a slot of its own, and all are one half.
    let mut jobs: Vec<Peer> = (0..3).map(|_| world.hosts[0].peer("job").unwrap()).collect();
    let mut reports = Vec::new();
    for job in &mut jobs[..2] {
        job.burst(burst(target, 5, exchange(1, 700, 900))).unwrap();
        reports.push(("job".to_owned(), job.report().unwrap()));
    }
    let mut must_show = |world: &World, last: &mut Peer, limit| {
        let mut reports = reports.clone();
        reports.push(("job".to_owned(), last.report().unwrap()));
        reports.push(("db".to_owned(), db.report().unwrap()));
        let truth = testbed::truth::truth(&reports, |address| world.name_of(address)).unwrap();
        world.must_become_within(limit, &truth);
    };
    must_show(&world, &mut jobs[2], SETTLED);
    let used = "weft_agent_slots_used ";
    let given_back = world.fleet.wait("slots that are given back", GIVE_BACK, |_| {
        // The half goes on.
        jobs[2].burst(burst(target, 1, exchange(1, 70, 90))).unwrap();
        let url = format!("http://{AGENT_HTTP}/metrics");
        let metrics = get(world.hosts[0].namespace(), &url).unwrap().body;
        let line = metrics.lines().find_map(|line| line.strip_prefix(used)).map(str::to_owned);
        thread::sleep(Duration::from_secs(1));
        if line.as_deref() == Some("1") { Ok(()) } else { Err(format!("used: {line:?}")) }
    });
    given_back.unwrap();
    for _ in 0..2 {
        kill_agents(&mut world);
        jobs[2].burst(burst(target, 2, exchange(1, 50, 60))).unwrap();
        start_agents(&mut world, &pins);
        must_show(&world, &mut jobs[2], SETTLED);
    }
    world.stop();
}

/// Sockets of a namespace in which the agent does not live are looked at through a pinned iterator, too.
#[test]
fn a_connection_of_another_namespace_that_only_receives_is_caught_up_with() {
    let Some(unstarted) = unstarted() else { return };
    let pins = Bpffs::mount();
    let mut world = world(unstarted, &pins);
    let [one, two, _] = &world.hosts;
    let network = one.add_network().unwrap();
    let mut hears = one.peer_at("hears", Some("shop.service"), &network).unwrap();
    let mut db = two.peer("db").unwrap();
    let push = db.listen(two.ipv4(), 5_433).unwrap();
    hears.open(open("hear", push, 2)).unwrap();
    // Who is pushed to is who has been accepted.
    hears.exchange("hear", exchange(1, 10, 10), Ending::Keep).unwrap();
    let mut push = |bytes| {
        db.ask(&Command::Push { address: push, bytes }).unwrap();
        hears.ask(&Command::Receive { group: "hear".into(), bytes }).unwrap();
    };
    push(7_000);
    kill_agents(&mut world);
    push(70_000);
    start_agents(&mut world, &pins);
    push(100_000);
    // The unit is what the socket's owner is called.
    let reports = vec![
        ("shop.service".to_owned(), hears.report().unwrap()),
        ("db".to_owned(), db.report().unwrap()),
    ];
    let truth = testbed::truth::truth(&reports, |address| world.name_of(address)).unwrap();
    world.must_become_within(SETTLED, &truth);
    world.stop();
}

#[test]
fn an_upgrade_loses_nothing() {
    let Some(unstarted) = unstarted() else { return };
    let pins = Bpffs::mount();
    let mut world = world(unstarted, &pins);
    let mut talk = Talk::begin(&world);
    for _ in 0..2 {
        talk.go_on(&world);
        let [one, two, _] = &world.hosts;
        for host in [one, two] {
            world.fleet.stop_agent(host).unwrap();
        }
        talk.go_on(&world);
        start_agents(&mut world, &pins);
        let truth = talk.truth(&world);
        world.must_become_within(SETTLED, &truth);
    }
    world.stop();
}

/// Runs `weft-agent` with these arguments; returns its exit code and what it says.
fn agent(args: &[&str]) -> (i32, String) {
    let output = Program::new(binaries::find("weft-agent").unwrap()).args(args).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

#[test]
fn detach_leaves_nothing() {
    let Some(unstarted) = unstarted() else { return };
    let pins = Bpffs::mount();
    let mut world = world(unstarted, &pins);
    let host = &world.hosts[0];
    let dir = pins.of(host);
    let held = KernelObjects::held_by(world.fleet.agents()[0].process.id()).unwrap();
    assert!(!held.maps.is_empty(), "{held:?}");
    let (code, text) = agent(&["detach", "--pin-dir", &dir]);
    assert!(code == 1 && text.contains("another agent uses"), "{code}: {text}");

    world.fleet.stop_agent(host).unwrap();
    let left = held.intersection(&KernelObjects::in_kernel().unwrap());
    assert!(left.maps.len() == held.maps.len() && !left.programs.is_empty(), "{left:?}");
    let (code, text) = agent(&["doctor", "--pin-dir", &dir]);
    assert!(code == 0 && text.contains("links in"), "{code}: {text}");
    let (code, text) = agent(&["detach", "--pin-dir", &dir]);
    assert!(code == 0 && text.starts_with("removed ") && text.lines().count() == 1, "{text}");
    let deadline = Instant::now() + FREE_LIMIT;
    loop {
        let left = held.intersection(&KernelObjects::in_kernel().unwrap());
        if left.is_empty() {
            break;
        }
        assert!(Instant::now() < deadline, "left: {left:?}");
        thread::sleep(Duration::from_millis(50));
    }
    assert!(!PathBuf::from(&dir).exists());
    let (code, text) = agent(&["detach", "--pin-dir", &dir]);
    assert!(code == 0 && text.starts_with("nothing is pinned"), "{code}: {text}");
    world.stop();
}

#[test]
fn a_second_agent_and_a_folder_elsewhere_are_refused() {
    let Some(unstarted) = unstarted() else { return };
    let pins = Bpffs::mount();
    let mut world = world(unstarted, &pins);
    let [one, two, three] = &world.hosts;
    let error = world.fleet.add_agent_with(three, &["--pin-dir", &pins.of(one)]).unwrap_err();
    assert!(error.to_string().contains("another agent uses"), "{error}");
    let elsewhere = world.lab.folder().join("pins");
    let elsewhere = elsewhere.to_str().unwrap();
    let (code, text) = agent(&["detach", "--pin-dir", elsewhere]);
    assert!(code == 64 && text.contains("is not on a BPF file system"), "{code}: {text}");
    // The one that has the folder is none the worse.
    let (mut web, mut db) = (one.peer("web").unwrap(), two.peer("db").unwrap());
    let target = db.listen(two.ipv4(), 5_432).unwrap();
    web.burst(burst(target, 5, exchange(1, 100, 100))).unwrap();
    world.must_show(&mut [&mut web, &mut db]);
    world.stop();
}
