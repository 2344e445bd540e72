//! The command line.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};

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
    /// Format, clippy and licence checks, as in CI.
    Lint,
    /// Boot other kernels under QEMU and check what works on them.
    Matrix(Matrix),
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
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
        let demo = Options::try_parse_from(["xtask", "demo", "--for", "30s"]).unwrap();
        assert!(matches!(demo.command, Command::Demo(Demo { duration: Some(_), .. })));
    }
}
