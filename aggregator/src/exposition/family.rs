//! The text format: a family of series is its name, kind and help, then its samples.

use std::{fmt::Write, sync::LazyLock};

use super::buckets::{CLASSIC, Classic, Exponents};

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

/// A family whose samples come from rows of one kind.
pub(super) struct Family<R: 'static> {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) help: &'static str,
    /// Appends the samples of a row.
    pub(super) write: fn(&str, &R, &mut String),
}

impl<R> Family<R> {
    /// Appends the lines before the samples.
    pub(super) fn head(&self, out: &mut String) {
        head(out, self.name, self.kind, self.help);
    }
}

pub(super) fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
}

/// Appends a sample. `labels` are rendered pairs without braces; `more` is one more of them, or
/// empty.
pub(super) fn sample(
    out: &mut String,
    name: &str,
    labels: &str,
    more: &str,
    value: impl std::fmt::Display,
) {
    series(out, name, labels, more);
    // Writing to a string does not fail.
    let _ = writeln!(out, " {value}");
}

/// The same for whole numbers, of which there are most.
pub(super) fn count(out: &mut String, name: &str, labels: &str, more: &str, value: u64) {
    series(out, name, labels, more);
    out.push(' ');
    number(out, value);
}

/// Appends a name and its labels.
fn series(out: &mut String, name: &str, labels: &str, more: &str) {
    out.push_str(name);
    if labels.is_empty() && more.is_empty() {
        return;
    }
    out.push('{');
    out.push_str(labels);
    if !labels.is_empty() && !more.is_empty() {
        out.push(',');
    }
    out.push_str(more);
    out.push('}');
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
    let bounds = exponents.iter().map(|exponent| bound(*exponent)).chain([r#"le="+Inf"} "#]);
    for (bound, count) in bounds.zip(histogram.cumulative) {
        out.push_str(name);
        out.push_str("_bucket{");
        out.push_str(labels);
        if !labels.is_empty() {
            out.push(',');
        }
        out.push_str(bound);
        number(out, count);
    }
    out.push_str(name);
    sample(out, "_sum", labels, "", histogram.sum_seconds);
    out.push_str(name);
    count(out, "_count", labels, "", histogram.cumulative[CLASSIC - 1]);
}

/// Renders labels: pairs parted by commas, values escaped.
pub(super) fn labels(pairs: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(pairs.iter().map(|(k, v)| k.len() + v.len() + 4).sum());
    for (index, (name, value)) in pairs.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        out.push_str(name);
        out.push_str("=\"");
        escape(&mut out, value);
        out.push('"');
    }
    out
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
        sample(&mut out, "a", "", "", 1);
        sample(&mut out, "a", &labels(&[("x", "1\"\\\n")]), "", 2.5);
        sample(&mut out, "a", "x=\"1\"", "y=\"2\"", 3);
        sample(&mut out, "a", "", "y=\"2\"", 4);
        let expected = "a 1\na{x=\"1\\\"\\\\\\n\"} 2.5\na{x=\"1\",y=\"2\"} 3\na{y=\"2\"} 4\n";
        assert_eq!(out, expected);
    }
}
