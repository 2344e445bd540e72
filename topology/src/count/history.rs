//! Steps: what each edge gained in each stretch of time.

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    edges::{Edge, Edges},
    packed::{Entry, Packer, Unpacker},
};
use crate::base::time::{Timestamp, Window};

/// What was lost, by what it does to the numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Events.
    pub events: u64,
    /// Batches.
    pub batches: u64,
    /// Inserts that a full table refused.
    pub inserts: u64,
    /// What was counted together with others for lack of room.
    pub folded: u64,
}

impl Lost {
    /// Adds what was lost elsewhere.
    pub fn merge(&mut self, other: Lost) {
        self.events = self.events.saturating_add(other.events);
        self.batches = self.batches.saturating_add(other.batches);
        self.inserts = self.inserts.saturating_add(other.inserts);
        self.folded = self.folded.saturating_add(other.folded);
    }
}

struct Step {
    window: Window,
    edges: Box<[u8]>,
    lost: Lost,
}

/// A window that begins and ends with steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Snapped {
    pub(crate) window: Window,
    /// It has the running step, too, as it is now.
    pub(crate) running: bool,
}

/// Steps that may be dropped while somebody looks.
const LEAVING: usize = 3;

/// The steps that are kept, and the running one.
pub(crate) struct History {
    step: Duration,
    kept: usize,
    steps: VecDeque<Step>,
    running: Option<Running>,
}

/// The step that is not over yet; what edges gain in it is with them.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Running {
    from: Timestamp,
    lost: Lost,
}

impl History {
    pub(crate) const fn new(step: Duration, kept: usize) -> Self {
        History { step, kept, steps: VecDeque::new(), running: None }
    }

    /// The first moment that anything is known of.
    pub(crate) fn begin(&mut self, now: Timestamp) {
        self.running.get_or_insert(Running { from: now, lost: Lost::default() });
    }

    /// The running step.
    pub(crate) const fn running(&self) -> Option<Running> {
        self.running
    }

    /// Goes on with a running step that was stored.
    pub(crate) const fn resume(&mut self, running: Option<Running>) {
        self.running = running;
    }

    /// The clock was ahead and has been set back: no step began later than now.
    pub(crate) fn set_back(&mut self, now: Timestamp) {
        self.steps.retain(|step| step.window.to <= now);
        if let Some(running) = &mut self.running {
            running.from = running.from.min(now);
        }
    }

    /// The begin of the first step that is kept.
    pub(crate) fn from(&self) -> Option<Timestamp> {
        let first = self.steps.front().map(|step| step.window.from);
        first.or_else(|| self.running.as_ref().map(|running| running.from))
    }

    /// How far back steps may go.
    pub(crate) fn reach(&self) -> Duration {
        self.step.saturating_mul(u32::try_from(self.kept).unwrap_or(u32::MAX).saturating_add(1))
    }

    pub(crate) fn lose(&mut self, lost: Lost) {
        if let Some(running) = &mut self.running {
            running.lost.merge(lost);
        }
    }

    /// Whether the running step is over.
    pub(crate) fn is_over(&self, now: Timestamp) -> bool {
        self.running.is_some_and(|running| running.from < now.floor(self.step))
    }

    /// Ends the running step if it is over; returns it then, with its edges handed to `hand_over`.
    pub(crate) fn advance(
        &mut self,
        now: Timestamp,
        edges: &mut Edges,
        mut hand_over: impl FnMut(&mut Edge),
    ) -> Option<(Window, Lost)> {
        let begin = now.floor(self.step);
        let running = self.running.as_mut().filter(|running| running.from < begin)?;
        let window =
            Window { from: running.from, to: running.from.floor(self.step).plus(self.step) };
        let lost = std::mem::take(&mut running.lost);
        running.from = begin;
        let mut packer = Packer::default();
        edges.end_step(now, |index, edge| {
            if edge.open > 0 || !edge.running.is_zero() {
                packer.put(index, &edge.running, edge.seen, edge.open);
                hand_over(edge);
            }
        });
        self.steps.push_back(Step { window, edges: packer.finish(), lost });
        while self.steps.len() > self.kept || self.too_old(now) {
            self.steps.pop_front();
        }
        Some((window, lost))
    }

    /// From when on windows can be told from memory, for some steps to come.
    pub(crate) fn remembered_from(&self) -> Option<Timestamp> {
        let leaving = (self.steps.len() + LEAVING).saturating_sub(self.kept);
        let lasting = self.steps.get(leaving).map(|step| step.window.from);
        lasting.or_else(|| self.running.as_ref().map(|running| running.from))
    }

    fn too_old(&self, now: Timestamp) -> bool {
        let oldest = now.minus(self.reach());
        self.steps.front().is_some_and(|step| step.window.to < oldest)
    }

    /// Snaps a window outward to steps; one that reaches into the running step ends now.
    pub(crate) fn snap(&self, asked: Window, now: Timestamp) -> Snapped {
        let (Some(first), Some(running)) = (self.from(), &self.running) else {
            return Snapped { window: Window { from: now, to: now }, running: true };
        };
        let reaches = asked.to > running.from || asked.to >= now;
        let to = if reaches { now } else { asked.to.ceil(self.step).min(now) };
        let from = asked.from.floor(self.step).min(to);
        // Before the history begins there is nothing that could be in the window.
        let from = if from < first && first <= to { first } else { from };
        Snapped { window: Window { from, to }, running: reaches }
    }

    /// Goes through everything in a snapped window. `last` says whether an entry belongs to
    /// the window's last step, whose open connections are the window's.
    pub(crate) fn visit(
        &self,
        Snapped { window, running: reaches }: Snapped,
        edges: &Edges,
        mut visit: impl FnMut(&Entry, bool),
    ) -> Lost {
        let mut lost = Lost::default();
        let mut entry = Entry::default();
        for step in &self.steps {
            if step.window.to <= window.from || step.window.from >= window.to {
                continue;
            }
            lost.merge(step.lost);
            let last = step.window.to >= window.to;
            let mut unpacker = Unpacker::new(&step.edges);
            while unpacker.next(&mut entry).is_some() {
                visit(&entry, last);
            }
        }
        if let Some(running) = self.running.as_ref().filter(|_| reaches) {
            lost.merge(running.lost);
            for (index, edge) in edges.running() {
                entry.index = index;
                entry.totals.clone_from(&edge.running);
                entry.seen = edge.seen;
                entry.open = edge.open;
                visit(&entry, true);
            }
        }
        lost
    }
}
