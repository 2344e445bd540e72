//! One run of the load tester, and what it came to.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Runs `weft-loadtest run` with these arguments, which leaves its report there; returns names, with their units, and
/// values.
///
/// # Errors
/// When it fails, or an answer of the aggregator was not exact.
pub fn play(program: &Path, arguments: &[&str], report: &Path) -> Result<Vec<(String, f64)>> {
    let mut command = Command::new(program);
    command.arg("run").args(arguments).arg("--json").arg(report);
    let output = command.output().context("cannot run weft-loadtest")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    let reason = failed.lines().find(|line| !line.trim().is_empty()).unwrap_or("no reason told");
    ensure!(output.status.success(), "weft-loadtest failed: {reason}\n{said}{failed}");
    let text = fs::read_to_string(report).with_context(|| report.display().to_string())?;
    rows(&serde_json::from_str(&text)?).context("a report without figures")
}

fn rows(report: &Value) -> Option<Vec<(String, f64)>> {
    let row = |figure: &Value| {
        let (name, unit) = (figure["name"].as_str()?, figure["unit"].as_str()?);
        let name = if unit.is_empty() { name.to_owned() } else { format!("{name}, {unit}") };
        Some((name, figure["value"].as_f64()?))
    };
    let mut rows: Vec<_> = report["figures"].as_array()?.iter().map(row).collect::<Option<_>>()?;
    for (what, key) in [("acknowledged", "acknowledged_ms"), ("shows", "freshness_ms")] {
        for quantile in ["p50", "p99", "max"] {
            let value = report[key][quantile].as_f64();
            rows.extend(value.map(|value| (format!("{what} after, {quantile}, ms"), value)));
        }
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
            "freshness_ms": null,
        });
        let rows = rows(&report).unwrap();
        assert_eq!(rows[..2], [("edges".to_owned(), 10.0), ("CPU, s".to_owned(), 0.5)]);
        assert_eq!(rows[4], ("acknowledged after, max, ms".to_owned(), 4.0));
        assert_eq!(rows.len(), 5);
        assert_eq!(super::rows(&serde_json::json!({})), None);
    }
}
