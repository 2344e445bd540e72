//! Until when a node has told what happened on it, and of which stretches it did not, or not in detail.

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};

use crate::base::time::{Timestamp, Window};

/// Holes that are remembered of one node; the oldest go first.
const MOST: usize = 128;

/// What a batch may be late within one interval, and an estimate be wrong.
const SLACK: Duration = Duration::from_secs(1);

/// An agent that has not told anything for this long when its stream ends had nothing to tell.
const IDLE: Duration = Duration::from_secs(120);

/// Why something is not known of a stretch of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum HoleReason {
    /// The node has not told anything of it, or not yet.
    Silent,
    /// The node has told it as one: what it counted lies at the end of the stretch.
    Folded,
}

impl HoleReason {
    /// Its name in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            HoleReason::Silent => "silent",
            HoleReason::Folded => "folded",
        }
    }
}

/// A stretch of time of which something is not known of a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hole {
    /// From when on.
    pub from: Timestamp,
    /// Until when.
    pub to: Timestamp,
    /// Why.
    pub reason: HoleReason,
    /// The node's name.
    pub node: String,
}

/// Which stretch of time a batch tells of, until its [moment](crate::Graph::moment).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stretch {
    /// From where the batch before ended.
    Next,
    /// The same, and other batches that the agent has let go are in it.
    Folded,
    /// The same, by a preface: of one batch that the agent has let go or, where it takes longer than the agent waits between
    /// two, of what was counted while no agent ran.
    Alone {
        /// The agent's interval.
        interval: Duration,
    },
    /// From when the agent started, with this interval between batches: it is the first of its session.
    First {
        /// The agent's interval.
        interval: Duration,
    },
}

/// Until when a node has told what happened on it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Told {
    until: Option<Timestamp>,
    /// In which of the node's lives it told that.
    epoch: u32,
    /// The stream has not told yet what happened before it began.
    behind: bool,
    /// The last batch came late: others may wait behind it.
    late: bool,
    /// In order of time.
    holes: VecDeque<(Timestamp, Timestamp, HoleReason)>,
    forgotten: u64,
}

impl Told {
    /// Until when.
    pub(crate) const fn until(&self) -> Option<Timestamp> {
        self.until
    }

    /// A stream begins.
    pub(crate) const fn begins(&mut self) {
        self.behind = true;
    }

    /// The stream has ended.
    pub(crate) fn ends(&mut self, now: Timestamp) {
        if !self.behind && self.until.is_some_and(|until| now.since(until) >= IDLE) {
            self.until = Some(now);
        }
    }

    /// A batch told what happened up to a moment.
    pub(crate) fn tells(
        &mut self,
        moment: Timestamp,
        stretch: Stretch,
        epoch: u32,
        now: Timestamp,
    ) {
        let until = self.until.unwrap_or(moment);
        match stretch {
            Stretch::Next => {}
            Stretch::Folded => self.hole(until, moment, HoleReason::Folded),
            Stretch::Alone { interval } if moment.since(until) <= interval.saturating_mul(2) => {}
            Stretch::Alone { .. } => self.hole(until, moment, HoleReason::Folded),
            // Kernel programs that outlive the agent go on counting.
            Stretch::First { .. } if epoch == self.epoch => {
                self.hole(until, moment, HoleReason::Folded);
            }
            Stretch::First { interval } => {
                self.hole(until, moment.minus(interval), HoleReason::Silent);
            }
        }
        self.until = Some(until.max(moment));
        self.epoch = epoch;
        self.late = now.since(moment) >= SLACK.saturating_mul(2);
        self.behind &= self.late;
    }

    /// Whether there is more to come of what has happened already.
    pub(crate) const fn lags(&self) -> bool {
        self.until.is_some() && (self.behind || self.late)
    }

    fn hole(&mut self, from: Timestamp, to: Timestamp, reason: HoleReason) {
        if to.since(from) <= SLACK {
            return;
        }
        if let Some((_, end, last)) = self.holes.back_mut()
            && *last == reason
            && from.since(*end) <= SLACK
        {
            *end = to;
            return;
        }
        if self.holes.len() == MOST {
            self.holes.pop_front();
            self.forgotten += 1;
        }
        self.holes.push_back((from, to, reason));
    }

