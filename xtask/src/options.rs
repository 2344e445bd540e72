//! The command line.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

use testbed::worlds::Feature;

use crate::matrix;

/// Recurring commands of the Weft repository.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
pub struct Options {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show it all at work: an aggregator, three hosts and a small shop (needs root).
    Demo(Demo),
    /// Build and run every test; as root the end-to-end tests too.
    Test(Test),
    /// Build the kernel object and keep it with the checksums of its sources.
    Bpf {
        /// Only fail if the kept object is not that of these sources.
        #[arg(long)]
        check: bool,
    },
    /// Run the benchmarks of hot paths: time, and instructions where valgrind is installed.
    Bench(Bench),
    /// Format, clippy and licence checks, as in CI.
    Lint,
    /// Write down what the programs are made of: CycloneDX files in target/sbom.
    Sbom,
    /// Boot other kernels under QEMU and check what works on them.
    Matrix(Matrix),
    /// Measure what Weft costs, with optimised builds: the figures of docs/PERFORMANCE.md.
    Measure(Measure),
    /// Kill the aggregator and agents under load: nothing may be lost or counted twice.
    Kill(Kill),
    /// Try bytes of every kind on everything that parses bytes from elsewhere.
    Fuzz(Fuzz),
    /// Let a simulated fleet come and go for long: memory and file descriptors stay flat.
    Soak(Soak),
    /// Play random worlds with real agents and real traffic: the graph must be the truth, every edge and every count
    /// (needs root).
    Truth(Truth),
}

/// Options of the demo.
#[derive(Debug, Args)]
pub struct Demo {
    /// Stop after this time (`30s`, `5m`) instead of at Ctrl-C.
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,
    /// Where the graph is served.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7480")]
    pub http: SocketAddr,
    /// Build with optimisations: takes minutes longer.
    #[arg(long)]
    pub release: bool,
}

/// Options of the tests.
#[derive(Debug, Args)]
pub struct Test {
    /// Only tests whose name contains this.
    pub filter: Option<String>,
}

/// Options of the benchmarks.
#[derive(Debug, Args)]
pub struct Bench {
    /// Only cases whose name contains one of these.
    pub only: Vec<String>,
    /// Fail where more instructions are needed than were kept; with --table, where a goal is not reached.
    #[arg(long, conflicts_with = "keep")]
    pub check: bool,
    /// Whole runs of the load tester instead, held against the goals of xtask/goals.toml: some ten minutes a round, on a
    /// machine that does nothing else. What they come to is kept in loadtest/results.
    #[arg(long, conflicts_with = "keep")]
    pub table: bool,
    /// How often each of them.
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u32).range(1..), requires = "table")]
    pub runs: u32,
    /// Keep the counts: what is needed from now on.
    #[arg(long)]
    pub keep: bool,
}

/// Options of the kernel matrix.
#[derive(Debug, Args)]
pub struct Matrix {
    /// Only these kernels (`5.10`); all without any.
    pub only: Vec<String>,
    /// Only boot, without the programs under test.
    #[arg(long)]
    pub boot_only: bool,
    /// Folder with static binaries, instead of building them.
    #[arg(long, value_name = "DIR")]
    pub bin_dir: Option<PathBuf>,
    /// Time that one guest may take.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "300s")]
    pub timeout: Duration,
}

/// Options of the measurements.
#[derive(Debug, Args)]
pub struct Measure {
    /// What to measure.
    #[command(subcommand)]
    pub what: Measurement,
}

/// What can be measured.
#[derive(Debug, Subcommand)]
pub enum Measurement {
    /// Agents and kernel programs while short connections rush between their hosts (needs root
    /// and bpftool; sets kernel.bpf_stats_enabled while it runs).
    Storm(Storm),
    /// What an agent takes from a service under load: the same storm with and without agents, in turn (needs root).
    Slowdown(Slowdown),
    /// How long it takes from the kernel to the API, with real agents: new edges, failures, counters (needs root).
    Freshness(Freshness),
    /// The aggregator while it takes in records of many edges.
    Ingest(Ingest),
    /// The same with and without translated addresses and a history, in turn.
    Joining(Joining),
}

/// Options of the kill test.
#[derive(Debug, Args)]
pub struct Kill {
    /// How often.
    #[arg(long, value_name = "N", default_value = "100", value_parser = clap::value_parser!(u32).range(1..))]
    pub times: u32,
    /// Only one kind of agents: real ones with real traffic between two hosts (needs root), or a fleet of simulated
    /// ones. First the one, then the other without.
    #[arg(long, value_name = "KIND")]
    pub only: Option<Agents>,
    /// Further arguments for real agents, such as --pin-dir=/sys/fs/bpf/NODE; NODE is their host's name. With any, they
    /// are killed, too: what an agent has not sent is lost with it unless something else keeps it.
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    pub agent_argument: Vec<String>,
    /// Leave reports and plots there.
    #[arg(long, value_name = "DIR", default_value = "target/kill")]
    pub reports: PathBuf,
    /// Another fleet, and other moments.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

/// Kinds of agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Agents {
    /// `weft-agent`, with the kernel's programs.
    Real,
    /// Those of the load tester.
    Simulated,
}

