//! One run: the aggregator, the fleet, the faults, and whether all of it adds up.
//!
//! - `faults` lets things go wrong, `freshness` watches an edge of its own, `readings` reads
//!   `/metrics` all the while, `sampler` takes down what is used,
//! - `verdict` compares the answers at the end.

mod faults;
mod freshness;
mod readings;
mod sampler;
mod verdict;

use std::{
    path::PathBuf,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use tokio::{sync::watch, time::sleep};

pub use sampler::Moment;

use crate::{
    fleet::{Fleet, Phase, Shared},
    pki::Authority,
    process::{Environment, Usage},
    report::{Report, figures::Figures},
    scenario::Scenario,
    server::{self, Addresses, Server},
    stats::Quantiles,
    terminal::Progress,
    world::{Tick, World},
};
use faults::Faulty;
use verdict::Verdict;

/// Ticks beyond the newest that every agent counts at the end.
const MORE_TICKS: Tick = 2;

const EVERY: Duration = Duration::from_millis(50);

/// Definitions are paid for over this time.
const AMORTISED_S: f64 = 600.0;

/// Where a run takes place.
pub struct Place {
    /// Data, certificates and the log of the aggregator; a temporary folder without it.
    pub dir: Option<PathBuf>,
    /// The program to start; the one beside this without it.
    pub program: Option<PathBuf>,
    /// An aggregator that runs already.
    pub attached: Option<Attached>,
}

/// An aggregator that runs already.
pub struct Attached {
    pub addresses: Addresses,
    pub pid: Option<u32>,
    /// The folder of its CA, and its trust domain.
    pub pki: PathBuf,
    pub trust_domain: String,
}

/// What was used and done up to some moment.
struct Mark {
    at: Instant,
    usage: Option<Usage>,
    own: Usage,
    records: u64,
    batches: u64,
    sent: u64,
    received: u64,
    latency: Vec<u64>,
}

impl Mark {
    fn now(server: &Server, shared: &Shared) -> Self {
        let stats = &shared.stats;
        Self {
            at: Instant::now(),
            usage: server.usage(),
            own: Usage::of(std::process::id()).unwrap_or_default(),
            records: stats.records.load(Relaxed),
            batches: stats.batches.load(Relaxed),
            sent: stats.bytes.sent.load(Relaxed),
            received: stats.bytes.received.load(Relaxed),
            latency: stats.latency.counts(),
        }
    }
}

/// An aggregator to send to, and the CA of its agents.
pub struct Ready {
    pub authority: Authority,
    pub server: Arc<Server>,
    pub dir: Dir,
}

/// The folder of a run.
pub struct Dir {
    path: PathBuf,
    temporary: Option<tempfile::TempDir>,
}

impl Dir {
    /// Leaves a temporary folder to whoever wants to know what happened.
    fn keep(&mut self) {
        if let Some(temporary) = self.temporary.take() {
            let _ = temporary.keep();
        }
    }
}

impl Ready {
    /// Starts an aggregator, or finds the one that runs.
    pub fn make(place: Place) -> Result<Self> {
        server::raise_file_limit();
        let dir = match place.dir {
            Some(path) => Dir { path, temporary: None },
            None => {
                let temporary = tempfile::tempdir()?;
                Dir { path: temporary.path().to_owned(), temporary: Some(temporary) }
            }
        };
        std::fs::create_dir_all(&dir.path).with_context(|| dir.path.display().to_string())?;
        let (authority, server) = match &place.attached {
            Some(attached) => {
                let authority = Authority::load(&attached.pki, &attached.trust_domain)?;
                (authority, Server::attach(attached.addresses, attached.pid))
            }
            None => {
                let authority = Authority::make(&dir.path.join("pki"))?;
                let program =
                    place.program.map_or_else(|| server::beside("weft-aggregator"), Ok)?;
                let server = Server::start(&program, &dir.path, &authority)?;
                (authority, server)
            }
        };
        Ok(Self { authority, server: Arc::new(server), dir })
    }
}

/// Plays a scenario.
pub async fn run(scenario: Scenario, place: Place, progress: &Progress) -> Result<Report> {
    scenario.validate()?;
    let attached = place.attached.is_some();
    ensure!(!attached || !scenario.kills(), "an aggregator that was running already is not killed");
    let environment = Environment::now();
    let Ready { authority, server, mut dir } = Ready::make(place)?;
    let outcome = play(&scenario, &authority, &server, progress).await;
    if !outcome.as_ref().is_ok_and(|report| report.exact) {
        dir.keep();
    }
    let mut report = outcome.with_context(|| format!("the log is in {}", dir.path.display()))?;
    if !report.exact {
        report.problems.push(format!("data and log are in {}", dir.path.display()));
    }
    report.environment = environment;
    Ok(report)
}

async fn play(
    scenario: &Scenario,
    authority: &Authority,
    server: &Arc<Server>,
    progress: &Progress,
) -> Result<Report> {
    let load = &scenario.load;
    let since_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64;
    progress.step("making the world");
    let ticks = (load.warm_up + load.duration).as_secs_f64() / load.interval.as_secs_f64();
    let horizon = if load.paced { ticks as Tick + 2 } else { 1 };
    let world = Arc::new(World::new(&scenario.fleet, scenario.seed, horizon));
    let addresses = server.addresses;
    let shared = Arc::new(Shared::new(
        Arc::clone(&world),
        scenario.seed,
        addresses.agents,
        load.interval,
        load.paced,
    ));
    let patience = scenario.check.patience;
    let begin = Mark::now(server, &shared);
    let mut fleet = Fleet::start(Arc::clone(&shared), authority)?;
    let agents = fleet.agents() as u64;
    progress.count("connecting", agents);
    let all_connected = |shared: &Shared| {
        progress.at(shared.stats.connected.load(Relaxed));
        shared.stats.connected.load(Relaxed) == agents
    };
    fleet.wait_for("agents did not connect", patience, all_connected).await?;
    let connected = Mark::now(server, &shared);
    let probe = freshness::Probe::start(scenario, addresses, since_ms, authority, &shared).await?;
    shared.phase.send_replace(Phase::Running { start: Instant::now(), go: false });
    progress.count("defining", agents);
    let all_defined = |shared: &Shared| {
        progress.at(shared.stats.defined.load(Relaxed));
        shared.stats.defined.load(Relaxed) == agents
    };
    fleet.wait_for("definitions were not acknowledged", patience, all_defined).await?;
    let defined = Mark::now(server, &shared);
    progress.step("warming up");
    sleep(load.warm_up).await;

    // From here on it counts.
    let (stop, stopping) = watch::channel(false);
    let sampling =
        tokio::spawn(sampler::run(Arc::clone(server), Arc::clone(&shared), stopping.clone()));
    let reading = tokio::spawn(readings::run(
        addresses.readers,
        scenario.check.scrape_every,
        stopping.clone(),
    ));
    let probing = tokio::spawn(probe.run(stopping));
    let faulty = Faulty::start(scenario, server, &fleet);
    shared.stats.latency.forget_highest();
    let from = Mark::now(server, &shared);
    let phase = &shared.phase;
    phase.send_modify(|phase| {
        if let Phase::Running { go, .. } = phase {
            *go = true;
        }
    });
    progress.count("loading", load.duration.as_secs());
    while from.at.elapsed() < load.duration && !faulty.is_over() {
        progress.at(from.at.elapsed().as_secs());
        fleet.check()?;
        sleep(EVERY).await;
    }
    let faults = faulty.stop().await?;
    progress.step("waiting for acknowledgements");
    let last = shared.newest_tick.load(Relaxed) + MORE_TICKS;
    let ledger = fleet.finish(last, patience).await?;
    let to = Mark::now(server, &shared);
    stop.send_replace(true);
    let moments = sampling.await?;
    let monotone = reading.await??;
    let probed = probing.await??;

    progress.step("comparing");
    let freshness = probed.freshness();
    let edges = world.edges.len();
    let mut verdict =
        Verdict::reach(scenario, server, &world, &ledger, probed, since_ms, monotone).await?;
    verdict.growth(scenario, &moments);
    let figures = Inputs {
        scenario,
        agents,
        edges,
        halves: world.links.iter().filter(|link| link.born == 0).count() as f64 * 2.0,
        marks: [&begin, &connected, &defined, &from, &to],
        moments: &moments,
        verdict: &verdict,
        faults: &faults,
        shared: &shared,
    }
    .figures();
    let acks = shared.stats.latency.since(&from.latency);
    let errors = shared.stats.errors();
    fleet.end().await?;
    server.stop()?;
    Ok(Report::new(scenario, figures, acks, freshness, moments, verdict.into_problems(), errors))
}

/// What the figures are made of.
struct Inputs<'a> {
    scenario: &'a Scenario,
    agents: u64,
    edges: usize,
    halves: f64,
    /// Begin, connected, defined, load begins, load ends.
    marks: [&'a Mark; 5],
    moments: &'a [Moment],
    verdict: &'a Verdict,
    faults: &'a faults::Happened,
    shared: &'a Shared,
}

impl Inputs<'_> {
    fn figures(&self) -> Figures {
        let [begin, connected, defined, from, to] = self.marks;
        let seconds = |a: &Mark, b: &Mark| b.at.duration_since(a.at).as_secs_f64();
        let cpu = |a: &Mark, b: &Mark| {
            Some(b.usage.as_ref()?.cpu_seconds - a.usage.as_ref()?.cpu_seconds)
        };
        let bytes = |a: &Mark, b: &Mark| (b.sent + b.received - a.sent - a.received) as f64;
        let records = (to.records - from.records) as f64;
        let wall = seconds(from, to);
        let mut all = Figures::default();
        all.add("agents", self.agents as f64, "");
        all.add("edges", self.edges as f64, "");
        all.add("halves at the start", self.halves, "");
        all.add("records", records, "");
        all.add("batches", (to.batches - from.batches) as f64, "");
        all.add("load", wall, "s");
        all.add("records per second", records / wall, "1/s");
        if let Some(cpu) = cpu(from, to) {
            all.add("aggregator CPU", cpu, "s");
            all.add("aggregator cores", cpu / wall, "");
            all.add("aggregator CPU per million records", cpu / records * 1e6, "s");
        }
        all.add("load tester CPU", to.own.cpu_seconds - from.own.cpu_seconds, "s");
        let steady = bytes(from, to) / records;
        let amortised = bytes(begin, defined)
            / (self.halves * AMORTISED_S / self.scenario.load.interval.as_secs_f64());
        all.add("bytes per record, steady", steady, "B");
        all.add(
            "- of which from the aggregator",
            (to.received - from.received) as f64 / records,
            "B",
        );
        all.add("bytes per record, definitions over 10 min", amortised, "B");
        all.add("bytes per record, both", steady + amortised, "B");
        all.add("bytes per half, handshake", bytes(begin, connected) / self.halves, "B");
        all.add("bytes per half, definitions", bytes(connected, defined) / self.halves, "B");
        all.add("time to connect", seconds(begin, connected), "s");
        all.add("time to define", seconds(connected, defined), "s");
        if let Some(cpu) = cpu(begin, connected) {
            all.add("aggregator CPU per connection", cpu / self.agents as f64 * 1e3, "ms");
        }
        let highest = |of: fn(&Moment) -> f64| self.moments.iter().map(of).fold(0.0, f64::max);
        all.add("aggregator memory, highest", highest(|m| m.resident_mb), "MB");
        if let Some(usage) = &to.usage {
            all.add("aggregator memory, end", usage.resident_mb, "MB");
            all.add("aggregator files, end", usage.files, "");
        }
        all.add("load tester memory, end", to.own.resident_mb, "MB");
        let stats = &self.shared.stats;
        all.add("reconnects", stats.reconnects.load(Relaxed) as f64, "");
        all.add("agents restarted", stats.restarts.load(Relaxed) as f64, "");
        self.faults.figures(&mut all);
        self.verdict.figures(&mut all);
        all
    }
}

/// Quantiles of a few durations.
pub fn quantiles(durations: &[Duration]) -> Quantiles {
    let latency = crate::stats::Latency::default();
    let before = latency.counts();
    durations.iter().for_each(|duration| latency.record(*duration));
    latency.since(&before)
}
