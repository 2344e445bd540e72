//! Real agents, real traffic between two hosts, and the kernel's own numbers.

use std::{
    env,
    fs::File,
    net::SocketAddr,
    os::unix::process::CommandExt,
    process::Command,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use nix::fcntl::{Flock, FlockArg};
use serde_json::json;
use testbed::{
    binaries, environment,
    fleet::{Fleet, Graph},
    lab::{Host, Lab, mount_point},
    random::Random,
    traffic::{Burst, Dial, Ending, Exchange, Means, Peer},
    truth::{self, Truth},
};

use super::counters::Counters;
use crate::{
    options::Kill,
    process::{cargo, run as run_command, target_folder},
    terminal::say,
};

/// Interval of the agents: short, so that much happens between two kills.
const INTERVAL: Duration = Duration::from_millis(250);

/// Between two kills: at random up to that long.
const PAUSE: Duration = Duration::from_millis(1_500);

/// Before one of so many, connections between an agent and the aggregator are reset for a while.
const RESET_ONE_IN: u64 = 3;
const RESET_FOR: Duration = Duration::from_millis(400);

/// How long the graph may take to show it all in the end.
const SHOW_LIMIT: Duration = Duration::from_secs(120);

/// Losses of time resolution, which are none of numbers.
const RESOLUTION: &str = "cause=\"resolution_folded";

/// Between two bursts: connections are remembered one by one.
const REST: Duration = Duration::from_millis(40);

/// Everything between an agent and the aggregator is answered with a reset.
const RESET: &str = "table inet kill {
    chain out { type filter hook output priority 0; tcp dport 7443 reject with tcp reset; }
}";
const NO_RESET: &str = "delete table inet kill";

/// What happened on the way.
#[derive(Default)]
struct Happened {
    aggregators: u32,
    agents: u32,
    resets: u32,
    fell: Vec<String>,
    counters: Counters,
}

/// Plays it, and writes the report.
pub(super) fn run(options: &Kill) -> Result<()> {
    environment::check().context("real agents cannot run here")?;
    if env::var_os(binaries::BIN_DIR).is_none() {
        // Asked now: while cargo builds, this program's file may be replaced.
        let own = env::current_exe().context("find this program")?;
        let packages = ["-p", "aggregator", "-p", "node-agent", "-p", "testbed"];
        run_command(cargo().args(["build", "--bins"]).args(packages))?;
        let bins = target_folder().join("debug");
        // Once more, knowing where the programs are.
        let error =
            Command::new(own).args(env::args_os().skip(1)).env(binaries::BIN_DIR, bins).exec();
        return Err(error).context("start again");
    }
    // Alone among those that make labs: the end-to-end tests take the same lock.
    let mount = File::open(mount_point()?).context("open the cgroup file system")?;
    let _alone = Flock::lock(mount, FlockArg::LockExclusive)
        .map_err(|(_, error)| error)
        .context("lock the cgroup file system")?;
    let seed = options.seed.unwrap_or(1);
    say(format_args!("real agents, {} kills, seed {seed}", options.times));
    let begin = Instant::now();
    let (happened, truth) = play(options, seed)?;
    let connections: u64 = truth.values().map(|edge| edge.connections).sum();
    let bytes: u64 = truth.values().map(|edge| edge.bytes_to_server + edge.bytes_to_client).sum();
    let report = json!({
        "seed": seed,
        "seconds": begin.elapsed().as_secs_f64(),
        "aggregator_kills": happened.aggregators,
        "agent_kills": happened.agents,
        "resets": happened.resets,
        "readings": happened.counters.readings,
        "counters_that_fell": happened.fell,
        "connections": connections,
        "payload_bytes": bytes,
        "exact": happened.fell.is_empty(),
    });
    let path = options.reports.join("real.json");
    std::fs::create_dir_all(&options.reports)
        .and_then(|()| std::fs::write(&path, format!("{report:#}\n")))
        .with_context(|| path.display().to_string())?;
    ensure!(happened.fell.is_empty(), "counters fell:\n{}", happened.fell.join("\n"));
    let Happened { aggregators, agents, resets, counters, .. } = happened;
    say(format_args!(
        "aggregator killed {aggregators} times, agents {agents} times, connections reset \
         {resets} times; no counter fell in {} readings\n{connections} connections and {bytes} \
         bytes of payload: exact",
        counters.readings
    ));
    Ok(())
}

