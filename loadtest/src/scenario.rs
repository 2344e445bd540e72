//! Scenarios: files in `loadtest/scenarios`, which the program carries with it, or others.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::duration;

/// The scenarios of this repository.
pub const BUNDLED: &[(&str, &str)] = &[
    ("agents", include_str!("../scenarios/agents.toml")),
    ("attack", include_str!("../scenarios/attack.toml")),
    ("fast", include_str!("../scenarios/fast.toml")),
    ("fleet", include_str!("../scenarios/fleet.toml")),
    ("freshness", include_str!("../scenarios/freshness.toml")),
    ("kill", include_str!("../scenarios/kill.toml")),
    ("paced", include_str!("../scenarios/paced.toml")),
    ("queries", include_str!("../scenarios/queries.toml")),
    ("reconnect", include_str!("../scenarios/reconnect.toml")),
    ("scrape", include_str!("../scenarios/scrape.toml")),
    ("smoke", include_str!("../scenarios/smoke.toml")),
    ("soak", include_str!("../scenarios/soak.toml")),
];

/// What is simulated, and what for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it is for, in a sentence.
    pub about: String,
    /// The same seed makes the same fleet and the same traffic.
    #[serde(default = "one")]
    pub seed: u64,
    pub fleet: Fleet,
    #[serde(default)]
    pub load: Load,
    #[serde(default)]
    pub faults: Faults,
    #[serde(default)]
    pub attack: Attack,
    #[serde(default)]
    pub check: Check,
    /// Settings of the aggregator, as on its command line.
    #[serde(default)]
    pub aggregator: Vec<String>,
}

/// Who there is, and what they do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fleet {
    pub agents: u32,
    pub services: u32,
    pub edges: u32,
    /// Instances of the largest service; the others have fewer, by a power law.
    #[serde(default = "one_u32")]
    pub replicas: u32,
    /// Links of an edge between different instances, where it has that many.
    #[serde(default = "one_u32")]
    pub links_per_edge: u32,
    /// Exponent of Zipf's law, by which servers are chosen.
    #[serde(default = "skew")]
    pub skew: f64,
    /// Share of the links that carry something in a tick.
    #[serde(default = "all")]
    pub active: f64,
    /// Share of the records with everything a real agent sees; the others have 4 counters and 3
    /// increments of histograms.
    #[serde(default)]
    pub detail: f64,
    /// Share of the links whose client knows the server by an address of its own, as behind a published port: the
    /// client's agent tells what the server sees.
    #[serde(default)]
    pub translated: f64,
    /// Share of the links that are one connection for all their time.
    #[serde(default)]
    pub long_lived: f64,
    /// Instances that are replaced per tick.
    #[serde(default)]
    pub churn: f64,
    /// Share of the edges that come and go: silent for `rest_ticks` out of `cycle_ticks`, each from a moment of its
    /// own on.
    #[serde(default)]
    pub restless: f64,
    #[serde(default)]
    pub rest_ticks: u32,
    #[serde(default)]
    pub cycle_ticks: u32,
    /// Ticks from one storm of connections to the next; 0 for none.
    #[serde(default)]
    pub storm_every: u32,
    /// Ticks of a day, over which rates rise and fall.
    #[serde(default = "day")]
    pub day_ticks: u32,
}

/// How the fleet reports.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Load {
    /// Once per interval; else as fast as batches are acknowledged.
    pub paced: bool,
    #[serde(with = "duration")]
    pub interval: Duration,
    /// Before anything is measured; links settle in the meantime.
    #[serde(with = "duration")]
    pub warm_up: Duration,
    #[serde(with = "duration")]
    pub duration: Duration,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            paced: true,
            interval: Duration::from_secs(1),
            warm_up: Duration::from_secs(6),
            duration: Duration::from_secs(20),
        }
    }
}

/// What goes wrong. Times are means: each is drawn from 0.2 to 1.8 of it; 0 is never.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Faults {
    /// SIGKILL for the aggregator, which starts again at once.
    #[serde(with = "duration")]
    pub kill_aggregator_every: Duration,
    /// The run ends after so many, whatever its duration; 0 for as many as there are in it.
    pub kills: u32,
    /// One agent loses its connection.
    #[serde(with = "duration")]
    pub cut_connections_every: Duration,
    /// One agent starts anew with a new map generation.
    #[serde(with = "duration")]
    pub restart_agents_every: Duration,
}

