//! Whether the answers at the end are what was sent.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use tokio::time::sleep;

use super::{
    attack::{self, Sent},
    flat::Line,
    freshness, readings,
    sampler::Moment,
};
use crate::{
    agent::Ledger,
    check::{
        Differences, Expected, Fetched, Monotone, compare_clients, compare_metrics,
        compare_topology, fetch,
    },
    report::figures::Figures,
    scenario::Scenario,
    server::Server,
    totals::Number,
    world::World,
};

/// Between two looks, so that looking does not keep the aggregator from getting there.
const EVERY: Duration = Duration::from_secs(1);

/// What one side alone has counted is taken after 5 to 10 s, and edges settle after 10: what is too high will not get
/// better, but until then much else is too low.
const SETTLED: Duration = Duration::from_secs(20);

/// What was found.
#[derive(Default)]
pub struct Verdict {
    /// What is wrong, a paragraph each.
    problems: Vec<String>,
    /// What the answers cost: CPU-seconds beside what was fetched.
    metrics: Option<(Fetched<()>, Option<f64>)>,
    topology: Option<(Fetched<()>, Option<f64>)>,
    /// From the last acknowledgement until everything showed.
    shown_after: Duration,
    readings: u32,
    /// Series that expired, and came again.
    expired: [u64; 2],
    /// Memory and files, where they are to be flat.
    flat: Vec<(&'static str, Line)>,
    bytes: u64,
    connections: u64,
    /// Everything that attackers have counted, and the most memory there was.
    attacks: u64,
    highest_mb: f64,
}

impl Verdict {
    /// Looks until everything shows, or for as long as may be.
    pub async fn reach(
        scenario: &Scenario,
        server: &Arc<Server>,
        world: &World,
        ledger: &Ledger,
        probed: freshness::Probe,
        since_ms: u64,
        monotone: Monotone,
    ) -> Result<Self> {
        let mut expected = Expected::new(world, ledger);
        expected.pass_over(attack::NAMES);
        if let Some(totals) = probed.totals() {
            expected.add(freshness::CLIENT, freshness::SERVER, freshness::PORT, totals);
        }
        let sum = expected.sum();
        let mut verdict = Self {
            bytes: sum[Number::BytesToServer as usize] + sum[Number::BytesToClient as usize],
            connections: sum[Number::Connections as usize],
            ..Self::default()
        };
        let expected = Arc::new(expected);
        let patience = scenario.check.patience;
        let begin = Instant::now();
        let found = look(server, &expected, "/metrics", patience, compare_metrics).await?;
        verdict.shown_after = begin.elapsed();
        verdict.metrics = verdict.note("/metrics", found);
        if scenario.check.topology && !scenario.kills() {
            let path = format!("/api/v1/topology?from={since_ms}");
            let found = look(server, &expected, &path, patience, compare_topology).await?;
            verdict.topology = verdict.note("/api/v1/topology", found);
        }
        let monotone = match scenario.check.scrape_every.is_zero() {
            true => monotone,
            false => readings::read(server.addresses.readers, monotone).await?,
        };
        verdict.readings = monotone.readings();
        verdict.expired = [monotone.vanished, monotone.returned];
        if monotone.expiring && verdict.expired.contains(&0) {
            verdict.problems.push(format!(
                "edges were to expire and come again: {} series vanished, {} came again",
                monotone.vanished, monotone.returned
            ));
        }
        if monotone.falls > 0 {
            let told = monotone.told();
            verdict.problems.push(format!("{} counters fell:\n  {told}", monotone.falls));
        }
        Ok(verdict)
    }

    fn note(&mut self, what: &str, found: Found) -> Option<(Fetched<()>, Option<f64>)> {
        let Fetched { value, bytes, seconds } = found.fetched;
        if !value.is_empty() {
            self.problems.push(format!("{what} is not what was sent: {value}"));
        }
        Some((Fetched { value: (), bytes, seconds }, found.cpu_seconds))
    }

