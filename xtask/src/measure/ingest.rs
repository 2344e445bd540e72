//! What taking in records costs the aggregator: runs its example `ingest_cost` some times.

use std::process::Command;

use anyhow::{Context, Result};

use super::{Stop, build, machine, spread::Figures};
use crate::{options::Ingest, process::output_of, terminal::say};

/// Records of a run without a pace, in millions.
const UNPACED: f64 = 5.0;
/// A record is one half of an edge, and both come.
const HALVES: f64 = 2.0;
/// How long the machine is watched before anything runs.
const WATCH: std::time::Duration = std::time::Duration::from_secs(3);

/// Prints the figures for some numbers of edges, as fast as records are taken and once a second.
///
/// # Errors
/// When the example cannot be built or run.
pub fn measure(options: &Ingest) -> Result<()> {
    let folder = build(&["-p", "aggregator", "--bins", "--example", "ingest_cost"])?;
    let stop = Stop::on_signals()?;
    say(format_args!("{}", machine::facts()));
    say(format_args!("busy     {:.2} processors before it began", machine::busy(WATCH)));
    for edges in &options.edges {
        let paced = f64::from(*edges) * HALVES * options.paced.as_secs_f64() / 1e6;
        for (how, millions, pace) in
            [("as fast as taken", UNPACED, None), ("a round per second", paced, Some("1"))]
        {
            let mut figures = Figures::default();
            for _ in 0..options.runs {
                stop.check()?;
                let mut command = Command::new(folder.join("examples/ingest_cost"));
                command.arg(edges.to_string()).arg(millions.to_string()).args(pace);
                let output = output_of(&mut command).context("ingest_cost failed")?;
                for (name, value) in rows(&output) {
                    figures.add(name, value);
                }
            }
            say(format_args!("\n{edges} edges, {how}\n{}", figures.table()));
        }
    }
    Ok(())
}

/// Lines of a name and a number.
fn rows(output: &str) -> impl Iterator<Item = (&str, f64)> {
    output.lines().filter_map(|line| {
        let (name, value) = line.rsplit_once(char::is_whitespace)?;
        Some((name.trim(), value.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_a_name_and_a_number() {
        let output = "edges      10\nCPU-seconds per million   0.512\nnothing here\n\n";
        let expected = vec![("edges", 10.0), ("CPU-seconds per million", 0.512)];
        assert_eq!(rows(output).collect::<Vec<_>>(), expected);
    }
}