/// Agents that tell of more than there is room for, as fast as they may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Attack {
    /// One tells of so many distinct peers, as far as there is time; 0 for none.
    pub peers: u64,
    /// Another one of a scan of so many ports.
    pub ports: u64,
}

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Check {
    /// `/metrics` is read while the fleet sends, and no counter may fall; 0 for only at the end.
    #[serde(with = "duration")]
    pub scrape_every: Duration,
    /// The busiest services of `/api/v1/topology` are asked for while the fleet sends: how long that takes, and how old
    /// the answers are; 0 for not at all.
    #[serde(with = "duration")]
    pub query_every: Duration,
    /// `/metrics` is read at the end in each of its formats: what each costs.
    pub scrapes: bool,
    /// An edge of its own is watched in `/api/v1/topology`: how long until what is sent shows;
    /// 0 for not at all.
    #[serde(with = "duration")]
    pub freshness_every: Duration,
    /// How long everything may take to be acknowledged, and then to show.
    #[serde(with = "duration")]
    pub patience: Duration,
    /// Whether `/api/v1/topology` is compared, too. Its history does not outlive the aggregator.
    pub topology: bool,
    /// Resident memory and file descriptors may grow by this share of what they were from `flat_after` on, by a line
    /// through the middle of all readings; 0 for any.
    pub max_growth: f64,
    /// Memory may never be more than so many MB; 0 for any.
    pub max_memory_mb: f64,
    /// How long until everything that is remembered for a while only is as much as it gets.
    #[serde(with = "duration")]
    pub flat_after: Duration,
}

impl Default for Check {
    fn default() -> Self {
        Self {
            scrape_every: Duration::ZERO,
            query_every: Duration::ZERO,
            scrapes: false,
            freshness_every: Duration::ZERO,
            patience: Duration::from_secs(90),
            topology: true,
            max_growth: 0.0,
            max_memory_mb: 0.0,
            flat_after: Duration::ZERO,
        }
    }
}

impl Scenario {
    /// The scenario of this name, or in this file.
    pub fn load(name: &str) -> Result<Self> {
        if let Some((_, text)) = BUNDLED.iter().find(|(bundled, _)| *bundled == name) {
            return Self::parse(text).with_context(|| format!("scenario {name}"));
        }
        let path = Path::new(name);
        let names: Vec<_> = BUNDLED.iter().map(|(name, _)| *name).collect();
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("{name} is no file and none of {}", names.join(", ")))?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    fn parse(text: &str) -> Result<Self> {
        Ok(toml::from_str(text)?)
    }

    /// Fails when it cannot be played.
    pub fn validate(&self) -> Result<()> {
        let fleet = &self.fleet;
        ensure!(fleet.agents > 0 && fleet.edges > 0, "a fleet has agents and edges");
        ensure!(fleet.services > 1, "it takes two services to make an edge");
        let pairs = u64::from(fleet.services) * u64::from(fleet.services - 1);
        ensure!(
            u64::from(fleet.edges) * 2 <= pairs,
            "{} services have no {} edges that are easy to find: more services",
            fleet.services,
            fleet.edges
        );
        ensure!(!self.load.interval.is_zero(), "an interval takes some time");
        let rests = fleet.restless <= 0.0 || (1..fleet.cycle_ticks).contains(&fleet.rest_ticks);
        ensure!(rests, "an edge that comes and goes rests for a part of its cycle");
        ensure!(fleet.links_per_edge > 0 && fleet.replicas > 0, "an edge has links");
        Ok(())
    }

    /// Whether the aggregator is killed.
    pub fn kills(&self) -> bool {
        !self.faults.kill_aggregator_every.is_zero()
    }
}

const fn one() -> u64 {
    1
}

const fn one_u32() -> u32 {
    1
}

const fn skew() -> f64 {
    0.8
}

const fn all() -> f64 {
    1.0
}

const fn day() -> u32 {
    600
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_bundled_and_can_be_played() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let mut names: Vec<_> = std::fs::read_dir(dir)
            .unwrap()
            .map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        names.sort_unstable();
        assert_eq!(names, BUNDLED.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        for name in names {
            Scenario::load(&name).unwrap().validate().unwrap();
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let error = |text| format!("{:#}", Scenario::parse(text).unwrap_err());
        assert!(error("about = 'x'").contains("fleet"));
        let text = "about = 'x'\n[fleet]\nagents = 1\nservices = 2\nedges = 1\nspeed = 9";
        assert!(error(text).contains("speed"));
        let text = "about = 'x'\n[fleet]\nagents = 1\nservices = 2\nedges = 3";
        assert!(Scenario::parse(text).unwrap().validate().is_err());
        assert!(Scenario::load("absent").is_err());
    }
}
