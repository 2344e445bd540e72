//! Steps: what each edge gained in each stretch of time.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    edges::{Edge, EdgeIx, Edges, Seen},
    link::Row,
    packed::{Entry, Packer, Unpacker},
    parts::{Part, PartIx},
};
use crate::base::{
    time::{Timestamp, Window},
    totals::EdgeTotals,
};

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
    edges: Packed,
    /// Of edges, what is kept apart.
    parts: Packed,
    lost: Lost,
}

/// What edges had in a step that is over, shared with whoever reads it.
#[derive(Clone)]
pub(crate) struct Packed {
    /// No other contents have this number, in whatever graph of the process.
    pub(crate) number: u64,
    pub(crate) bytes: Arc<[u8]>,
}

impl Packed {
    fn new(bytes: Box<[u8]>) -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        Packed { number: NUMBERS.fetch_add(1, Ordering::Relaxed), bytes: bytes.into() }
    }
}

/// Steps that are over, as far as they are in a window.
#[derive(Default)]
pub(crate) struct Ended {
    /// Those before the last of the window.
    pub(crate) before: Vec<Packed>,
    /// The window's last, whose open connections are the window's.
    pub(crate) last: Vec<Packed>,
    /// What was lost in the window.
    pub(crate) lost: Lost,
}

/// What was packed, with more of it. Connections open at its end are left as they were known.
fn with<'a>(packed: &[u8], more: impl Iterator<Item = (usize, &'a EdgeTotals, Seen)>) -> Box<[u8]> {
    let mut packer = Packer::default();
    let mut unpacker = Unpacker::new(packed);
    let mut more = more.peekable();
    let mut entry = Entry::default();
    while unpacker.next(&mut entry).is_some() {
        while let Some((index, totals, seen)) = more.next_if(|(index, ..)| *index < entry.index) {
            packer.put(index, totals, seen, 0);
        }
        if let Some((_, totals, seen)) = more.next_if(|(index, ..)| *index == entry.index) {
            entry.totals.merge(totals);
            entry.seen.merge(seen);
        }
        packer.put(entry.index, &entry.totals, entry.seen, entry.open);
    }
    more.for_each(|(index, totals, seen)| packer.put(index, totals, seen, 0));
    packer.finish()
}

impl Step {
    /// Adds what came late.
    fn add(&mut self, gained: &Gained, parts: Option<&GainedParts>) {
        let edges = gained.iter().map(|(ix, (totals, seen))| (ix.index(), totals, *seen));
        self.edges = Packed::new(with(&self.edges.bytes, edges));
        if let Some(parts) = parts {
            let parts = parts.iter().map(|(ix, totals)| (ix.index(), totals, Seen::default()));
            self.parts = Packed::new(with(&self.parts.bytes, parts));
        }
    }
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

/// How long after its interval a batch may come and still belong to the running step, as a matter of course: some
/// always come right after a step began.
const ON_TIME: Duration = Duration::from_secs(2);

/// What edges gained in a step that is over.
pub(crate) type Gained = BTreeMap<EdgeIx, (EdgeTotals, Seen)>;

/// What parts of edges gained in it.
pub(crate) type GainedParts = BTreeMap<PartIx, EdgeTotals>;

/// The steps that are kept, and the running one.
pub(crate) struct History {
    step: Duration,
    kept: usize,
    steps: VecDeque<Step>,
    running: Option<Running>,
    /// What came late since the last tick, by the begin of its step.
    late: BTreeMap<Timestamp, Gained>,
    late_parts: BTreeMap<Timestamp, GainedParts>,
    /// How many times steps were given out.
    given: u64,
}

/// What of the history has to be stored: steps that are over are not.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Stored {
    running: Option<Running>,
    late: BTreeMap<Timestamp, Gained>,
    late_parts: BTreeMap<Timestamp, GainedParts>,
    given: u64,
}

/// The step that is not over yet; what edges gain in it is with them.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Running {
    from: Timestamp,
    lost: Lost,
    /// The first moment of all: nothing is placed before it.
    first: Timestamp,
}

impl History {
    pub(crate) const fn new(step: Duration, kept: usize) -> Self {
        History {
            step,
            kept,
            steps: VecDeque::new(),
            running: None,
            late: BTreeMap::new(),
            late_parts: BTreeMap::new(),
            given: 0,
        }
    }

    /// The first moment that anything is known of.
    pub(crate) fn begin(&mut self, now: Timestamp) {
        self.running.get_or_insert(Running { from: now, lost: Lost::default(), first: now });
    }

    /// What has to be stored.
    pub(crate) fn stored(&self) -> Stored {
        Stored {
            running: self.running,
            late: self.late.clone(),
            late_parts: self.late_parts.clone(),
            given: self.given,
        }
    }

    /// Goes on where it was stored.
    pub(crate) fn resume(&mut self, stored: Stored) {
        Stored {
            running: self.running,
            late: self.late,
            late_parts: self.late_parts,
            given: self.given,
        } = stored;
    }

    /// The next number under which steps are given out.
    pub(crate) const fn next_number(&mut self) -> u64 {
        self.given += 1;
        self.given
    }

    /// The last number under which steps were given out.
    pub(crate) const fn given(&self) -> u64 {
        self.given
    }

    /// The first moment of all.
    pub(crate) fn first(&self) -> Timestamp {
        self.running.map_or_else(Timestamp::default, |running| running.first)
    }

    /// The step, by its begin, that what happened up to a moment belongs to if it is told only now; `None` for the
    /// running one.
    pub(crate) fn step_of(&self, moment: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let step = moment.max(self.first()).floor(self.step);
        (now.since(moment) >= ON_TIME && self.is_over(step)).then_some(step)
    }