fn play(options: &Kill, seed: u64) -> Result<(Happened, Truth)> {
    let since_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let lab = Lab::new()?;
    let mut fleet = Fleet::start(&lab, INTERVAL)?;
    let hosts = [lab.host("one")?, lab.host("two")?];
    for host in &hosts {
        detach(host, options)?;
        add_agent(&mut fleet, host, options)?;
    }
    let (mut web, mut db) = (hosts[0].peer("web")?, hosts[1].peer("db")?);
    let target = db.listen(hosts[1].ipv4(), 5_432)?;
    let stop = AtomicBool::new(false);
    let mut happened = thread::scope(|scope| {
        let traffic = scope.spawn(|| talk(&mut web, target, &stop));
        let happened = kill(options, seed, &mut fleet, &hosts);
        stop.store(true, Relaxed);
        let talked = traffic.join().map_err(|_| anyhow::anyhow!("the traffic panicked"))?;
        talked.context("the traffic failed")?;
        happened
    })?;
    let truth = truth::collect(&mut [&mut web, &mut db], |address| address.to_string())?;
    let path = format!("/api/v1/topology?from={since_ms}");
    fleet.wait("the exact graph", SHOW_LIMIT, |fleet| {
        let graph = fleet.json(&path).and_then(|json| Graph::parse(&json));
        graph.map_err(|error| error.to_string())?.must_equal(&truth)
    })?;
    let connections: u64 = truth.values().map(|edge| edge.connections).sum();
    // An edge is there once it has settled.
    let begin = Instant::now();
    loop {
        happened.read(&fleet)?;
        let told = happened.counters.sum("weft_edge_connections_total");
        if told == connections as f64 {
            break;
        }
        let late = begin.elapsed() > SHOW_LIMIT;
        ensure!(!late, "/metrics tells {told} connections of {connections}");
        thread::sleep(INTERVAL);
    }
    // Batches that were in the memory of an agent that was killed: their numbers are in its next report.
    let lost = happened.counters.family("weft_node_losses_total");
    let lost: Vec<_> =
        lost.filter(|(series, value)| *value > 0.0 && !series.contains(RESOLUTION)).collect();
    ensure!(lost.is_empty(), "losses are told: {lost:?}");
    drop((web, db));
    fleet.stop()?;
    for host in &hosts {
        detach(host, options)?;
    }
    Ok((happened, truth))
}

/// Short connections until it is told to stop.
fn talk(web: &mut Peer, target: SocketAddr, stop: &AtomicBool) -> Result<()> {
    let endings = [Ending::ClientCloses, Ending::ServerCloses];
    for number in 0_u64.. {
        if stop.load(Relaxed) {
            break;
        }
        let exchange = Exchange {
            requests: 1 + (number % 3) as u32,
            request_bytes: 100 + number % 900,
            response_bytes: 1_000 + number % 20_000,
            means: Means::Write,
        };
        web.burst(Burst {
            target,
            connections: 3,
            threads: 1,
            exchange,
            ending: endings[(number % 2) as usize],
            dial: Dial::default(),
        })?;
        thread::sleep(REST);
    }
    Ok(())
}

/// Kills, now the aggregator and, when that is asked for, now an agent; resets connections in between.
fn kill(options: &Kill, seed: u64, fleet: &mut Fleet, hosts: &[Host]) -> Result<Happened> {
    let mut happened = Happened::default();
    let mut random = Random::new(seed);
    let agents = if options.agent_argument.is_empty() { 0 } else { options.times };
    while happened.aggregators < options.times || happened.agents < agents {
        thread::sleep(PAUSE.mul_f64(random.unit()));
        let host = &hosts[random.below(hosts.len() as u64) as usize];
        if random.below(RESET_ONE_IN) == 0 {
            host.namespace().nft(RESET)?;
            thread::sleep(RESET_FOR.mul_f64(random.unit()));
            host.namespace().nft(NO_RESET)?;
            happened.resets += 1;
        }
        let left = (options.times - happened.aggregators, agents - happened.agents);
        if random.below(u64::from(left.0 + left.1)) < u64::from(left.1) {
            fleet.kill_agent(host)?;
            thread::sleep(PAUSE.mul_f64(random.unit() / 4.0));
            add_agent(fleet, host, options)?;
            happened.agents += 1;
        } else {
            fleet.kill_aggregator()?;
            happened.aggregators += 1;
        }
        happened.read(fleet)?;
    }
    Ok(happened)
}

fn add_agent(fleet: &mut Fleet, host: &Host, options: &Kill) -> Result<()> {
    let spool = host.folder().join(format!("spool-{}", host.name()));
    let mut arguments = vec![format!("--spool-dir={}", spool.display())];
    let named = options.agent_argument.iter().map(|text| text.replace("NODE", host.name()));
    arguments.extend(named);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    fleet.add_agent_with(host, &arguments).with_context(|| format!("agent of {}", host.name()))
}

/// Removes what agents of a host have pinned, in this run or in one before.
fn detach(host: &Host, options: &Kill) -> Result<()> {
    let named = options.agent_argument.iter().map(|text| text.replace("NODE", host.name()));
    for pins in named.filter(|argument| argument.starts_with("--pin-dir=")) {
        run_command(Command::new(binaries::find("weft-agent")?).args(["detach", &pins]))?;
    }
    Ok(())
}

impl Happened {
    fn read(&mut self, fleet: &Fleet) -> Result<()> {
        let metrics = fleet.get("/metrics")?;
        ensure!(metrics.status == 200, "/metrics answers {}", metrics.status);
        self.fell.extend(self.counters.read(&metrics.body));
        Ok(())
    }
}
