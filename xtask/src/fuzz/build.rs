//! Building the runner.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result};

use super::folder;
use crate::process::{cargo, output_of, run, works};

/// What the compiler is to put in: libFuzzer's counters and comparisons, and checks of every access to memory.
const FLAGS: [&str; 8] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    SANITIZER,
    "--cfg",
    "fuzzing",
];

const SANITIZER: &str = "-Zsanitizer=address";

/// Lets a stable compiler do what else only a nightly one does.
const BOOTSTRAP: (&str, &str) = ("RUSTC_BOOTSTRAP", "1");

/// Why the runner cannot be built here, if that is known beforehand.
pub(super) fn check() -> Result<(), String> {
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
    if !works(Command::new(compiler).arg("--version")) {
        return Err("there is no C++ compiler, which libFuzzer needs".to_owned());
    }
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let source = folder.path().join("nothing.rs");
    std::fs::write(&source, "fn main() {}").map_err(|error| error.to_string())?;
    let mut rustc = Command::new("rustc");
    rustc.env(BOOTSTRAP.0, BOOTSTRAP.1).current_dir(folder.path()).arg(SANITIZER).arg(source);
    works(&mut rustc).then_some(()).ok_or_else(|| "this compiler has no address sanitizer".into())
}

/// Builds it.
pub(super) fn runner() -> Result<PathBuf> {
    let facts = output_of(Command::new("rustc").arg("-vV")).context("no rustc")?;
    let host = facts.lines().find_map(|line| line.strip_prefix("host: ")).context("no host")?;
    let mut command = cargo();
    command.args(["build", "--profile", "fuzz", "--package", "fuzz", "--bin", "weft-fuzz"]);
    // With a target, what runs while building is not instrumented.
    command.args(["--features", "libfuzzer", "--target", host, "--target-dir"]).arg(folder());
    command.env(BOOTSTRAP.0, BOOTSTRAP.1).env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}"));
    run(&mut command)?;
    Ok(folder().join(host).join("fuzz/weft-fuzz"))
}
