//! When to look before the interval is over.

use std::time::Duration;

use tokio::time::Instant;

/// At most one early look in this time.
const EVERY: Duration = Duration::from_millis(20);

/// Slots named by hints between two looks; beyond, all are looked at.
const MOST_SLOTS: usize = 1_024;

/// What hints asked for.
#[derive(Debug, Default)]
pub(super) struct Early {
    due: Option<Instant>,
    looked: Option<Instant>,
    slots: Vec<u32>,
    all: bool,
    listeners: bool,
}

/// What to look at.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// These slots; `None` for all.
    pub(super) slots: Option<Vec<u32>>,
    /// The listeners, too.
    pub(super) listeners: bool,
}

impl Early {
    /// Look at this slot.
    pub(super) fn slot(&mut self, slot: u32, now: Instant) {
        if self.slots.len() < MOST_SLOTS {
            self.slots.push(slot);
        } else {
            self.all = true;
        }
        self.arm(now);
    }

    /// Look at the listeners.
    pub(super) fn listeners(&mut self, now: Instant) {
        self.listeners = true;
        self.arm(now);
    }

    /// Look whether there is something to send.
    pub(super) fn arm(&mut self, now: Instant) {
        let soonest = self.looked.map_or(now, |looked| (looked + EVERY).max(now));
        self.due.get_or_insert(soonest);
    }

    /// When to look next, if at all.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// It is looked now: at what?
    pub(super) fn take(&mut self, now: Instant) -> Look {
        self.due = None;
        self.looked = Some(now);
        let mut slots = std::mem::take(&mut self.slots);
        slots.sort_unstable();
        slots.dedup();
        let slots = if std::mem::take(&mut self.all) { None } else { Some(slots) };
        Look { slots, listeners: std::mem::take(&mut self.listeners) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_hint_is_followed_at_once_and_the_next_after_a_while() {
        let (mut early, start) = (Early::default(), Instant::now());
        early.slot(7, start);
        assert_eq!(early.due(), Some(start));
        assert_eq!(early.take(start), Look { slots: Some(vec![7]), listeners: false });
        assert_eq!(early.due(), None);
        early.slot(8, start + EVERY / 4);
        early.slot(8, start + EVERY / 2);
        early.listeners(start + EVERY / 2);
        assert_eq!(early.due(), Some(start + EVERY));
        let look = early.take(start + EVERY);
        assert_eq!(look, Look { slots: Some(vec![8]), listeners: true });
    }

    #[test]
    fn too_many_hints_are_a_look_at_everything() {
        let (mut early, now) = (Early::default(), Instant::now());
        for slot in 0..=MOST_SLOTS as u32 {
            early.slot(slot, now);
        }
        assert_eq!(early.take(now).slots, None);
        early.slot(1, now);
        assert_eq!(early.take(now).slots, Some(vec![1]));
    }
}
