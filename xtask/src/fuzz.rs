//! `cargo xtask fuzz`: bytes that libFuzzer thinks of, through everything that parses bytes from elsewhere.
//!
//! `build` makes the runner with a stable compiler that is told to instrument, `run` runs targets beside each other,
//! `progress` reads what libFuzzer says, `corpus` keeps what is worth keeping.

mod build;
mod corpus;
mod progress;
mod run;

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    options::Fuzz,
    process::{cargo, run as run_command, target_folder},
    terminal::{loud, say},
    workspace,
};
use run::Outcome;

/// Runs the targets, or only what was kept of earlier runs where there is no way to build the runner.
///
/// # Errors
/// When a target has failed, or nothing can be built.
pub fn run_all(options: &Fuzz) -> Result<()> {
    let targets = chosen(&options.targets)?;
    if let Err(reason) = build::check() {
        loud(&format!("SKIPPED: fuzzing ({reason}); the kept inputs are run all the same"));
        return run_command(cargo().args(["test", "--package", "fuzz"]));
    }
    let runner = build::runner()?;
    let outcomes = run::all(&runner, &targets, options)?;
    say(format_args!("\n{}", progress::table(&outcomes)));
    if options.keep {
        for target in &targets {
            corpus::keep(&runner, target)?;
        }
    }
    let failed: Vec<&Outcome> = outcomes.iter().filter(|outcome| !outcome.passed()).collect();
    for outcome in &failed {
        say(format_args!("\n{}", outcome.complaint()));
    }
    ensure!(failed.is_empty(), "{} of {} targets failed", failed.len(), outcomes.len());
    Ok(())
}

/// The targets of these names; all without any. Each has a folder of inputs.
fn chosen(names: &[String]) -> Result<Vec<String>> {
    let folder = corpus::kept("");
    let mut known = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        known.push(entry?.file_name().to_string_lossy().into_owned());
    }
    known.sort_unstable();
    if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
        bail!("{unknown} is no target; there are {}", known.join(", "));
    }
    Ok(if names.is_empty() { known } else { names.to_vec() })
}

/// Where everything of it is that is not kept.
fn folder() -> PathBuf {
    target_folder().join("fuzz")
}

/// Where the crate is.
fn package() -> PathBuf {
    workspace().join("fuzz")
}