/// Options of the fuzzing.
#[derive(Debug, Args)]
pub struct Fuzz {
    /// How long, for each target.
    #[arg(long, value_name = "N", default_value = "60", value_parser = clap::value_parser!(u32).range(1..))]
    pub seconds: u32,
    /// How many targets at a time.
    #[arg(long, value_name = "N", default_value = "2", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub jobs: u32,
    /// Choose from what was found the inputs that are kept in fuzz/corpus.
    #[arg(long)]
    pub keep: bool,
    /// Only these targets: folders of fuzz/corpus.
    pub targets: Vec<String>,
}

/// Options of the soak.
#[derive(Debug, Args)]
pub struct Soak {
    /// How long.
    #[arg(long, value_name = "N", default_value = "30", value_parser = clap::value_parser!(u32).range(1..))]
    pub minutes: u32,
    /// Leave the report and plots there.
    #[arg(long, value_name = "DIR", default_value = "target/soak")]
    pub reports: PathBuf,
    /// Another fleet, and other moments.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

/// Options of the truth test.
#[derive(Debug, Args)]
pub struct Truth {
    /// How many worlds, one after the other; 20 unless one seed is named.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub seeds: Option<u64>,
    /// The seed of the first one, 1 unless named.
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
    /// Leave these things out of the worlds: loopback, shared, reuse, short, external, failures, kept, bridges, dnat, snat.
    #[arg(long, value_name = "FEATURE", value_delimiter = ',')]
    pub without: Vec<Feature>,
    /// Leave what is known of worlds that came out wrong there.
    #[arg(long, value_name = "DIR", num_args = 0..=1, default_missing_value = "target/truth")]
    pub keep: Option<PathBuf>,
}

/// Options of the storm.
#[derive(Debug, Args)]
pub struct Storm {
    /// How often.
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: u32,
    /// Connections of a run: a multiple of 8, at most 160000.
    #[arg(long, value_name = "N", default_value = "80000", value_parser = connections)]
    pub connections: u32,
    /// Put both ends on one host with one agent, instead of two hosts with an agent each.
    #[arg(long)]
    pub one_agent: bool,
    /// Write the medians there.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Options of the freshness.
#[derive(Debug, Args)]
pub struct Freshness {
    /// How many of each: at most 10000.
    #[arg(long, value_name = "N", default_value = "200", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub times: u16,
    /// Write the figures there.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Options of the slowdown.
#[derive(Debug, Args)]
pub struct Slowdown {
    /// How many pairs of storms, one of each with agents: every other one begins with it.
    #[arg(long, value_name = "N", default_value = "6", value_parser = clap::value_parser!(u32).range(1..))]
    pub pairs: u32,
    /// Connections of a storm: a multiple of 8, at most 160000.
    #[arg(long, value_name = "N", default_value = "80000", value_parser = connections)]
    pub connections: u32,
    /// Put both ends on one host with one agent, instead of two hosts with an agent each.
    #[arg(long)]
    pub one_agent: bool,
    /// Write the medians there.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Options of the ingest.
#[derive(Debug, Args)]
pub struct Ingest {
    /// How often.
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: u32,
    /// Numbers of edges.
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1000,10000,100000")]
    pub edges: Vec<u32>,
    /// How long a run takes, start and comparison apart.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "30s")]
    pub duration: Duration,
    /// Keep every report in this folder.
    #[arg(long, value_name = "DIR")]
    pub reports: Option<PathBuf>,
}

/// Options of the same with and without.
#[derive(Debug, Args)]
pub struct Joining {
    /// How often each.
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: u32,
    /// Number of edges.
    #[arg(long, value_name = "N", default_value = "10000")]
    pub edges: u32,
    /// How long a run takes, start and comparison apart.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "12s")]
    pub duration: Duration,
}

impl From<Matrix> for matrix::Options {
    fn from(options: Matrix) -> Self {
        Self {
            only: options.only,
            boot_only: options.boot_only,
            bin_dir: options.bin_dir,
            timeout: options.timeout,
        }
    }
}

/// A number of connections that can be shared out evenly, within the ports there are.
fn connections(text: &str) -> Result<u32, String> {
    let number: u32 = text.parse().map_err(|_| format!("`{text}` is no number"))?;
    if (8..=160_000).contains(&number) && number.is_multiple_of(8) {
        return Ok(number);
    }
    Err(format!("{number} is no multiple of 8 up to 160000"))
}

/// `30s`, `5m` or `1h`.
fn duration(text: &str) -> Result<Duration, String> {
    let hint = || format!("`{text}` is no time such as 30s, 5m or 1h");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(hint)?;
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => return Err(hint()),
    };
    let number: u64 = number.parse().map_err(|_| hint())?;
    number.checked_mul(factor).map(Duration::from_secs).ok_or_else(hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn times_have_a_number_and_a_unit() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7_200)));
        for wrong in
            ["", "s", "30", "-1s", "3 s", "5µ", "99999999999999999999s", "9999999999999999999h"]
        {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn connections_can_be_shared_out() {
        assert_eq!(connections("80000"), Ok(80_000));
        for wrong in ["0", "81", "-8", "160008", "many"] {
            assert!(connections(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
        let demo = Options::try_parse_from(["xtask", "demo", "--for", "30s"]).unwrap();
        assert!(matches!(demo.command, Command::Demo(Demo { duration: Some(_), .. })));
    }
}
