//! Two reports beside each other.

use std::fmt::Write as _;

use super::{
    Report,
    figures::{Figure, digits},
};

/// Every figure of both, and how they relate.
pub fn table(a: &Report, b: &Report) -> String {
    let (before, after) = (a.all_figures(), b.all_figures());
    let width = before.iter().map(|figure| figure.name.chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    for (name, report) in [("A", a), ("B", b)] {
        let environment = &report.environment;
        let exact = if report.exact { "exact" } else { "NOT EXACT" };
        // Writing to a string does not fail.
        let _ = writeln!(
            out,
            "{name}: {}, revision {}, load average {}, {exact}",
            environment.date, environment.git, environment.load_average
        );
    }
    if a.scenario != b.scenario {
        out.push_str("the two are not of the same scenario and settings\n");
    }
    let _ = writeln!(out, "\n{:<width$}  {:>14}  {:>14}  {:>8}", "", "A", "B", "B / A");
    for Figure { name, value, unit } in before.iter() {
        let Some(new) = after.get(name) else { continue };
        let (old, new_text) = (digits(*value), digits(new));
        let ratio = match *value {
            0.0 => String::new(),
            value => format!("{:.3}", new / value),
        };
        let _ = writeln!(out, "{name:<width$}  {old:>14}  {new_text:>14}  {ratio:>8}  {unit}");
    }
    out.truncate(out.trim_end().len());
    out
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{report::figures::Figures, scenario::Scenario, stats::Quantiles};

    #[test]
    fn figures_of_both_stand_beside_each_other() {
        let report = |records: f64, seed: u64| {
            let mut scenario = Scenario::load("smoke").unwrap();
            scenario.seed = seed;
            let mut figures = Figures::default();
            figures.add("records", records, "");
            let none = Quantiles::default();
            Report::new(&scenario, figures, none, None, Vec::new(), Vec::new(), BTreeMap::new())
        };
        let text = table(&report(100.0, 1), &report(150.0, 1));
        let line = text.lines().find(|line| line.starts_with("records")).unwrap();
        assert_eq!(line.split_whitespace().collect::<Vec<_>>(), ["records", "100", "150", "1.500"]);
        assert!(!text.contains("not of the same"));
        assert!(table(&report(1.0, 1), &report(1.0, 2)).contains("not of the same"));
    }
}
