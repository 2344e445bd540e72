//! What a run has shown: as JSON for machines, a table for people, and plots.

pub mod compare;
pub mod figures;
pub mod plot;

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::{process::Environment, run::Moment, scenario::Scenario, stats::Quantiles};
use figures::Figures;

/// Version of the JSON; incremented when a reader of the last version would go wrong.
pub const VERSION: u32 = 1;

/// File, title and lines of a plot.
type Plot = (&'static str, &'static str, &'static [(&'static str, fn(&Moment) -> f64)]);

/// What a run has shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub version: u32,
    pub environment: Environment,
    pub scenario: Scenario,
    /// Whether every answer was what was sent and nothing else was wrong.
    pub exact: bool,
    pub problems: Vec<String>,
    pub figures: Figures,
    /// From the end of an interval to its acknowledgement.
    pub acknowledged_ms: Quantiles,
    /// From sending to showing in the API.
    pub freshness_ms: Option<Quantiles>,
    /// Why streams ended or never began, and how often.
    pub stream_ends: BTreeMap<String, u64>,
    pub moments: Vec<Moment>,
}

impl Report {
    pub fn new(
        scenario: &Scenario,
        figures: Figures,
        acknowledged_ms: Quantiles,
        freshness_ms: Option<Quantiles>,
        moments: Vec<Moment>,
        problems: Vec<String>,
        stream_ends: BTreeMap<String, u64>,
    ) -> Self {
        Self {
            version: VERSION,
            environment: Environment::default(),
            scenario: scenario.clone(),
            exact: problems.is_empty(),
            problems,
            figures,
            acknowledged_ms,
            freshness_ms,
            stream_ends,
            moments,
        }
    }

    /// Reads a report.
    pub fn read(path: &Path) -> Result<Self> {
        let name = || path.display().to_string();
        let text = std::fs::read(path).with_context(name)?;
        let value: serde_json::Value = serde_json::from_slice(&text).with_context(name)?;
        let version = value.get("version").and_then(serde_json::Value::as_u64).unwrap_or_default();
        ensure!(
            version == u64::from(VERSION),
            "{} is a report of version {version}, not {VERSION}",
            path.display()
        );
        serde_json::from_value(value).with_context(name)
    }

    /// Writes it.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        std::fs::write(path, text).with_context(|| path.display().to_string())
    }

    /// Every figure, the distributions among them.
    pub fn all_figures(&self) -> Figures {
        let mut all = self.figures.clone();
        let mut add = |name: &str, quantiles: &Quantiles| {
            let Quantiles { p50, p90, p99, max, .. } = *quantiles;
            for (quantile, value) in [("p50", p50), ("p90", p90), ("p99", p99), ("highest", max)] {
                all.add(&format!("{name}, {quantile}"), value, "ms");
            }
        };
        add("acknowledged after", &self.acknowledged_ms);
        if let Some(freshness) = &self.freshness_ms {
            add("shows in the API after", freshness);
        }
        all
    }

    /// For people.
    pub fn table(&self) -> String {
        let Environment { date, kernel, cpu, cores, git, load_average, optimised, .. } =
            &self.environment;
        let build = if *optimised { "" } else { ", NOT OPTIMISED" };
        let mut out = format!(
            "{}\n{date}, {cores} x {cpu}, Linux {kernel}, revision {git}{build}, load average \
             {load_average}\n\n{}",
            self.scenario.about,
            self.all_figures().table()
        );
        for (reason, count) in &self.stream_ends {
            // Writing to a string does not fail.
            let _ = write!(out, "\n{count} x stream: {reason}");
        }
        for problem in &self.problems {
            let _ = write!(out, "\n\nNOT EXACT: {problem}");
        }
        if self.exact {
            out.push_str("\n\nexact: every answer was what was sent");
        }
        out
    }

    /// Writes a plot of every series into a folder.
    pub fn write_plots(&self, dir: &Path) -> Result<()> {
        std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        let plots: [Plot; 6] = [
            ("cpu", "aggregator CPU, cores", &[("cores", |m| m.cpu_cores)]),
            ("memory", "aggregator memory, MB resident", &[("MB", |m| m.resident_mb)]),
            ("files", "aggregator file descriptors", &[("files", |m| m.files)]),
            ("records", "records per second", &[("records/s", |m| m.records_per_second)]),
            (
                "acknowledgement",
                "from the end of an interval to its acknowledgement, ms",
                &[("p50", |m| m.ack_p50_ms), ("p99", |m| m.ack_p99_ms)],
            ),
            ("connected", "agents connected", &[("agents", |m| m.connected)]),
        ];
        for (name, title, lines) in plots {
            let series: Vec<_> = lines
                .iter()
                .map(|(name, of)| {
                    let points = self.moments.iter().map(|m| (m.seconds, of(m))).collect();
                    plot::Line { name, points }
                })
                .collect();
            let path = dir.join(format!("{name}.svg"));
            std::fs::write(&path, plot::svg(title, &series))
                .with_context(|| path.display().to_string())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(problems: Vec<String>) -> Report {
        let scenario = Scenario::load("smoke").unwrap();
        let mut figures = Figures::default();
        figures.add("records", 5.0, "");
        let acks = Quantiles { count: 1, p50: 1.0, p90: 2.0, p99: 3.0, max: 4.0 };
        let moments = vec![Moment { seconds: 1.0, cpu_cores: 0.5, ..Moment::default() }];
        Report::new(&scenario, figures, acks, None, moments, problems, BTreeMap::new())
    }

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.json");
        let written = report(Vec::new());
        written.write(&path).unwrap();
        assert_eq!(Report::read(&path).unwrap(), written);
        std::fs::write(&path, "{\"version\": 99}").unwrap();
        assert!(Report::read(&path).unwrap_err().to_string().contains("version 99"));
        written.write_plots(folder.path()).unwrap();
        assert!(folder.path().join("memory.svg").is_file());
    }

    #[test]
    fn the_table_says_whether_it_is_exact() {
        assert!(report(Vec::new()).table().contains("exact: every answer"));
        let table = report(vec!["a counter fell".to_owned()]).table();
        assert!(table.contains("NOT EXACT: a counter fell"), "{table}");
        assert!(table.contains("acknowledged after, p99"));
    }
}