    /// What is not known of a window, as of now. Also returns whether all that is not is among it.
    pub(crate) fn holes(
        &self,
        window: Window,
        connected: bool,
        now: Timestamp,
    ) -> (impl Iterator<Item = (Timestamp, Timestamp, HoleReason)>, u64) {
        let silent = self.until.filter(|_| self.behind || !connected);
        let silent = silent.map(|until| (until, now, HoleReason::Silent));
        let lies_in = move |(from, to, _): &(Timestamp, Timestamp, HoleReason)| {
            *from < window.to && *to > window.from
        };
        let oldest = self.holes.front().map(|hole| hole.0);
        let forgotten =
            oldest.map_or(0, |oldest| if window.from < oldest { self.forgotten } else { 0 });
        (self.holes.iter().copied().chain(silent).filter(lies_in), forgotten)
    }

    /// The clock was ahead and has been set back.
    pub(crate) fn set_back(&mut self, now: Timestamp) {
        self.until = self.until.map(|until| until.min(now));
        self.holes.retain(|(_, to, _)| *to <= now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Timestamp {
        Timestamp::from_unix_ns(s * 1_000_000_000)
    }

    fn holes(told: &Told, connected: bool, now: u64) -> Vec<(u64, u64, HoleReason)> {
        let seconds = |moment: Timestamp| moment.unix_ns() / 1_000_000_000;
        let all = Window { from: at(0), to: at(now) };
        let (holes, _) = told.holes(all, connected, at(now));
        holes.map(|(from, to, reason)| (seconds(from), seconds(to), reason)).collect()
    }

    /// Told up to 100 s, and connected.
    fn told() -> Told {
        let mut told = Told::default();
        told.begins();
        told.tells(at(100), Stretch::First { interval: Duration::from_secs(10) }, 0, at(100));
        assert_eq!(holes(&told, true, 200), []);
        told
    }

    #[test]
    fn silence_is_a_hole_until_it_is_told() {
        let mut told = told();
        assert_eq!(holes(&told, false, 200), [(100, 200, HoleReason::Silent)]);
        told.begins();
        assert_eq!(holes(&told, true, 200), [(100, 200, HoleReason::Silent)]);
        told.tells(at(150), Stretch::Next, 0, at(201));
        assert_eq!(holes(&told, true, 201), [(150, 201, HoleReason::Silent)]);
        told.tells(at(201), Stretch::Next, 0, at(201));
        assert_eq!(holes(&told, true, 300), []);
    }

    #[test]
    fn what_was_folded_stays_a_hole() {
        let mut told = told();
        told.begins();
        told.tells(at(150), Stretch::Folded, 0, at(201));
        told.tells(at(160), Stretch::Folded, 0, at(201));
        told.tells(at(201), Stretch::Next, 0, at(201));
        assert_eq!(holes(&told, true, 202), [(100, 160, HoleReason::Folded)]);
    }

    #[test]
    fn an_agent_that_starts_anew_has_not_counted_before() {
        let mut told = told();
        let first = Stretch::First { interval: Duration::from_secs(10) };
        told.begins();
        told.tells(at(150), first, 1, at(150));
        assert_eq!(holes(&told, true, 160), [(100, 140, HoleReason::Silent)]);
        // Unless its programs went on.
        told.begins();
        told.tells(at(200), first, 1, at(200));
        assert_eq!(holes(&told, true, 201)[1], (150, 200, HoleReason::Folded));
    }

    #[test]
    fn what_was_counted_while_no_agent_ran_is_told_as_one() {
        let alone = Stretch::Alone { interval: Duration::from_secs(10) };
        let mut told = told();
        told.begins();
        told.tells(at(119), alone, 0, at(119));
        assert_eq!(holes(&told, true, 120), [], "no longer than it may take anyway");
        told.ends(at(150));
        told.begins();
        told.tells(at(200), alone, 0, at(200));
        assert_eq!(holes(&told, true, 201), [(119, 200, HoleReason::Folded)]);
    }

    #[test]
    fn who_had_nothing_to_tell_was_not_silent() {
        let mut told = told();
        told.ends(at(500));
        assert_eq!(holes(&told, false, 510), [(500, 510, HoleReason::Silent)]);
    }

    #[test]
    fn there_are_never_too_many() {
        let mut told = told();
        for n in 1..=200 {
            told.tells(at(100 + 20 * n), Stretch::Folded, 0, at(9_999));
            told.tells(at(110 + 20 * n), Stretch::Next, 0, at(9_999));
        }
        let (kept, forgotten) = told.holes(Window { from: at(0), to: at(9_999) }, true, at(9_999));
        // The one at the end is that it has not caught up.
        assert_eq!((kept.count(), forgotten), (MOST + usize::from(told.behind), 72));
    }
}
