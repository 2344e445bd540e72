//! One run: the aggregator, the fleet, the faults, and whether all of it adds up.
//!
//! - `place` is where, `faults` lets things go wrong, `attack` has agents that tell of too much, `freshness` watches an edge of its own, `readings` reads
//!   `/metrics` all the while, `queries` the topology, `sampler` takes down what is used, `scrapes` reads `/metrics` in all its formats at the end,
//! - `verdict` compares the answers at the end, `figures` tells what was used.

mod attack;
mod faults;
mod figures;
mod flat;
mod freshness;
mod place;
mod queries;
mod readings;
mod sampler;
mod scrapes;
mod verdict;

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use tokio::{sync::watch, time::sleep};

pub use place::{Attached, Place, Ready};
pub use sampler::Moment;

use crate::{
    fleet::{Fleet, Phase, Shared},
    pki::Authority,
    process::Environment,
    report::Report,
    scenario::Scenario,
    server::Server,
    stats::Quantiles,
    terminal::Progress,
    world::{Tick, World},
};
use attack::Attack;
use faults::Faulty;
use figures::{Inputs, Mark};
use scrapes::Scrapes;
use verdict::Verdict;

/// Ticks beyond the newest that every agent counts at the end.
const MORE_TICKS: Tick = 2;

const EVERY: Duration = Duration::from_millis(50);

/// Plays a scenario.
pub async fn run(scenario: Scenario, place: Place, progress: &Progress) -> Result<Report> {
    scenario.validate()?;
    let attached = place.attached.is_some();
    ensure!(!attached || !scenario.kills(), "an aggregator that was running already is not killed");
    let environment = Environment::now();
    let Ready { authority, server, mut dir } = Ready::make(place, &scenario.aggregator)?;
    let outcome = play(&scenario, &authority, &server, progress).await;
    if !outcome.as_ref().is_ok_and(|report| report.exact) {
        dir.keep();
    }
    let mut report = outcome.with_context(|| format!("the log is in {}", dir.path().display()))?;
    if !report.exact {
        report.problems.push(format!("data and log are in {}", dir.path().display()));
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
        scenario.fleet.restless > 0.0,
        stopping.clone(),
    ));
    let querying = queries::run(addresses.readers, scenario.check.query_every, stopping.clone());
    let querying = tokio::spawn(querying);
    let probing = tokio::spawn(probe.run(stopping));
    let attack = Attack::start(scenario, server, authority, &shared).await?;
    let (stop_attack, attack_stopping) = watch::channel(false);
    let attacking = tokio::spawn(attack.run(attack_stopping));
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
    stop_attack.send_replace(true);
    let attacks = attacking.await??;
    progress.step("waiting for acknowledgements");
    let last = shared.newest_tick.load(Relaxed) + MORE_TICKS;
    let ledger = fleet.finish(last, patience).await?;
    let to = Mark::now(server, &shared);
    stop.send_replace(true);
    let moments = sampling.await?;
    let monotone = reading.await??;
    let queries = querying.await??;
    let probed = probing.await??;

    progress.step("comparing");
    let freshness = probed.freshness();
    let edges = world.edges.len();
    let mut verdict =
        Verdict::reach(scenario, server, &world, &ledger, probed, since_ms, monotone).await?;
    verdict.attacks(scenario, server, &attacks).await?;
    verdict.growth(scenario, &moments);
    let scrapes = match scenario.check.scrapes {
        true => Scrapes::read(server).await?,
        false => Scrapes::default(),
    };
    let mut figures = Inputs {
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
    queries.figures(&mut figures);
    scrapes.figures(&mut figures);
    let acks = shared.stats.latency.since(&from.latency);
    let errors = shared.stats.errors();
    fleet.end().await?;
    server.stop()?;
    Ok(Report::new(scenario, figures, acks, freshness, moments, verdict.into_problems(), errors))
}

/// Quantiles of a few durations.
pub fn quantiles(durations: &[Duration]) -> Quantiles {
    let latency = crate::stats::Latency::default();
    let before = latency.counts();
    durations.iter().for_each(|duration| latency.record(*duration));
    latency.since(&before)
}
