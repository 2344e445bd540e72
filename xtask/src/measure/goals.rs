//! What Weft is to cost, and whether it does: the figures of `xtask/goals.toml`.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::{Stop, machine, scenario, spread};
use crate::{load, options::Bench, process::output_of, terminal::say, workspace};

const GOALS: &str = "xtask/goals.toml";

/// Where results are kept.
const RESULTS: &str = "loadtest/results";

/// How long the machine is watched before anything runs.
const WATCH: std::time::Duration = std::time::Duration::from_secs(3);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Goals {
    goals: Vec<Goal>,
}

/// A figure of a run, and how large it may be.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Goal {
    what: String,
    /// What is run: a scenario, by `weft-loadtest run …`, or a measurement, by `cargo xtask measure …`.
    run: String,
    figure: String,
    /// Figure that it is divided by.
    of: Option<String>,
    at_most: f64,
}

/// What the runs came to.
#[derive(Debug, Serialize)]
struct Results {
    date: String,
    revision: String,
    machine: String,
    /// Processors that were busy before anything ran.
    busy: f64,
    rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    what: String,
    command: String,
    values: Vec<f64>,
    median: f64,
    at_most: f64,
    reached: bool,
}

/// Plays each run, prints how far its figures are from their goals, and keeps that.
///
/// # Errors
/// When a run fails; with `--check` when a goal is not reached.
pub fn check(options: &Bench) -> Result<()> {
    let path = workspace().join(GOALS);
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let Goals { goals } = toml::from_str(&text).with_context(|| path.display().to_string())?;
    let goals: Vec<Goal> = goals.into_iter().filter(|goal| options.wants(&goal.what)).collect();
    ensure!(!goals.is_empty(), "no goal has a name like that");
    let program = load::build()?.join("weft-loadtest");
    let stop = Stop::on_signals()?;
    let mut results = Results::begin()?;
    say(format_args!(
        "{}\nbusy     {:.2} processors before it began\n",
        results.machine, results.busy
    ));
    let mut runs: BTreeMap<&str, Vec<&Goal>> = BTreeMap::new();
    goals.iter().for_each(|goal| runs.entry(&goal.run).or_default().push(goal));
    let folder = tempfile::tempdir()?;
    for (run, goals) in runs {
        let mut reports = Vec::new();
        for number in 1..=options.runs {
            stop.check()?;
            say(format_args!("{run} ({number} of {})", options.runs));
            let report = folder.path().join("report.json");
            reports.push(play(run, &program, &report)?);
        }
        for goal in goals {
            let row = goal.row(&reports)?;
            say(format_args!("{}", row.line()));
            results.rows.push(row);
        }
    }
    let kept = results.keep()?;
    say(format_args!("\n{}\nkept in {}", results.table(), kept.display()));
    let missed: Vec<&str> =
        results.rows.iter().filter(|row| !row.reached).map(|row| row.what.as_str()).collect();
    if options.check && !missed.is_empty() {
        bail!("not reached: {}", missed.join("; "));
    }
    Ok(())
}

/// One run, and what it came to.
fn play(run: &str, tester: &Path, report: &Path) -> Result<BTreeMap<String, f64>> {
    if let Some(arguments) = run.strip_prefix("weft-loadtest run ") {
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        return Ok(scenario::play(tester, &arguments, report)?.into_iter().collect());
    }
    let arguments = run.strip_prefix("cargo xtask measure ").with_context(|| format!("{run}?"))?;
    let own = env::current_exe().context("find this program")?;
    let mut command = Command::new(own);
    command.arg("measure").args(arguments.split_whitespace()).arg("--json").arg(report);
    output_of(&mut command).with_context(|| format!("{run} failed"))?;
    let text = fs::read_to_string(report).with_context(|| report.display().to_string())?;
    Ok(serde_json::from_str(&text)?)
}

impl Goal {
    fn row(&self, reports: &[BTreeMap<String, f64>]) -> Result<Row> {
        let of = |report: &BTreeMap<String, f64>, name: &str| {
            report.get(name).copied().with_context(|| format!("{}: there is no {name:?}", self.run))
        };
        let value = |report| {
            let divisor = self.of.as_deref().map_or(Ok(1.0), |name| of(report, name))?;
            Ok(of(report, &self.figure)? / divisor)
        };
        let values = reports.iter().map(value).collect::<Result<Vec<f64>>>()?;
        let [_, median, _] = spread::spread(&values);
        Ok(Row {
            what: self.what.clone(),
            command: self.run.clone(),
            values,
            median,
            at_most: self.at_most,
            reached: median <= self.at_most,
        })
    }
}

impl Results {
    fn begin() -> Result<Self> {
        let said = |program: &str, arguments: &[&str]| -> Result<String> {
            let text = output_of(Command::new(program).args(arguments).current_dir(workspace()))
                .with_context(|| format!("{program} fails"))?;
            Ok(text.trim().to_owned())
        };
        Ok(Self {
            date: said("date", &["-u", "+%Y-%m-%d"])?,
            revision: said("git", &["describe", "--always", "--dirty", "--abbrev=12"])?,
            machine: machine::facts(),
            busy: machine::busy(WATCH),
            rows: Vec::new(),
        })
    }

    /// Writes them down; the first of a day is 1.
    fn keep(&self) -> Result<PathBuf> {
        let folder = workspace().join(RESULTS);
        let path = |number: u32| folder.join(format!("{}-goals-{number}.json", self.date));
        let free = (1..).map(path).find(|path| !Path::exists(path));
        let path = free.context("too many results")?;
        fs::write(&path, serde_json::to_string_pretty(self)? + "\n")?;
        Ok(path)
    }

    fn table(&self) -> String {
        self.rows.iter().map(Row::line).collect::<Vec<_>>().join("\n")
    }
}

impl Row {
    fn line(&self) -> String {
        let [low, median, high] = spread::spread(&self.values).map(spread::digits);
        let verdict = if self.reached { "reached" } else { "NOT REACHED" };
        let at_most = spread::digits(self.at_most);
        let Self { what, .. } = self;
        format!("{what:<62} {median:>8} ({low} to {high}), at most {at_most}: {verdict}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn goal() -> Goal {
        Goal {
            what: "CPU".to_owned(),
            run: "weft-loadtest run fast".to_owned(),
            figure: "CPU, s".to_owned(),
            of: None,
            at_most: 2.0,
        }
    }

    #[test]
    fn the_median_is_held_against_the_goal() {
        let report =
            |cpu: f64| BTreeMap::from([("CPU, s".to_owned(), cpu), ("half".to_owned(), 0.5)]);
        let row = goal().row(&[1.0, 9.0, 2.0].map(report)).unwrap();
        assert!(row.reached && row.median == 2.0);
        assert_eq!(row.line().split_whitespace().last(), Some("reached"));
        assert!(!goal().row(&[1.0, 9.0, 2.1].map(report)).unwrap().reached);
        let of = Goal { of: Some("half".to_owned()), ..goal() };
        assert_eq!(of.row(&[report(1.0)]).unwrap().median, 2.0);
        let missing = Goal { figure: "memory".to_owned(), ..goal() };
        assert!(missing.row(&[report(1.0)]).is_err());
    }

    #[test]
    fn the_goals_can_be_read() {
        let text = fs::read_to_string(workspace().join(GOALS)).unwrap();
        let Goals { goals } = toml::from_str(&text).unwrap();
        let is_known = |run: &str| {
            ["weft-loadtest run ", "cargo xtask measure "].iter().any(|tool| run.starts_with(tool))
        };
        assert!(goals.iter().all(|goal| goal.at_most > 0.0 && is_known(&goal.run)));
    }
}
