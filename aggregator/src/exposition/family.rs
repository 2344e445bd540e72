//! The text format: a family of series is its name, kind and help, then its samples.

use std::fmt::Write;

use super::buckets::{CLASSIC, Classic, Exponents};

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
    // Writing to a string does not fail.
    let _ = match (labels.is_empty(), more.is_empty()) {
        (true, true) => writeln!(out, "{name} {value}"),
        (false, false) => writeln!(out, "{name}{{{labels},{more}}} {value}"),
        _ => writeln!(out, "{name}{{{labels}{more}}} {value}"),
    };
}

/// Appends the samples of a classic histogram.
pub(super) fn histogram(
    out: &mut String,
    name: &str,
    labels: &str,
    histogram: &Classic,
    exponents: &Exponents,
) {
    let comma = if labels.is_empty() { "" } else { "," };
    for (exponent, count) in exponents.iter().zip(histogram.cumulative) {
        let bound = f64::exp2(f64::from(*exponent));
        let _ = writeln!(out, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {count}");
    }
    let count = histogram.cumulative[CLASSIC - 1];
    let _ = writeln!(out, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {count}");
    for (suffix, value) in [("_sum", histogram.sum_seconds), ("_count", count as f64)] {
        let _ = match labels {
            "" => writeln!(out, "{name}{suffix} {value}"),
            labels => writeln!(out, "{name}{suffix}{{{labels}}} {value}"),
        };
    }
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
        for character in value.chars() {
            match character {
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                '\n' => out.push_str("\\n"),
                _ => out.push(character),
            }
        }
        out.push('"');
    }
    out
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
