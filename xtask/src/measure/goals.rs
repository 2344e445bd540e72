//! What Weft is to cost, and whether it does: the figures of `xtask/goals.toml`.

use std::{
    collections::BTreeMap,
    env, fs, io, iter,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::{Stop, machine, scenario, spread};
use crate::{
    load,
    options::Bench,
    process::output_of,
    terminal::{complain, say},
    workspace,
};

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
    /// Of each run that ended well, in their order.
    values: Vec<f64>,
    /// Why the others did not.
    failures: Vec<String>,
    median: Option<f64>,
    at_most: f64,
    reached: bool,
}

/// A command, and what its runs came to.
struct Run {
    command: String,
    reports: Vec<BTreeMap<String, f64>>,
    failures: Vec<String>,
}

/// Plays all runs once, then once more, and so on, that what else the machine does meets all alike; prints how far their
/// figures are from their goals, and keeps that after each round.
///
/// # Errors
/// When there is nothing to play or nowhere to keep it; with `--check` when a goal is not reached.
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
        "{}\nbusy     {:.2} processors before it began",
        results.machine, results.busy
    ));
    let mut runs = Run::of(&goals);
    let kept = results.take_place()?;
    let folder = tempfile::tempdir()?;
    for round in 1..=options.runs {
        say(format_args!("\nround {round} of {}", options.runs));
        for run in &mut runs {
            stop.check()?;
            say(format_args!("{}", run.command));
            run.play(&program, &folder.path().join("report.json"));
        }
        results.rows = goals.iter().map(|goal| goal.row(&runs)).collect();
        results.keep(&kept)?;
    }
    say(format_args!("\n{}\nkept in {}", results.table(), kept.display()));
    let missed: Vec<&str> =
        results.rows.iter().filter(|row| !row.reached).map(|row| row.what.as_str()).collect();
    if options.check && !missed.is_empty() {
        bail!("not reached: {}", missed.join("; "));
    }
    Ok(())
}

impl Run {
    /// One for each command, in the order of the goals.
    fn of(goals: &[Goal]) -> Vec<Self> {
        let mut runs: Vec<Self> = Vec::new();
        for Goal { run, .. } in goals {
            if !runs.iter().any(|known| known.command == *run) {
                let command = run.clone();
                runs.push(Self { command, reports: Vec::new(), failures: Vec::new() });
            }
        }
        runs
    }

    /// Plays it once more. What fails is told and kept: the other runs have worth without it.
    fn play(&mut self, tester: &Path, report: &Path) {
        match play(&self.command, tester, report) {
            Ok(figures) => self.reports.push(figures),
            Err(error) => {
                complain(format_args!("{error:#}"));
                let reason = format!("{error:#}");
                self.failures.push(reason.lines().next().unwrap_or_default().to_owned());
            }
        }
    }
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
    fn row(&self, runs: &[Run]) -> Row {
        let run = runs.iter().find(|run| run.command == self.run);
        let of = |report: &BTreeMap<String, f64>, name: &str| {
            report.get(name).copied().ok_or_else(|| format!("there is no {name:?}"))
        };
        let value = |report| {
            let divisor = self.of.as_deref().map_or(Ok(1.0), |name| of(report, name))?;
            Ok(of(report, &self.figure)? / divisor)
        };
        let (mut values, mut failures) = (Vec::new(), Vec::new());
        if let Some(run) = run {
            failures.clone_from(&run.failures);
            for report in &run.reports {
                match value(report) {
                    Ok(value) => values.push(value),
                    Err(missing) => failures.push(missing),
                }
            }
        }
        let median = (!values.is_empty()).then(|| spread::spread(&values)[1]);
        let reached = failures.is_empty() && median.is_some_and(|median| median <= self.at_most);
        Row {
            what: self.what.clone(),
            command: self.run.clone(),
            values,
            failures,
            median,
            at_most: self.at_most,
            reached,
        }
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

    /// Takes a place where they can be kept; the first of a day is 1.
    fn take_place(&self) -> Result<PathBuf> {
        let folder = workspace().join(RESULTS);
        let path = |number: u32| folder.join(format!("{}-goals-{number}.json", self.date));
        for path in (1..).map(path) {
            match fs::File::create_new(&path) {
                Ok(_) => return Ok(path),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).with_context(|| path.display().to_string()),
            }
        }
        bail!("too many results")
    }

    /// Writes them down, in the place of what a round before has left there.
    fn keep(&self, path: &Path) -> Result<()> {
        fs::write(path, serde_json::to_string_pretty(self)? + "\n")
            .with_context(|| path.display().to_string())
    }

    /// As Markdown.
    fn table(&self) -> String {
        let head = "| what | median (lowest to highest) | at most | |\n|---|---|---|---|";
        let rows = self.rows.iter().map(Row::line);
        iter::once(head.to_owned()).chain(rows).collect::<Vec<_>>().join("\n")
    }
}

impl Row {
    fn line(&self) -> String {
        let Self { what, values, failures, reached, .. } = self;
        let [low, median, high] = spread::spread(values).map(spread::digits);
        let verdict = match (reached, failures.first()) {
            (true, _) => "reached".to_owned(),
            (false, None) => "**missed**".to_owned(),
            (false, Some(failure)) => {
                format!("**failed {} times**: {failure}", failures.len())
            }
        };
        let at_most = spread::digits(self.at_most);
        if values.is_empty() {
            return format!("| {what} | | {at_most} | {verdict} |");
        }
        format!("| {what} | {median} ({low} to {high}) | {at_most} | {verdict} |")
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

    fn run(of: &[f64]) -> Run {
        let report =
            |cpu: &f64| BTreeMap::from([("CPU, s".to_owned(), *cpu), ("half".to_owned(), 0.5)]);
        let reports = of.iter().map(report).collect();
        Run { command: goal().run, reports, failures: Vec::new() }
    }

    #[test]
    fn the_median_is_held_against_the_goal() {
        let row = goal().row(&[run(&[1.0, 9.0, 2.0])]);
        assert!(row.reached && row.median == Some(2.0));
        assert_eq!(row.line(), "| CPU | 2.00 (1.00 to 9.00) | 2.00 | reached |");
        assert!(!goal().row(&[run(&[1.0, 9.0, 2.1])]).reached);
        let of = Goal { of: Some("half".to_owned()), ..goal() };
        assert_eq!(of.row(&[run(&[1.0])]).median, Some(2.0));
    }

    #[test]
    fn what_fails_is_a_goal_missed() {
        let missing = Goal { figure: "memory".to_owned(), ..goal() };
        let row = missing.row(&[run(&[1.0])]);
        assert!(!row.reached && row.failures.len() == 1 && row.median.is_none());
        let mut once = run(&[1.0]);
        once.failures.push("NOT EXACT".to_owned());
        let row = goal().row(&[once]);
        assert!(!row.reached && row.median == Some(1.0));
        assert!(row.line().ends_with("**failed 1 times**: NOT EXACT |"), "{}", row.line());
    }

    #[test]
    fn a_command_is_played_once_for_all_its_goals() {
        let other = Goal { run: "cargo xtask measure storm".to_owned(), ..goal() };
        let runs = Run::of(&[goal(), other, goal()]);
        let commands: Vec<&str> = runs.iter().map(|run| run.command.as_str()).collect();
        assert_eq!(commands, ["weft-loadtest run fast", "cargo xtask measure storm"]);
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
