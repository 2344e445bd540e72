//! Whether the answers at the end are what was sent.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use tokio::time::sleep;

use super::{freshness, readings, sampler::Moment};
use crate::{
    agent::Ledger,
    check::{Differences, Expected, Fetched, Monotone, compare_metrics, compare_topology, fetch},
    report::figures::Figures,
    scenario::Scenario,
    server::Server,
    totals::Number,
    world::World,
};

/// Between two looks, so that looking does not keep the aggregator from getting there.
const EVERY: Duration = Duration::from_secs(1);

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
    bytes: u64,
    connections: u64,
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

    /// Adds what holds for memory and files over the time of the run.
    pub fn growth(&mut self, scenario: &Scenario, moments: &[Moment]) {
        let (first, second) = moments.split_at(moments.len() / 2);
        let most = |of: fn(&Moment) -> f64, in_: &[Moment]| in_.iter().map(of).fold(0.0, f64::max);
        for (what, allowed, of) in [
            (
                "MB of memory",
                scenario.check.max_growth_mb,
                (|m| m.resident_mb) as fn(&Moment) -> f64,
            ),
            ("file descriptors", scenario.check.max_growth_fds, |m| m.files),
        ] {
            let grown = most(of, second) - most(of, first);
            if allowed > 0.0 && grown > allowed {
                let (a, b) = (most(of, first), most(of, second));
                self.problems.push(format!(
                    "{what} are not flat: at most {a:.1} in the first half, {b:.1} in the second"
                ));
            }
        }
    }

    pub fn figures(&self, all: &mut Figures) {
        all.add("payload bytes sent", self.bytes as f64, "B");
        all.add("connections sent", self.connections as f64, "");
        all.add("everything shows after", self.shown_after.as_secs_f64(), "s");
        if self.readings > 0 {
            all.add("readings of /metrics", f64::from(self.readings), "");
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
            if fetched.value.is_empty() || fetched.value.above > 0 || late {
                return Ok(Found { fetched, cpu_seconds });
            }
        }
        ensure!(!late, "the aggregator did not answer within {} s", patience.as_secs());
        sleep(EVERY).await;
    }
}
