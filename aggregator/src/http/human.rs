//! Numbers as people read them.

use std::time::Duration;

/// Bytes over a span, as `1.2 MB/s`.
pub(super) fn bytes_per_second(bytes: u64, span: Duration) -> String {
    scaled(rate(bytes, span), &["B/s", "kB/s", "MB/s", "GB/s", "TB/s"])
}

/// Events over a span, as `12 conn/s`.
pub(super) fn per_second(count: u64, unit: &str, span: Duration) -> String {
    let rate = rate(count, span);
    format!("{} {unit}/s", digits(rate))
}

/// A time, as `420 µs`.
pub(super) fn seconds(seconds: f64) -> String {
    for (unit, name) in [(1e-6, "µs"), (1e-3, "ms")] {
        if seconds < unit * 999.5 {
            return format!("{} {name}", digits(seconds / unit));
        }
    }
    format!("{} s", digits(seconds))
}

fn rate(count: u64, span: Duration) -> f64 {
    let span = span.as_secs_f64();
    if span > 0.0 { count as f64 / span } else { 0.0 }
}

fn scaled(mut value: f64, units: &[&str]) -> String {
    let mut units = units.iter().peekable();
    while let Some(unit) = units.next() {
        if value < 999.5 || units.peek().is_none() {
            return format!("{} {unit}", digits(value));
        }
        value /= 1000.0;
    }
    String::new()
}

/// Three digits at most, as far as there are that many to tell.
fn digits(value: f64) -> String {
    let decimals = match value {
        value if value == 0.0 || value >= 99.95 => 0,
        value if value >= 9.995 => 1,
        _ => 2,
    };
    let text = format!("{value:.decimals$}");
    if decimals == 0 {
        return text;
    }
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_people_want() {
        let second = Duration::from_secs(1);
        for (bytes, text) in [
            (0, "0 B/s"),
            (7, "7 B/s"),
            (999, "999 B/s"),
            (1000, "1 kB/s"),
            (1234, "1.23 kB/s"),
            (999_600, "1 MB/s"),
            (123_456_789, "123 MB/s"),
            (u64::MAX, "18446744 TB/s"),
        ] {
            assert_eq!(bytes_per_second(bytes, second), text);
        }
        assert_eq!(per_second(25, "conn", Duration::from_secs(10)), "2.5 conn/s");
        assert_eq!(per_second(25, "conn", Duration::ZERO), "0 conn/s");
        for (time, text) in
            [(0.000_42, "420 µs"), (0.001_2, "1.2 ms"), (1.0, "1 s"), (90.0, "90 s")]
        {
            assert_eq!(seconds(time), text);
        }
    }
}
