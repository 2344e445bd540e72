//! `weft-loadtest`: fleets that do not exist, for aggregators that do.
#![forbid(unsafe_code)]

mod agent;
mod check;
mod cli;
mod duration;
mod fleet;
mod pki;
mod process;
mod replay;
mod report;
mod run;
mod scenario;
mod server;
mod stats;
mod terminal;
mod totals;
mod world;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser as _;

use cli::{Command, Options, Replay, Run};
use report::{Report, compare};
use scenario::{BUNDLED, Scenario};
use terminal::{Progress, complain, say};

fn main() -> ExitCode {
    let result = match Options::parse().command {
        Command::Run(options) => run(*options),
        Command::Scenarios => scenarios(),
        Command::Compare { a, b } => compare(&a, &b),
        Command::Replay(options) => replay(options),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            complain(format_args!("weft-loadtest: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Plays a scenario; false when it was not exact.
fn run(options: Run) -> Result<bool> {
    let mut scenario = Scenario::load(&options.scenario)?;
    options.changes.apply(&mut scenario);
    let progress = Progress::new();
    let runtime = tokio::runtime::Runtime::new()?;
    let report = runtime.block_on(run::run(scenario, options.target.into(), &progress))?;
    drop(progress);
    say(format_args!("{}", report.table()));
    if let Some(path) = &options.json {
        report.write(path)?;
    }
    if let Some(dir) = &options.svg {
        report.write_plots(dir)?;
    }
    Ok(report.exact)
}

/// Sends a recording again; false when not all of it was taken over.
fn replay(options: Replay) -> Result<bool> {
    let Replay { file, fast, target } = options;
    let runtime = tokio::runtime::Runtime::new()?;
    let replayed = runtime.block_on(replay::replay(&file, fast, target.into()))?;
    say(format_args!("{}", replayed.table()));
    Ok(replayed.is_whole())
}

fn scenarios() -> Result<bool> {
    for (name, _) in BUNDLED {
        say(format_args!("{name:<12} {}", Scenario::load(name)?.about));
    }
    Ok(true)
}

fn compare(a: &std::path::Path, b: &std::path::Path) -> Result<bool> {
    say(format_args!("{}", compare::table(&Report::read(a)?, &Report::read(b)?)));
    Ok(true)
}
