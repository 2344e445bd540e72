//! The command line.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    duration,
    run::{Attached, Place},
    scenario::Scenario,
    server::Addresses,
};

/// Load for weft-aggregator, from fleets that do not exist, and whether all of it adds up.
#[derive(Debug, Parser)]
#[command(name = "weft-loadtest", version)]
pub struct Options {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Play a scenario; ends with 1 when an answer is not what was sent.
    Run(Box<Run>),
    /// Name the scenarios.
    Scenarios,
    /// Two reports beside each other.
    Compare {
        /// The report before.
        a: PathBuf,
        /// The report after.
        b: PathBuf,
    },
    /// Send again what an agent has recorded.
    Replay(Replay),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Pace {
    /// Every agent once per interval.
    Paced,
    /// As fast as batches are acknowledged.
    Fast,
}

#[derive(Debug, Args)]
pub struct Run {
    /// Name of a scenario, or a file.
    pub scenario: String,
    #[command(flatten)]
    pub changes: Changes,
    #[command(flatten)]
    pub target: Target,
    /// Write the report there.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write a plot of each series into this folder.
    #[arg(long, value_name = "DIR")]
    pub svg: Option<PathBuf>,
}

/// What is to be other than the scenario says.
#[derive(Debug, Default, Args)]
pub struct Changes {
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    #[arg(long, value_name = "N")]
    pub agents: Option<u32>,
    #[arg(long, value_name = "N")]
    pub services: Option<u32>,
    #[arg(long, value_name = "N")]
    pub edges: Option<u32>,
    /// Share of the links whose client knows the server by another address.
    #[arg(long, value_name = "SHARE")]
    pub translated: Option<f64>,
    /// Share of the records with everything that a real agent sees.
    #[arg(long, value_name = "SHARE")]
    pub detail: Option<f64>,
    #[arg(long)]
    pub pace: Option<Pace>,
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub interval: Option<Duration>,
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub warm_up: Option<Duration>,
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub duration: Option<Duration>,
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub kill_aggregator_every: Option<Duration>,
    #[arg(long, value_name = "N")]
    pub kills: Option<u32>,
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub cut_connections_every: Option<Duration>,
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub restart_agents_every: Option<Duration>,
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub scrape_every: Option<Duration>,
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub query_every: Option<Duration>,
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub freshness_every: Option<Duration>,
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub patience: Option<Duration>,
    /// One more setting of the aggregator, as `--history-max-bytes=0`.
    #[arg(long, value_name = "SETTING", allow_hyphen_values = true)]
    pub aggregator_setting: Vec<String>,
}

/// The aggregator.
#[derive(Debug, Args)]
pub struct Target {
    /// The program to start, instead of the one beside this.
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,
    /// Keep data, certificates and the log there.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Use the aggregator that takes agents there, instead of starting one.
    #[arg(long, value_name = "ADDRESS", requires = "readers", requires = "pki")]
    pub aggregator: Option<SocketAddr>,
    /// Where that one answers readers.
    #[arg(long, value_name = "ADDRESS")]
    pub readers: Option<SocketAddr>,
    /// Folder in which `weft-aggregator pki init` made its CA.
    #[arg(long, value_name = "DIR")]
    pub pki: Option<PathBuf>,
    /// Trust domain of that CA.
    #[arg(long, value_name = "NAME", default_value = "weft.local")]
    pub trust_domain: String,
    /// Its process id: CPU and memory are told only with it.
    #[arg(long, value_name = "PID")]
    pub pid: Option<u32>,
}

#[derive(Debug, Args)]
pub struct Replay {
    /// What an agent has recorded with `--record`.
    pub file: PathBuf,
    /// Do not wait between messages as the agent did.
    #[arg(long)]
    pub fast: bool,
    #[command(flatten)]
    pub target: Target,
}

impl Changes {
    /// Changes a scenario.
    pub fn apply(&self, scenario: &mut Scenario) {
        let Scenario { seed, fleet, load, faults, check, aggregator, .. } = scenario;
        set(&mut load.paced, self.pace.map(|pace| pace == Pace::Paced));
        set(seed, self.seed);
        set(&mut fleet.agents, self.agents);
        set(&mut fleet.services, self.services);
        set(&mut fleet.edges, self.edges);
        set(&mut fleet.translated, self.translated);
        set(&mut fleet.detail, self.detail);
        set(&mut load.interval, self.interval);
        set(&mut load.warm_up, self.warm_up);
        set(&mut load.duration, self.duration);
        set(&mut faults.kill_aggregator_every, self.kill_aggregator_every);
        set(&mut faults.kills, self.kills);
        set(&mut faults.cut_connections_every, self.cut_connections_every);
        set(&mut faults.restart_agents_every, self.restart_agents_every);
        set(&mut check.scrape_every, self.scrape_every);
        set(&mut check.query_every, self.query_every);
        set(&mut check.freshness_every, self.freshness_every);
        set(&mut check.patience, self.patience);
        aggregator.extend(self.aggregator_setting.iter().cloned());
    }
}

fn set<T>(value: &mut T, new: Option<T>) {
    if let Some(new) = new {
        *value = new;
    }
}

impl From<Target> for Place {
    fn from(target: Target) -> Self {
        let Target { program, dir, aggregator, readers, pki, trust_domain, pid } = target;
        let attached = aggregator.zip(readers).zip(pki).map(|((agents, readers), pki)| Attached {
            addresses: Addresses { agents, readers },
            pid,
            pki,
            trust_domain,
        });
        Self { dir, program, attached }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn flags_win_over_the_scenario() {
        Options::command().debug_assert();
        let line = ["x", "run", "paced", "--edges", "77", "--pace", "fast", "--duration", "3s"];
        let Command::Run(run) = Options::try_parse_from(line).unwrap().command else {
            panic!("not a run")
        };
        let mut scenario = Scenario::load(&run.scenario).unwrap();
        let agents = scenario.fleet.agents;
        run.changes.apply(&mut scenario);
        assert_eq!((scenario.fleet.edges, scenario.fleet.agents), (77, agents));
        assert_eq!((scenario.load.paced, scenario.load.duration.as_secs()), (false, 3));
        assert!(Options::try_parse_from(["x", "run", "paced", "--aggregator", "[::1]:1"]).is_err());
    }
}