    fn is_over(&self, step: Timestamp) -> bool {
        self.running.is_some_and(|running| step < running.from.floor(self.step))
    }

    /// Adds to a step that is over; returns whether it is.
    pub(crate) fn gain(
        &mut self,
        step: Timestamp,
        row: &Row,
        part: &EdgeTotals,
        seen: Seen,
    ) -> bool {
        let over = self.is_over(step);
        if over {
            let gained = self.late.entry(step).or_default();
            let (totals, seen_by) = gained.entry(row.edge).or_default();
            totals.merge(part);
            seen_by.merge(seen);
            if let Some(ix) = row.part {
                self.late_parts.entry(step).or_default().entry(ix).or_default().merge(part);
            }
        }
        over
    }

    /// Whether something has come late since that was put into steps.
    pub(crate) fn has_late(&self) -> bool {
        !(self.late.is_empty() && self.late_parts.is_empty())
    }

    /// Puts what came late into the steps that are kept, and returns it: of edges, and of what is kept apart of them.
    pub(crate) fn put_late(
        &mut self,
    ) -> (BTreeMap<Timestamp, Gained>, BTreeMap<Timestamp, GainedParts>) {
        let late = std::mem::take(&mut self.late);
        let late_parts = std::mem::take(&mut self.late_parts);
        for (begin, gained) in &late {
            let parts = late_parts.get(begin);
            let at = self.steps.partition_point(|step| step.window.to <= *begin);
            let length = self.step;
            match self.steps.get_mut(at) {
                Some(step) if step.window.from < begin.plus(length) => step.add(gained, parts),
                // Between two that are kept, when nothing passed there: the aggregator was stopped.
                Some(_) if at > 0 => {
                    let window = Window { from: *begin, to: begin.plus(length) };
                    let (edges, lost) = (Packed::new(Box::default()), Lost::default());
                    let parts_before = Packed::new(Box::default());
                    let mut step = Step { window, edges, parts: parts_before, lost };
                    step.add(gained, parts);
                    self.steps.insert(at, step);
                }
                _ => {}
            }
        }
        (late, late_parts)
    }

    /// Length of a step.
    pub(crate) const fn step(&self) -> Duration {
        self.step
    }

    /// The clock was ahead and has been set back: no step began later than now.
    pub(crate) fn set_back(&mut self, now: Timestamp) {
        self.steps.retain(|step| step.window.to <= now);
        if let Some(running) = &mut self.running {
            running.from = running.from.min(now);
            running.first = running.first.min(now);
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
    pub(crate) fn is_step_over(&self, now: Timestamp) -> bool {
        self.running.is_some_and(|running| running.from < now.floor(self.step))
    }

    /// Ends the running step if it is over; returns it then, with its edges shown to `hand_over`, in the order in which
    /// they are packed, and what is kept apart of them to `hand_over_part`.
    pub(crate) fn advance(
        &mut self,
        now: Timestamp,
        edges: &mut Edges,
        mut hand_over: impl FnMut(usize, &Edge),
        hand_over_part: impl FnMut(&mut Part),
    ) -> Option<(Window, Lost, Arc<[u8]>)> {
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
                hand_over(index, edge);
            }
        });
        let parts = Packed::new(edges.parts.end_step(now, hand_over_part));
        let packed = Packed::new(packer.finish());
        let bytes = Arc::clone(&packed.bytes);
        self.steps.push_back(Step { window, edges: packed, parts, lost });
        while self.steps.len() > self.kept || self.too_old(now) {
            self.steps.pop_front();
        }
        Some((window, lost, bytes))
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
        if !reaches && asked.from >= asked.to {
            // Nothing was asked for, and the first step begins anywhere: what is snapped outward would have it.
            let nothing = Window { from: asked.to, to: asked.to };
            return Snapped { window: nothing, running: false };
        }
        let to = if reaches { now } else { asked.to.ceil(self.step).min(now) };
        let from = asked.from.floor(self.step).min(to);
        // Before the history begins there is nothing that could be in the window.
        let from = if from < first && first <= to { first } else { from };
        Snapped { window: Window { from, to }, running: reaches }
    }

    /// The steps of a snapped window that are over; what was lost in the running one is in it, too.
    pub(crate) fn ended(&self, Snapped { window, running: reaches }: Snapped) -> Ended {
        let mut ended = Ended::default();
        let outside = |step: &Step| step.window.to <= window.from || step.window.from >= window.to;
        for step in self.steps.iter().filter(|step| !outside(step)) {
            ended.lost.merge(step.lost);
            let is_last = step.window.to >= window.to;
            let steps = if is_last { &mut ended.last } else { &mut ended.before };
            steps.push(step.edges.clone());
        }
        if let Some(running) = self.running.as_ref().filter(|_| reaches) {
            ended.lost.merge(running.lost);
        }
        ended
    }

    /// The same of what is kept apart of edges: before the last step of the window, and in that.
    pub(crate) fn ended_parts(
        &self,
        Snapped { window, .. }: Snapped,
    ) -> (Vec<Packed>, Vec<Packed>) {
        let inside = |step: &&Step| step.window.to > window.from && step.window.from < window.to;
        let (mut before, mut last) = (Vec::new(), Vec::new());
        for step in self.steps.iter().filter(inside) {
            let steps = if step.window.to >= window.to { &mut last } else { &mut before };
            steps.push(step.parts.clone());
        }
        (before, last)
    }

    /// Goes through everything in a snapped window. `last` says whether an entry belongs to
    /// the window's last step, whose open connections are the window's.
    #[cfg(test)]
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
            let mut unpacker = Unpacker::new(&step.edges.bytes);
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
