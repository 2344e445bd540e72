//! Figures of several runs, and how far they lie apart.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result};

/// Figures by name, in the order in which the first run gave them.
#[derive(Debug, Default)]
pub struct Figures {
    rows: Vec<(String, Vec<f64>)>,
}

impl Figures {
    /// Adds what a run gave for `name`, which says the unit too.
    pub fn add(&mut self, name: impl Into<String>, value: f64) {
        let name = name.into();
        match self.rows.iter_mut().find(|(other, _)| *other == name) {
            Some((_, values)) => values.push(value),
            None => self.rows.push((name, vec![value])),
        }
    }

    /// What the runs gave for `name`.
    pub fn values(&self, name: &str) -> &[f64] {
        self.rows.iter().find(|(other, _)| other == name).map_or(&[], |(_, values)| values)
    }

    /// Writes the median of each into a file, if there is one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep(&self, path: Option<&Path>) -> Result<()> {
        let Some(path) = path else { return Ok(()) };
        let median = |(name, values): &(String, Vec<f64>)| (name.clone(), spread(values)[1]);
        let medians: BTreeMap<String, f64> = self.rows.iter().map(median).collect();
        fs::write(path, serde_json::to_string_pretty(&medians)?)
            .with_context(|| path.display().to_string())
    }

    /// A table with lowest, median and highest of each figure.
    pub fn table(&self) -> String {
        let width = self.rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        let mut out = format!(
            "{:<width$}  {:>10}  {:>10}  {:>10}  {:>4}",
            "", "median", "lowest", "highest", "runs"
        );
        for (name, values) in &self.rows {
            let [low, middle, high] = spread(values).map(digits);
            let runs = values.len();
            let _ = write!(out, "\n{name:<width$}  {middle:>10}  {low:>10}  {high:>10}  {runs:>4}");
        }
        out
    }
}

/// Lowest, median and highest.
pub fn spread(values: &[f64]) -> [f64; 3] {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    let last = values.len().saturating_sub(1);
    [at(0), f64::midpoint(at(last / 2), at(last.div_ceil(2))), at(last)]
}

/// Three significant digits, and no fraction from a hundred on.
pub fn digits(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 || size == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(spread(&[3.0, 1.0, 2.0]), [1.0, 2.0, 3.0]);
        assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0]), [1.0, 2.5, 4.0]);
        assert_eq!(spread(&[7.0]), [7.0; 3]);
        assert!(spread(&[])[1].is_nan());
    }

    #[test]
    fn figures_keep_their_order_and_their_runs() {
        let mut figures = Figures::default();
        for run in [5.0, 1.0, 3.0] {
            figures.add("CPU, s", run);
            figures.add("a", 1234.5 * run);
        }
        let table = figures.table();
        let lines: Vec<Vec<&str>> =
            table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["CPU,", "s", "3.00", "1.00", "5.00", "3"]);
        assert_eq!(lines[2], ["a", "3704", "1234", "6172", "3"]);
    }
}
