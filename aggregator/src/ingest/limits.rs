//! What a stream may bring, and who is told when one brings more.
//!
//! A stream that is too fast is not read for a while: what it has sent waits in the connection, and then in its
//! agent. Nothing is dropped. What its node has no room for is counted for `other`.

use std::time::{Duration, Instant};

/// Batches a second that a stream may bring.
const BATCHES_PER_SECOND: u32 = 1_000;

/// So much may come at once as would come in this time.
const BURST: Duration = Duration::from_secs(4);

/// A new incident begins when the last one was over for this long.
const INCIDENT: Duration = Duration::from_secs(300);

/// The limits of one stream.
pub(super) struct Limits {
    bytes_per_second: u64,
    /// When all that came so far would have come at the full rate, by bytes and by batches.
    due: [Instant; 2],
    /// The stream is not to be read before.
    pub(super) resume: Instant,
    pub(super) too_fast: Incident,
    pub(super) no_room: Incident,
}

impl Limits {
    pub(super) const fn new(bytes_per_second: u64, now: Instant) -> Self {
        let (too_fast, no_room) = (Incident(None), Incident(None));
        Self { bytes_per_second, due: [now; 2], resume: now, too_fast, no_room }
    }

    /// A batch came. Returns how long the stream is not to be read, if that is so.
    pub(super) fn spend(&mut self, bytes: usize, now: Instant) -> Option<Duration> {
        let bytes = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        let batch = Duration::from_secs(1) / BATCHES_PER_SECOND;
        for (due, cost) in self.due.iter_mut().zip([bytes, batch]) {
            *due = (*due).max(now) + cost;
        }
        let latest = self.due.into_iter().max()?;
        let wait = latest.saturating_duration_since(now + BURST);
        self.resume = now + wait;
        (!wait.is_zero()).then_some(wait)
    }
}

/// Something that is worth a line when it begins, not each time it happens.
pub(super) struct Incident(Option<Instant>);

impl Incident {
    /// It happens; whether that is news.
    pub(super) fn is_news(&mut self, now: Instant) -> bool {
        let before = self.0.replace(now);
        before.is_none_or(|before| now.duration_since(before) >= INCIDENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_brings_more_than_allowed_waits_as_long_as_it_takes() {
        let begin = Instant::now();
        let mut limits = Limits::new(1_000, begin);
        assert_eq!(limits.spend(4_000, begin), None);
        assert_eq!(limits.spend(500, begin), Some(Duration::from_millis(500)));
        let later = begin + Duration::from_millis(500);
        assert_eq!(limits.spend(1_000, later), Some(Duration::from_secs(1)));
        let much_later = begin + Duration::from_secs(60);
        assert_eq!(limits.spend(4_000, much_later), None);
    }

    #[test]
    fn many_small_batches_wait_too() {
        let begin = Instant::now();
        let mut limits = Limits::new(u64::MAX, begin);
        let waits: Vec<_> = (0..4_001).map(|_| limits.spend(1, begin)).collect();
        assert!(waits[..4_000].iter().all(Option::is_none));
        assert_eq!(waits[4_000], Some(Duration::from_millis(1)));
    }

    #[test]
    fn an_incident_is_told_once() {
        let begin = Instant::now();
        let mut incident = Incident(None);
        let at = |seconds| begin + Duration::from_secs(seconds);
        let news = [0, 10, 200, 480, 900].map(|seconds| incident.is_news(at(seconds)));
        assert_eq!(news, [true, false, false, false, true]);
    }
}
