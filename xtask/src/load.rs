//! The load tester: simulated agents against a real aggregator, both with optimisations.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};

use crate::{
    options::{Kill, Soak},
    process::{cargo, run, target_folder},
};

/// What a kill and what follows it may take at most; on average it is a quarter of that.
const PER_KILL: Duration = Duration::from_secs(30);

/// Kills the aggregator many times while agents send.
///
/// # Errors
/// When a total is not what was sent in the end, or a counter fell on the way.
pub fn kill(options: &Kill) -> Result<()> {
    let at_most = PER_KILL * options.times;
    let mut command = tester(&["run", "kill"])?;
    command.args(["--kills", &options.times.to_string()]);
    command.args(report(&options.reports)?);
    command.args(["--duration", &format!("{}s", at_most.as_secs())]);
    run(seeded(&mut command, options.seed))
}

/// Lets a fleet come and go for a long time.
///
/// # Errors
/// When a total is not what was sent in the end, or memory or file descriptors grew.
pub fn soak(options: &Soak) -> Result<()> {
    let mut command = tester(&["run", "soak"])?;
    command.args(report(&options.reports)?);
    command.args(["--duration", &format!("{}m", options.minutes)]);
    run(seeded(&mut command, options.seed))
}

/// Builds the load tester and the aggregator; returns the folder they are in.
pub fn build() -> Result<PathBuf> {
    run(cargo().args(["build", "--release", "--bins", "-p", "aggregator", "-p", "loadtest"]))?;
    Ok(target_folder().join("release"))
}

fn tester(arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(build()?.join("weft-loadtest"));
    command.args(arguments);
    Ok(command)
}

/// Where the tester is to leave its report and plots.
fn report(folder: &Path) -> Result<[OsString; 4]> {
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let json = folder.join("report.json");
    Ok(["--json".into(), json.into(), "--svg".into(), folder.into()])
}

fn seeded(command: &mut Command, seed: Option<u64>) -> &mut Command {
    if let Some(seed) = seed {
        command.args(["--seed", &seed.to_string()]);
    }
    command
}
