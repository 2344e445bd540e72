//! What taking in records costs the aggregator: the load tester, some times over.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Stop, machine, spread::Figures};
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
        for scenario in ["fast", "paced"] {
            let mut figures = Figures::default();
            for number in 1..=options.runs {
                stop.check()?;
                let report = folder.join(format!("{scenario}-{edges}-{number}.json"));
                let duration = format!("{}s", options.duration.as_secs());
                let mut command = Command::new(&program);
                command.args(["run", scenario, "--edges", &edges.to_string()]);
                command.args(["--duration", &duration]).arg("--json").arg(&report);
                let output = command.output().context("cannot run weft-loadtest")?;
                let said = String::from_utf8_lossy(&output.stdout);
                let failed = String::from_utf8_lossy(&output.stderr);
                ensure!(output.status.success(), "weft-loadtest failed:\n{said}{failed}");
                for (name, value) in read(&report)? {
                    figures.add(name, value);
                }
            }
            say(format_args!("\n{edges} edges, {scenario}\n{}", figures.table()));
        }
    }
    Ok(())
}

fn read(report: &Path) -> Result<Vec<(String, f64)>> {
    let text = fs::read(report).with_context(|| report.display().to_string())?;
    rows(&serde_json::from_slice(&text)?).context("a report without figures")
}

/// Names, with their units, and values of a report.
fn rows(report: &Value) -> Option<Vec<(String, f64)>> {
    let row = |figure: &Value| {
        let (name, unit) = (figure["name"].as_str()?, figure["unit"].as_str()?);
        let name = if unit.is_empty() { name.to_owned() } else { format!("{name}, {unit}") };
        Some((name, figure["value"].as_f64()?))
    };
    let mut rows: Vec<_> = report["figures"].as_array()?.iter().map(row).collect::<Option<_>>()?;
    for quantile in ["p50", "p99", "max"] {
        let value = report["acknowledged_ms"][quantile].as_f64()?;
        rows.push((format!("acknowledged after, {quantile}, ms"), value));
    }
    Some(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_a_name_with_its_unit_and_a_number() {
        let report = serde_json::json!({
            "figures": [
                {"name": "edges", "value": 10.0, "unit": ""},
                {"name": "CPU", "value": 0.5, "unit": "s"},
            ],
            "acknowledged_ms": {"p50": 1.0, "p90": 2.0, "p99": 3.0, "max": 4.0},
        });
        let rows = rows(&report).unwrap();
        assert_eq!(rows[..2], [("edges".to_owned(), 10.0), ("CPU, s".to_owned(), 0.5)]);
        assert_eq!(rows[4], ("acknowledged after, max, ms".to_owned(), 4.0));
        assert_eq!(super::rows(&serde_json::json!({})), None);
    }
}
