//! Windows of time in a query string.

use std::time::Duration;

use serde::Deserialize;
use topology::{Timestamp, Window};
use utoipa::IntoParams;

use super::problem::Problem;

/// What is shown unless asked otherwise.
const DEFAULT_SPAN: Duration = Duration::from_secs(300);

/// A window that ends so close to now ends now.
const NOW: Duration = Duration::from_secs(2);

/// How long a step of the graph is: what is told of a window is of whole steps.
const STEP: Duration = Duration::from_secs(10);

/// From when to when. What is not known is ignored: Grafana's plugins add their own.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct WindowQuery {
    /// RFC 3339, milliseconds since 1970, `now`, or a span before now; five minutes before `to` unless said.
    #[param(example = "-5m")]
    from: Option<String>,
    /// As `from`; now unless said.
    #[param(example = "now")]
    to: Option<String>,
}

impl WindowQuery {
    /// The window: the last five minutes unless asked otherwise.
    pub(super) fn window(&self, now: Timestamp) -> Result<Window, Problem> {
        let to = self.to(now)?.unwrap_or(now);
        window(("from", &self.from), to, DEFAULT_SPAN, now)
    }

    /// The same for everybody who asks for as long a window up to now: pages say when it begins and ends, to the
    /// millisecond, and mean the last five minutes. Only where it is of the same steps.
    pub(super) fn up_to_now(self, now: Timestamp) -> Self {
        let moment = |text: &Option<String>| {
            let text = text.as_deref().filter(|text| !is_relative(text))?;
            moment(text, now)
        };
        let (Some(from), Some(to)) = (moment(&self.from), moment(&self.to)) else { return self };
        let away = to.since(now).max(now.since(to));
        if away > NOW || to.floor(STEP) < now.floor(STEP) || from >= to {
            return self;
        }
        let seconds = to.since(from).as_secs_f64().round().max(1.0) as u64;
        if from.floor(STEP) != now.minus(Duration::from_secs(seconds)).floor(STEP) {
            return self;
        }
        Self { from: Some(format!("-{seconds}s")), to: None }
    }

    /// Whether it ends now, and so is another one every moment.
    pub(super) fn reaches(&self, now: Timestamp) -> bool {
        self.to(now).is_ok_and(|to| to.is_none_or(|to| to >= now))
    }

    fn to(&self, now: Timestamp) -> Result<Option<Timestamp>, Problem> {
        read("to", &self.to, now)
    }
}

/// The window with this end, which begins where `from` says, or so long before.
pub(super) fn window(
    (name, from): (&str, &Option<String>),
    to: Timestamp,
    span: Duration,
    now: Timestamp,
) -> Result<Window, Problem> {
    let to = to.min(now);
    let from = read(name, from, now)?.unwrap_or(to.minus(span));
    if from < to {
        return Ok(Window { from, to });
    }
    Err(Problem::bad_request(format!(
        "{name} is not before the end of its window, or not before now"
    )))
}

/// A moment: RFC 3339, milliseconds since the epoch (Grafana's `${__from}`), `now`, or a span before now like `-5m`.
pub(super) fn read(
    name: &str,
    text: &Option<String>,
    now: Timestamp,
) -> Result<Option<Timestamp>, Problem> {
    let Some(text) = text else { return Ok(None) };
    moment(text, now).map(Some).ok_or_else(|| {
        Problem::bad_request(format!(
            "{name}: {text:?} is not a time; write 2026-01-31T12:00:00Z, -5m or now"
        ))
    })
}

/// Whether a text tells of a moment by how far it is from now.
fn is_relative(text: &str) -> bool {
    text.starts_with("now") || text.starts_with('-')
}

fn moment(text: &str, now: Timestamp) -> Option<Timestamp> {
    if let Some(span) = text.strip_prefix("now").unwrap_or(text).strip_prefix('-') {
        return Some(now.minus(parse_span(span)?));
    }
    if text == "now" {
        return Some(now);
    }
    if text.len() <= 15 && !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Timestamp::from_unix_ns(text.parse::<u64>().ok()?.checked_mul(1_000_000)?));
    }
    // The `+` of an offset reads as a space where it was not escaped.
    let moment: jiff::Timestamp = text.replace(' ', "+").parse().ok()?;
    u64::try_from(moment.as_nanosecond()).ok().map(Timestamp::from_unix_ns)
}

