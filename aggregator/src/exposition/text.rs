//! The text format: a family of series is its name, kind and help, then its samples.

use std::{fmt::Write, sync::LazyLock};

use super::{
    buckets::{CLASSIC, Classic, Exponents},
    rows::{Family, Row, Values},
};

/// Exponents of bounds lie within this distance of 0.
const FARTHEST: i32 = 32;

/// `le="…"} ` of every bound that there may be: writing a float takes longer than the rest of a line.
static BOUNDS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let exponents = -FARTHEST..=FARTHEST;
    exponents.map(|exponent| format!("le=\"{}\"}} ", f64::exp2(f64::from(exponent)))).collect()
});

fn bound(exponent: i32) -> &'static str {
    let at = usize::try_from(exponent + FARTHEST).ok();
    at.and_then(|at| BOUNDS.get(at)).map_or("", String::as_str)
}

/// Appends the lines before the samples of a family.
pub(super) fn begin<R>(family: &Family<R>, out: &mut String) {
    let kind = match family.values {
        Values::Counters(_) => "counter",
        Values::Gauge(_) => "gauge",
        Values::Histogram(..) | Values::Classic(..) => "histogram",
    };
    head(out, family.name, kind, family.help);
}

/// Memory that is used again from row to row.
#[derive(Default)]
pub(super) struct Scratch {
    labels: String,
    bucket: String,
}

/// Appends what a row has for a family.
pub(super) fn row<R: Row>(family: &Family<R>, row: &R, scratch: &mut Scratch, out: &mut String) {
    let Scratch { labels, bucket } = scratch;
    labels.clear();
    row.labels(|name, value| pair(labels, name, value));
    match &family.values {
        Values::Counters(parts) => {
            for part in *parts {
                let length = labels.len();
                if let Some((name, value)) = part.label {
                    pair(labels, name, value);
                }
                count(out, family.name, labels, (part.value)(row));
                labels.truncate(length);
            }
        }
        Values::Gauge(value) => count(out, family.name, labels, value(row)),
        Values::Histogram(of, exponents) | Values::Classic(of, exponents) => {
            let classic = Classic::of(of(row), exponents);
            buckets(out, family.name, labels, bucket, &classic, exponents);
        }
    }
}

pub(super) fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
}

/// Appends a sample. `labels` are rendered pairs without braces.
pub(super) fn sample(out: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    series(out, name, labels);
    // Writing to a string does not fail.
    let _ = writeln!(out, " {value}");
}

/// The same for whole numbers, of which there are most.
fn count(out: &mut String, name: &str, labels: &str, value: u64) {
    series(out, name, labels);
    out.push(' ');
    number(out, value);
}

/// Appends a name and its labels.
fn series(out: &mut String, name: &str, labels: &str) {
    out.push_str(name);
    if !labels.is_empty() {
        out.push('{');
        out.push_str(labels);
        out.push('}');
    }
}

/// Appends a number and the end of the line.
fn number(out: &mut String, value: u64) {
    out.push_str(itoa::Buffer::new().format(value));
    out.push('\n');
}

/// Appends the samples of a classic histogram.
pub(super) fn histogram(
    out: &mut String,
    name: &str,
    labels: &str,
    histogram: &Classic,
    exponents: &Exponents,
) {
    buckets(out, name, labels, &mut String::new(), histogram, exponents);
}

/// The same, with memory for what the lines of all buckets begin with.
fn buckets(
    out: &mut String,
    name: &str,
    labels: &str,
    begin: &mut String,
    histogram: &Classic,
    exponents: &Exponents,
) {
    begin.clear();
    begin.push_str(name);
    begin.push_str("_bucket{");
    begin.push_str(labels);
    if !labels.is_empty() {
        begin.push(',');
    }
    let bounds = exponents.iter().map(|exponent| bound(*exponent)).chain([r#"le="+Inf"} "#]);
    for (bound, count) in bounds.zip(histogram.cumulative) {
        out.push_str(begin);
        out.push_str(bound);
        number(out, count);
    }
    out.push_str(name);
    sample(out, "_sum", labels, histogram.sum_seconds);
    out.push_str(name);
    count(out, "_count", labels, histogram.cumulative[CLASSIC - 1]);
}

/// Renders labels: pairs parted by commas, values escaped.
pub(super) fn labels(pairs: &[(&str, &str)]) -> String {
    let mut out = String::new();
    pairs.iter().for_each(|(name, value)| pair(&mut out, name, value));
    out
}

/// Appends a label to others.
fn pair(out: &mut String, name: &str, value: &str) {
    if !out.is_empty() {
        out.push(',');
    }
    out.push_str(name);
    out.push_str("=\"");
    escape(out, value);
    out.push('"');
}

/// Appends a value as it stands between quotes. Hardly any has something to escape.
fn escape(out: &mut String, mut value: &str) {
    while let Some(at) = value.find(['\\', '"', '\n']) {
        let (before, rest) = value.split_at(at);
        out.push_str(before);
        out.push_str(match rest.as_bytes().first() {
            Some(b'\\') => "\\\\",
            Some(b'"') => "\\\"",
            _ => "\\n",
        });
        value = rest.get(1..).unwrap_or_default();
    }
    out.push_str(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_written_as_the_format_has_them() {
        let mut out = String::new();
        sample(&mut out, "a", "", 1);
        sample(&mut out, "a", &labels(&[("x", "1\"\\\n")]), 2.5);
        sample(&mut out, "a", "x=\"1\",y=\"2\"", 3);
        let expected = "a 1\na{x=\"1\\\"\\\\\\n\"} 2.5\na{x=\"1\",y=\"2\"} 3\n";
        assert_eq!(out, expected);
    }
}
