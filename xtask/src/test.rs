//! `cargo xtask test`: every test there is, and a loud word about those that cannot run.

mod readers;

use anyhow::{Result, bail};
use testbed::{binaries, environment};

use crate::{
    options::Test,
    process::{cargo, in_ci, run, target_folder, works},
    terminal::loud,
};

/// Builds and runs every test.
///
/// # Errors
/// When one fails, or in CI when one cannot run.
pub fn run_all(options: &Test) -> Result<()> {
    let missing = environment::check().err();
    if let Some(reason) = &missing {
        if in_ci() {
            bail!("the end-to-end tests cannot run: {reason}");
        }
        skipped(&reason.to_string());
    }
    // The end-to-end tests start the real programs.
    run(cargo().args(["build", "--workspace", "--bins"]))?;
    let bins = target_folder().join("debug");
    let readers = readers::fetch()?;
    let test = |args: &[&str]| {
        let mut command = cargo();
        command.args(args).env(binaries::BIN_DIR, &bins).envs(readers.iter().cloned());
        command.args(options.filter.as_slice());
        run(&mut command)
    };
    if works(cargo().args(["nextest", "--version"])) {
        let nextest = ["nextest", "run", "--workspace", "--no-tests=warn"];
        test(&[&nextest[..], &["-E", "not binary(e2e)"]].concat())?;
        // One at a time: they measure time and use both ends of the machine.
        test(&[&nextest[..], &["-E", "binary(e2e)", "--test-threads=1"]].concat())?;
        test(&["test", "--workspace", "--doc", "--quiet"])?;
    } else {
        test(&["test", "--workspace"])?;
    }
    if let Some(reason) = missing {
        skipped(&reason.to_string());
    }
    Ok(())
}

fn skipped(reason: &str) {
    loud(&format!("SKIPPED: the end-to-end tests ({reason})"));
}
