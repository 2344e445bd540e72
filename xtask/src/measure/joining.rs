//! What joining across translated addresses and keeping a history cost the aggregator: the same load with and without them,
//! in turn.

use anyhow::{Context as _, Result};

use super::{Stop, machine, scenario, spread::Figures};
use crate::{load, options::Joining, terminal::say};

/// What is told of each run.
const FIGURES: [&str; 2] = ["records per second, 1/s", "aggregator CPU per million records, s"];

/// Arguments of a run that has less or more to do than usual, and what it is called.
const KINDS: [(&str, &[&str]); 4] = [
    ("as it comes, with history", &[]),
    ("all links translated, with history", &["--translated", "1"]),
    ("as it comes, without history", &[NO_HISTORY]),
    ("all links translated, without history", &["--translated", "1", NO_HISTORY]),
];

const NO_HISTORY: &str = "--aggregator-setting=--history-max-bytes=0";

/// Prints what each kind came to, and its ratio to that without either in the same round.
///
/// # Errors
/// When something cannot be built or run, or an answer of the aggregator was not exact.
pub fn measure(options: &Joining) -> Result<()> {
    let program = load::build()?.join("weft-loadtest");
    let stop = Stop::on_signals()?;
    let folder = tempfile::tempdir()?;
    let report = folder.path().join("report.json");
    let (edges, duration) = (options.edges.to_string(), format!("{}s", options.duration.as_secs()));
    say(format_args!("{}", machine::facts()));
    let mut figures = Figures::default();
    let mut ratios = Figures::default();
    for round in 1..=options.runs {
        say(format_args!("round {round} of {}", options.runs));
        let mut all = Vec::new();
        for (kind, more) in KINDS {
            stop.check()?;
            let mut arguments = vec!["fast", "--edges", &edges, "--duration", &duration];
            arguments.extend(more);
            let rows = scenario::play(&program, &arguments, &report)?;
            for name in FIGURES {
                let row = rows.iter().find(|(row, _)| row == name);
                let (_, value) = row.with_context(|| format!("there is no {name}"))?;
                figures.add(format!("{kind}: {name}"), *value);
                all.push((kind, name, *value));
            }
        }
        let (plain, _) = KINDS[2];
        for (kind, name, value) in &all {
            let base = all.iter().find(|(other, figure, _)| *other == plain && figure == name);
            if let Some((_, _, base)) = base.filter(|_| *kind != plain) {
                ratios.add(format!("{kind}: {name}"), value / base);
            }
        }
    }
    say(format_args!("\n{} edges\n{}", options.edges, figures.table()));
    say(format_args!("\nof what it is as it comes, without history\n{}", ratios.table()));
    Ok(())
}
