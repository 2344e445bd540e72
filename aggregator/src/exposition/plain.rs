//! Text that was written already, as protobuf: what there is of nodes and of the aggregator itself is little, and so
//! is written by one way only. Its histograms stay classic.

use std::collections::BTreeMap;

use super::{
    native::{begin, kind, put},
    wire::Wire,
};

/// A family as it is read.
#[derive(Default)]
struct Family<'a> {
    name: &'a str,
    help: &'a str,
    kind: &'a str,
    /// Labels other than `le`, and what there is under them.
    metrics: BTreeMap<Vec<(&'a str, String)>, Metric>,
}

#[derive(Default)]
struct Metric {
    value: f64,
    sum: f64,
    count: f64,
    /// Bounds and cumulative counts.
    buckets: Vec<(f64, f64)>,
}

/// Appends families that this program wrote as text.
pub(super) fn encode(text: &str, out: &mut Wire) {
    let mut family = Family::default();
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            family.write(out);
            let (name, help) = help.split_once(' ').unwrap_or((help, ""));
            family = Family { name, help, ..Family::default() };
        } else if let Some((_, kind)) =
            line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            family.kind = kind;
        } else {
            // It is ours: a line that is no sample is not there.
            let _ = family.sample(line);
        }
    }
    family.write(out);
}

impl<'a> Family<'a> {
    fn sample(&mut self, line: &'a str) -> Option<()> {
        let (series, value) = line.rsplit_once(' ')?;
        let value: f64 = value.parse().ok()?;
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let mut labels = read_labels(labels);
        let le = labels.iter().position(|(name, _)| *name == "le").map(|at| labels.remove(at).1);
        let metric = self.metrics.entry(labels).or_default();
        match name.strip_prefix(self.name)? {
            "_bucket" => metric.buckets.push((le?.parse().ok()?, value)),
            "_sum" => metric.sum = value,
            "_count" => metric.count = value,
            _ => metric.value = value,
        }
        Some(())
    }

    fn write(&self, out: &mut Wire) {
        if self.metrics.is_empty() {
            return;
        }
        let (kind, field) = match self.kind {
            "counter" => (kind::COUNTER, 3),
            "histogram" => (kind::HISTOGRAM, 7),
            _ => (kind::GAUGE, 2),
        };
        let mut family = Wire::default();
        begin(self.name, self.help, kind, &mut family);
        let mut labels = Wire::default();
        for (names, metric) in &self.metrics {
            labels.0.clear();
            names.iter().for_each(|(name, value)| labels.pair(name, value));
            put(&labels, None, field, &metric.value(kind), &mut family);
        }
        out.delimited(&family);
    }
}

impl Metric {
    /// The message of its value.
    fn value(&self, kind: u64) -> Wire {
        let mut value = Wire::default();
        if kind != kind::HISTOGRAM {
            value.double(1, self.value);
            return value;
        }
        value.number(1, self.count as u64);
        value.double(2, self.sum);
        for (bound, cumulative) in &self.buckets {
            let mut bucket = Wire::default();
            bucket.number(1, *cumulative as u64);
            bucket.double(2, *bound);
            value.bytes(3, &bucket.0);
        }
        value
    }
}

/// Reads `name="value",…}`.
fn read_labels(mut rest: &str) -> Vec<(&str, String)> {
    let mut labels = Vec::new();
    while let Some((name, quoted)) = rest.split_once("=\"") {
        let mut value = String::new();
        let mut characters = quoted.char_indices();
        let mut end = quoted.len();
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => {
                    end = at + 1;
                    break;
                }
                '\\' => match characters.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, escaped)) => value.push(escaped),
                    None => {}
                },
                other => value.push(other),
            }
        }
        labels.push((name.trim_start_matches(','), value));
        rest = quoted.get(end..).unwrap_or_default();
    }
    labels
}
