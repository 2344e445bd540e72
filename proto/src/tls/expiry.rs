//! Saying well ahead that something expires.

const DAY_S: i64 = 24 * 3600;
/// From here on it is said once a day.
const AHEAD_S: i64 = 14 * DAY_S;
/// From here on it is an error.
const URGENT_S: i64 = 2 * DAY_S;

/// How soon something expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Within 14 days.
    Soon,
    /// Within 2 days, or already.
    Urgent,
}

/// Remembers when it was last said that something expires. All times are seconds since the
/// epoch.
#[derive(Debug, Default)]
pub struct ExpiryNotice {
    said: Option<(i64, Urgency, i64)>,
}

impl ExpiryNotice {
    /// How urgent it is, if it is time to say so: once a day, and at once when it has become
    /// urgent or is about another end than before.
    pub fn due(&mut self, expires_unix_s: i64, now_unix_s: i64) -> Option<Urgency> {
        let left = expires_unix_s.saturating_sub(now_unix_s);
        let urgency = match left {
            left if left < URGENT_S => Urgency::Urgent,
            left if left < AHEAD_S => Urgency::Soon,
            _ => return None,
        };
        if let Some((said, as_what, of)) = self.said
            && (as_what, of) == (urgency, expires_unix_s)
            && (0..DAY_S).contains(&now_unix_s.saturating_sub(said))
        {
            return None;
        }
        self.said = Some((now_unix_s, urgency, expires_unix_s));
        Some(urgency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_once_a_day_and_louder_at_the_end() {
        let mut notice = ExpiryNotice::default();
        let end = 100 * DAY_S;
        assert_eq!(notice.due(end, 0), None);
        assert_eq!(notice.due(end, end - 14 * DAY_S + 1), Some(Urgency::Soon));
        assert_eq!(notice.due(end, end - 14 * DAY_S + 2), None);
        assert_eq!(notice.due(end, end - 13 * DAY_S + 2), Some(Urgency::Soon));
        assert_eq!(notice.due(end, end - 2 * DAY_S + 1), Some(Urgency::Urgent));
        assert_eq!(notice.due(end, end + 1), Some(Urgency::Urgent), "it is over");
        assert_eq!(notice.due(end, end + 2), None);
        // A new one that is as short-lived is worth another line.
        assert_eq!(notice.due(end + 5, end + 3), Some(Urgency::Urgent));
        assert_eq!(notice.due(end + 90 * DAY_S, end + 4), None);
    }
}
