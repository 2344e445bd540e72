//! Counters of `/metrics` that may not fall.

use std::collections::HashMap;

/// What the process itself counts starts anew with it.
const OF_THE_PROCESS: [&str; 2] = ["weft_aggregator_", "process_"];

/// Every counter as it was last read.
#[derive(Debug, Default)]
pub(super) struct Counters {
    last: HashMap<String, f64>,
    /// How often they were read.
    pub(super) readings: u32,
}

impl Counters {
    /// Takes in a reading; returns the counters that fell.
    pub(super) fn read(&mut self, text: &str) -> Vec<String> {
        self.readings += 1;
        let mut counts = false;
        let mut fell = Vec::new();
        for line in text.lines() {
            let kind = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' '));
            if let Some((name, kind)) = kind {
                let own = OF_THE_PROCESS.iter().any(|prefix| name.starts_with(prefix));
                counts = kind == "counter" && !own;
            } else if counts
                && let Some((series, value)) = line.rsplit_once(' ')
                && let Ok(value) = value.parse::<f64>()
            {
                let before = self.last.insert(series.to_owned(), value);
                if let Some(before) = before.filter(|before| value < *before) {
                    fell.push(format!("{series} fell from {before} to {value}"));
                }
            }
        }
        fell
    }

    /// The sum over all series of a family.
    pub(super) fn sum(&self, family: &str) -> f64 {
        self.family(family).map(|(_, value)| value).sum()
    }

    /// The series of a family.
    pub(super) fn family(&self, family: &str) -> impl Iterator<Item = (&str, f64)> {
        let of = move |series: &str| {
            series.strip_prefix(family).is_some_and(|rest| rest.starts_with('{'))
        };
        let series = self.last.iter().filter(move |(series, _)| of(series));
        series.map(|(series, value)| (series.as_str(), *value))
    }
}

#[cfg(test)]
mod tests {
    use super::Counters;

    #[test]
    fn only_counters_of_the_fleet_must_not_fall() {
        let mut counters = Counters::default();
        let text = |a, own, gauge| {
            format!(
                "# TYPE a_total counter\na_total{{x=\"1\"}} {a}\na_total{{x=\"2\"}} 4\n\
                 # TYPE weft_aggregator_b counter\nweft_aggregator_b {own}\n# TYPE c gauge\n\
                 c {gauge}\n"
            )
        };
        assert!(counters.read(&text(5, 5, 5)).is_empty());
        assert!(counters.read(&text(5, 1, 1)).is_empty());
        assert_eq!(counters.read(&text(4, 1, 1)), ["a_total{x=\"1\"} fell from 5 to 4"]);
        assert_eq!((counters.sum("a_total"), counters.readings), (8.0, 3));
    }
}