    /// Adds what holds for those who told of more than there is room for: all of it is counted somewhere, they are named, and
    /// memory stays within its bound.
    pub async fn attacks(
        &mut self,
        scenario: &Scenario,
        server: &Arc<Server>,
        sent: &Sent,
    ) -> Result<()> {
        if !sent.is_empty() {
            let wanted = sent.clone();
            let begin = Instant::now();
            let differences = loop {
                let (readers, wanted) = (server.addresses.readers, wanted.clone());
                let answer = tokio::task::spawn_blocking(move || {
                    fetch(readers, "/metrics", |answer| compare_clients(&wanted, answer))
                });
                let late = begin.elapsed() >= scenario.check.patience;
                match answer.await?? {
                    Some(found) if found.value.is_empty() || late => break found.value,
                    _ => ensure!(!late, "the aggregator did not answer"),
                }
                sleep(EVERY).await;
            };
            if !differences.is_empty() {
                self.problems.push(format!("attackers are not counted: {differences}"));
            }
            self.problems.extend(attack::offenders(server, sent).await?);
        }
        self.attacks = sent.values().flatten().sum();
        let (most, usage) = (scenario.check.max_memory_mb, server.usage());
        if let Some(usage) = usage.filter(|usage| most > 0.0 && usage.highest_mb > most) {
            let highest = usage.highest_mb;
            self.problems.push(format!("memory: {highest:.1} MB, where {most:.1} are allowed"));
        }
        self.highest_mb = usage.map_or(0.0, |usage| usage.highest_mb);
        Ok(())
    }

    /// Adds what holds for memory and files over the time of the run.
    pub fn growth(&mut self, scenario: &Scenario, moments: &[Moment]) {
        let allowed = scenario.check.max_growth;
        if allowed <= 0.0 {
            return;
        }
        let from = scenario.check.flat_after.as_secs_f64();
        for (what, of) in
            [("memory", (|m| m.resident_mb) as fn(&Moment) -> f64), ("files", |m| m.files)]
        {
            let later = moments.iter().filter(|moment| moment.seconds >= from);
            let readings: Vec<_> = later.map(|moment| (moment.seconds, of(moment))).collect();
            let Some(line) = Line::through(&readings) else { continue };
            if line.growth() > allowed {
                self.problems.push(format!(
                    "{what} is not flat: it rises by {:.1} % from {from:.0} s on, from {:.1} to {:.1}",
                    100.0 * line.growth(),
                    line.begin,
                    line.end
                ));
            }
            self.flat.push((what, line));
        }
    }

    pub fn figures(&self, all: &mut Figures) {
        all.add("payload bytes sent", self.bytes as f64, "B");
        all.add("connections sent", self.connections as f64, "");
        all.add("everything shows after", self.shown_after.as_secs_f64(), "s");
        if self.readings > 0 {
            all.add("readings of /metrics", f64::from(self.readings), "");
        }
        if self.attacks > 0 {
            all.add("counted by attackers", self.attacks as f64, "");
            all.add("aggregator memory, highest of all", self.highest_mb, "MB");
        }
        let [expired, returned] = self.expired;
        if expired > 0 {
            all.add("series that expired", expired as f64, "");
            all.add("- of which came again", returned as f64, "");
        }
        for (what, line) in &self.flat {
            all.add(&format!("{what} after warm-up, begin"), line.begin, "");
            all.add(&format!("{what} after warm-up, end"), line.end, "");
            all.add(&format!("{what} after warm-up, growth"), 100.0 * line.growth(), "%");
        }
        for (name, answer) in [("/metrics", &self.metrics), ("/api/v1/topology", &self.topology)] {
            let Some((fetched, cpu)) = answer else { continue };
            all.add(&format!("{name}, size"), fetched.bytes as f64 / 1e6, "MB");
            all.add(&format!("{name}, time"), fetched.seconds, "s");
            if let Some(cpu) = cpu {
                all.add(&format!("{name}, aggregator CPU"), *cpu, "s");
            }
        }
    }

    pub fn into_problems(self) -> Vec<String> {
        self.problems
    }
}

/// The last answer that was looked at.
struct Found {
    fetched: Fetched<Differences>,
    cpu_seconds: Option<f64>,
}

async fn look(
    server: &Arc<Server>,
    expected: &Arc<Expected>,
    path: &str,
    patience: Duration,
    compare: impl Fn(&Expected, crate::check::Answer<'_>) -> Result<Differences> + Copy + Send + 'static,
) -> Result<Found> {
    let begin = Instant::now();
    loop {
        let before = server.usage();
        let (readers, expected, path) =
            (server.addresses.readers, Arc::clone(expected), path.to_owned());
        let answer = tokio::task::spawn_blocking(move || {
            fetch(readers, &path, |answer| compare(&expected, answer))
        });
        let late = begin.elapsed() >= patience;
        if let Some(fetched) = answer.await?? {
            let cpu = |(a, b): (crate::process::Usage, crate::process::Usage)| {
                b.cpu_seconds - a.cpu_seconds
            };
            let cpu_seconds = before.zip(server.usage()).map(cpu);
            let settled = begin.elapsed() >= SETTLED;
            if fetched.value.is_empty() || (fetched.value.above > 0 && settled) || late {
                return Ok(Found { fetched, cpu_seconds });
            }
        }
        ensure!(!late, "the aggregator did not answer within {} s", patience.as_secs());
        sleep(EVERY).await;
    }
}
