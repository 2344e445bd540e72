//! Moments as RFC 3339 text.

use jiff::fmt::temporal::DateTimePrinter;
use topology::Timestamp;

/// A moment in UTC, with as many decimals as it needs.
pub(super) fn rfc3339(moment: Timestamp) -> String {
    let moment = jiff::Timestamp::from_nanosecond(i128::from(moment.unix_ns()));
    DateTimePrinter::new().timestamp_to_string(&moment.unwrap_or(jiff::Timestamp::MAX))
}

/// A moment in seconds since the epoch, if the calendar reaches that far.
pub(super) fn rfc3339_seconds(unix_s: i64) -> Option<String> {
    let moment = jiff::Timestamp::from_second(unix_s).ok()?;
    Some(DateTimePrinter::new().timestamp_to_string(&moment))
}
