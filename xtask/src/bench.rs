//! `cargo xtask bench`: what hot paths cost, in nanoseconds and in instructions.
//!
//! Time depends on who else is at work on the machine, the number of instructions hardly does: callgrind counts them, and a
//! case that needs more than what is kept in `xtask/instructions.toml` is a regression.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    measure::goals,
    options::Bench,
    process::{cargo, in_ci, output_of, works},
    terminal::{loud, say},
    workspace,
};

/// Crates that have benchmarks.
const CRATES: [&str; 3] = ["aggregator", "proto", "topology"];

/// Counts that were kept.
const KEPT: &str = "xtask/instructions.toml";

/// How far a count may be above the one that was kept: hash maps are seeded anew in each run, and the C library takes
/// other ways on other processors.
const TOLERANCE: f64 = 0.1;

/// What one case came to, per unit of what it measures.
struct Outcome {
    nanoseconds: f64,
    instructions: Option<f64>,
}

/// Runs the benchmarks.
///
/// # Errors
/// When one does not run; with `--check` when one needs more instructions than it did, or in CI when they cannot be counted.
pub fn run_all(options: &Bench) -> Result<()> {
    if options.table {
        return goals::check(options);
    }
    let counts = works(Command::new("valgrind").arg("--version"));
    if !counts {
        let hint = "valgrind is not installed: instructions cannot be counted";
        ensure!(!(options.keep || options.check && in_ci()), hint);
        loud(&format!("SKIPPED: {hint}"));
    }
    let path = workspace().join(KEPT);
    let mut kept = read(&path)?;
    let mut worse = Vec::new();
    say(format_args!("{:<28} {:>12} {:>14} {:>12}", "case", "ns", "instructions", "kept"));
    for program in build()? {
        let cases = output_of(&mut Command::new(&program)).context("list the cases")?;
        for case in cases.lines().filter(|case| options.wants(case)) {
            let outcome = measure(&program, case, counts)?;
            let before = kept.get(case).copied();
            let number = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.0}"));
            say(format_args!(
                "{case:<28} {:>12.0} {:>14} {:>12}",
                outcome.nanoseconds,
                number(outcome.instructions),
                number(before)
            ));
            let Some(now) = outcome.instructions else { continue };
            if before.is_none_or(|before| now > before * (1.0 + TOLERANCE)) {
                worse.push(case.to_owned());
            }
            if options.keep {
                kept.insert(case.to_owned(), now.round());
            }
        }
    }
    if options.keep {
        fs::write(&path, toml::to_string(&kept)?)?;
    } else if options.check && !worse.is_empty() {
        bail!(
            "more instructions than in {KEPT}, or none kept: {}; if that is meant, `cargo xtask bench --keep`",
            worse.join(", ")
        );
    }
    Ok(())
}

impl Bench {
    pub fn wants(&self, case: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| case.contains(part))
    }
}

fn read(path: &Path) -> Result<BTreeMap<String, f64>> {
    let text = fs::read_to_string(path).unwrap_or_default();
    toml::from_str(&text).with_context(|| format!("read {}", path.display()))
}

/// Builds the benchmarks; returns the programs.
fn build() -> Result<Vec<PathBuf>> {
    let mut command = cargo();
    command.args(["bench", "--no-run", "--message-format=json-render-diagnostics"]);
    for name in CRATES {
        command.args(["--package", name]);
    }
    command.args(["--bench", "*"]);
    let output = command.stderr(std::process::Stdio::inherit()).output()?;
    ensure!(output.status.success(), "the benchmarks do not build");
    let text = String::from_utf8(output.stdout)?;
    let program = |line: &str| -> Option<PathBuf> {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        // The programs of a crate are built with its benchmarks.
        let kinds = message["target"]["kind"].as_array()?;
        kinds.iter().find(|kind| *kind == "bench")?;
        Some(message.get("executable")?.as_str()?.into())
    };
    let programs: Vec<_> = text.lines().filter_map(program).collect();
    ensure!(!programs.is_empty(), "there are no benchmarks");
    Ok(programs)
}

fn measure(program: &Path, case: &str, counts: bool) -> Result<Outcome> {
    let said = output_of(Command::new(program).arg(case)).context("a benchmark failed")?;
    let mut words = said.split_whitespace();
    let mut number = |name: &str| -> Option<f64> {
        words.next().filter(|word| *word == name)?;
        words.next()?.parse().ok()
    };
    let units = number("units").filter(|units| *units > 0.0).context("no units were measured")?;
    let nanoseconds = number("nanoseconds").context("no time was measured")? / units;
    let instructions = if counts { Some(count(program, case)? / units) } else { None };
    Ok(Outcome { nanoseconds, instructions })
}

/// Instructions inside of the function `measured` of the harness.
fn count(program: &Path, case: &str) -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("callgrind");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no", "--toggle-collect=*harness::measured*"])
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(program)
        .arg(case)
        .output()?;
    ensure!(output.status.success(), "{case} does not run under valgrind");
    let text = fs::read_to_string(&file)?;
    let total = text.lines().find_map(|line| {
        line.strip_prefix("summary:").or_else(|| line.strip_prefix("totals:"))?.trim().parse().ok()
    });
    total.filter(|total| *total > 0.0).context("callgrind has counted nothing")
}
