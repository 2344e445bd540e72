//! What taking in records costs the aggregator: the load tester, some times over.

use std::fs;

use anyhow::{Context, Result};

use super::{Stop, machine, scenario, spread::Figures};
use crate::{load, options::Ingest, terminal::say};

/// How long the machine is watched before anything runs.
const WATCH: std::time::Duration = std::time::Duration::from_secs(3);

/// Prints the figures for some numbers of edges, as fast as records are acknowledged and once a
/// second.
///
/// # Errors
/// When something cannot be built or run, or an answer of the aggregator was not exact.
pub fn measure(options: &Ingest) -> Result<()> {
    let program = load::build()?.join("weft-loadtest");
    let stop = Stop::on_signals()?;
    let temporary = tempfile::tempdir()?;
    let folder = options.reports.as_deref().unwrap_or(temporary.path());
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    say(format_args!("{}", machine::facts()));
    say(format_args!("busy     {:.2} processors before it began", machine::busy(WATCH)));
    for edges in &options.edges {
        for pace in ["fast", "paced"] {
            let mut figures = Figures::default();
            for number in 1..=options.runs {
                stop.check()?;
                let report = folder.join(format!("{pace}-{edges}-{number}.json"));
                let duration = format!("{}s", options.duration.as_secs());
                let edges = edges.to_string();
                let arguments = [pace, "--edges", &edges, "--duration", &duration];
                for (name, value) in scenario::play(&program, &arguments, &report)? {
                    figures.add(name, value);
                }
            }
            say(format_args!("\n{edges} edges, {pace}\n{}", figures.table()));
        }
    }
    Ok(())
}
