//! `/api/v1/topology` while the fleet sends, as a dashboard would ask for it.

use std::{
    io::Read as _,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde::Deserialize;
use tokio::{sync::watch, time::timeout};

use crate::{check::fetch, report::figures::Figures, run::quantiles};

/// What is asked for: the busiest services over the last minutes.
const PATH: &str = "/api/v1/topology?limit=200";

/// Answers that were read.
#[derive(Default)]
pub struct Queries {
    took: Vec<Duration>,
    /// How long before it was asked for the window of an answer ended.
    ages: Vec<Duration>,
    bytes: u64,
}

/// Asks every so often until it is to stop; an answer that takes longer delays the next question.
pub async fn run(
    readers: SocketAddr,
    every: Duration,
    mut stopping: watch::Receiver<bool>,
) -> Result<Queries> {
    let mut queries = Queries::default();
    if every.is_zero() {
        return Ok(queries);
    }
    let mut next = Instant::now();
    loop {
        next = (next + every).max(Instant::now());
        let wait = next.saturating_duration_since(Instant::now());
        if timeout(wait, stopping.wait_for(|stop| *stop)).await.is_ok() {
            return Ok(queries);
        }
        queries = tokio::task::spawn_blocking(move || queries.ask(readers)).await??;
    }
}

#[derive(Deserialize)]
struct Topology {
    window: Window,
}

#[derive(Deserialize)]
struct Window {
    to: String,
}

impl Queries {
    fn ask(mut self, readers: SocketAddr) -> Result<Self> {
        let asked = jiff::Timestamp::now();
        let fetched = fetch(readers, PATH, |mut answer| {
            let mut body = Vec::new();
            answer.body.read_to_end(&mut body)?;
            Ok(body)
        });
        // One that was killed has no answer just now.
        let Some(fetched) = fetched? else { return Ok(self) };
        let topology: Topology = serde_json::from_slice(&fetched.value).context(PATH)?;
        self.took.push(Duration::from_secs_f64(fetched.seconds));
        let to: jiff::Timestamp = topology.window.to.parse().context(PATH)?;
        let age = asked.duration_since(to);
        self.ages.push(Duration::try_from(age).unwrap_or_default());
        self.bytes += fetched.bytes;
        Ok(self)
    }

    pub fn figures(&self, all: &mut Figures) {
        if self.took.is_empty() {
            return;
        }
        all.add("queries", self.took.len() as f64, "");
        all.add("- size", self.bytes as f64 / self.took.len() as f64 / 1e6, "MB");
        for (what, durations) in [
            ("- answered after", &self.took),
            ("- window ended before it was asked for", &self.ages),
        ] {
            let all_of = quantiles(durations);
            for (name, value) in [
                ("p50", all_of.p50),
                ("p90", all_of.p90),
                ("p99", all_of.p99),
                ("highest", all_of.max),
            ] {
                all.add(&format!("{what}, {name}"), value, "ms");
            }
        }
    }
}