fn parse_span(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(digits)?;
    let unit_s: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        "w" => 7 * 24 * 3600,
        _ => return None,
    };
    Some(Duration::from_secs(number.parse::<u64>().ok()?.checked_mul(unit_s)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW_S: u64 = 1_800_000_000;

    fn now() -> Timestamp {
        Timestamp::from_unix_ns(NOW_S * 1_000_000_000)
    }

    fn of(pairs: &[(&str, &str)]) -> Result<(u64, u64), Problem> {
        let get = |name| pairs.iter().find(|pair| pair.0 == name).map(|pair| pair.1.to_owned());
        let window = WindowQuery { from: get("from"), to: get("to") }.window(now())?;
        Ok((window.from.unix_ns() / 1_000_000_000, window.to.unix_ns() / 1_000_000_000))
    }

    #[test]
    fn times_are_read_in_every_spelling() {
        assert_eq!(of(&[]).unwrap(), (NOW_S - 300, NOW_S));
        assert_eq!(of(&[("from", "-1h")]).unwrap(), (NOW_S - 3600, NOW_S));
        assert_eq!(of(&[("from", "now-2d"), ("to", "now")]).unwrap(), (NOW_S - 172_800, NOW_S));
        assert_eq!(of(&[("from", "-2h"), ("to", "-1h")]).unwrap(), (NOW_S - 7200, NOW_S - 3600));
        assert_eq!(of(&[("to", "-1h")]).unwrap(), (NOW_S - 3900, NOW_S - 3600));
        for from in
            ["2027-01-15T07:00:00Z", "2027-01-15T08:00:00+01:00", "2027-01-15T08:00:00 01:00"]
        {
            assert_eq!(of(&[("from", from)]).unwrap(), (NOW_S - 3600, NOW_S), "{from}");
        }
        assert_eq!(of(&[("from", "1799996400000")]).unwrap(), (NOW_S - 3600, NOW_S));
        // What is to come is cut off.
        assert_eq!(of(&[("to", "2099-01-01T00:00:00Z")]).unwrap(), (NOW_S - 300, NOW_S));
    }

    #[test]
    fn pages_that_say_when_the_last_minutes_begin_and_end_ask_for_the_same() {
        let of = |from: &str, to: &str| {
            let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            WindowQuery { from: text(from), to: text(to) }
        };
        let ms = |s: u64, ms: u64| (s * 1000 + ms).to_string();
        // A step begins now; five seconds later, one has not ended for long.
        let (begin, later) = (now(), Timestamp::from_unix_ns((NOW_S + 5) * 1_000_000_000));
        let same = of("-300s", "");
        for (from, to, now) in [
            (ms(NOW_S - 300, 0), ms(NOW_S, 0), begin),
            (ms(NOW_S - 299, 1), ms(NOW_S + 1, 0), begin),
            ("2027-01-15T07:55:00Z".to_owned(), "2027-01-15T08:00:00Z".to_owned(), begin),
            (ms(NOW_S - 297, 400), ms(NOW_S + 3, 400), later),
            (ms(NOW_S - 295, 600), ms(NOW_S + 5, 700), later),
        ] {
            assert_eq!(of(&from, &to).up_to_now(now), same, "{from} {to}");
            assert!(same.reaches(now));
        }
        for (from, to, now) in [
            (ms(NOW_S - 295, 0), ms(NOW_S + 2, 0), later),
            (ms(NOW_S - 300, 0), String::new(), begin),
            ("-5m".to_owned(), "now".to_owned(), begin),
            ("-5m".to_owned(), ms(NOW_S, 0), begin),
            ("x".to_owned(), ms(NOW_S, 0), begin),
            (ms(NOW_S, 0), ms(NOW_S, 0), begin),
            // Of another first step, and of another last one.
            (ms(NOW_S - 301, 400), ms(NOW_S - 1, 400), begin),
            (ms(NOW_S - 300, 0), ms(NOW_S - 1, 0), begin),
            (ms(NOW_S - 291, 0), ms(NOW_S + 4, 0), later),
        ] {
            let asked = of(&from, &to);
            assert_eq!(asked.clone().up_to_now(now), asked, "{from} {to}");
        }
        for (to, reaches) in [("now", true), ("-1s", false), ("x", false), (&ms(NOW_S, 1), true)] {
            assert_eq!(of("", to).reaches(begin), reaches, "{to}");
        }
        assert!(!of("", &ms(NOW_S - 1, 0)).reaches(begin));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for (name, text) in [
            ("from", ""),
            ("from", "-"),
            ("from", "-5"),
            ("from", "-5x"),
            ("from", "5m"),
            ("from", "-99999999999999999999w"),
            ("from", "-9999999999999999999w"),
            ("from", "yesterday"),
            ("from", "2026-13-01T00:00:00Z"),
            ("from", "1969-01-01T00:00:00Z"),
            ("from", "now"),
            ("to", "-é"),
            ("from", "2099-01-01T00:00:00Z"),
        ] {
            assert!(of(&[(name, text)]).is_err(), "{name}={text}");
        }
        assert!(of(&[("from", "-1h"), ("to", "-2h")]).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_a_window_or_an_error(from: String, to in "\\PC{0,12}|-[0-9]{1,22}[smhdw]") {
            if let Ok((from, to)) = of(&[("from", &from), ("to", &to)]) {
                prop_assert!(from <= to && to <= NOW_S);
            }
        }
    }
}
