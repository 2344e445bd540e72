//! Batches until they are acknowledged, and what goes before them on a new stream.

use std::{
    collections::{HashMap, VecDeque},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use common::{Counter, HistogramKind};
use proto::{
    columns::{DecodeError, EncodeError, Encoder, Visitor, decode},
    v1::{AgentMessage, Batch, Section, SectionKind, agent_message::Body},
};

use super::{
    book::{Book, Draft, Half, put},
    definitions,
};
use crate::totals::HalfTotals;

/// Halves that a batch of a preface defines at most.
const DEFINED_AT_ONCE: usize = 8_000;

/// A batch that is not acknowledged.
struct Waiting {
    draft: Draft,
    /// When its interval ended.
    ended: Instant,
}

#[derive(Default)]
pub struct Outbox {
    /// What the stream has to be told before any batch.
    preface: VecDeque<Batch>,
    waiting: VecDeque<Waiting>,
    /// How many of those are on their way.
    sent: usize,
    /// The last batch that is acknowledged.
    pub acked: u64,
}

/// What an acknowledgement was for.
pub struct Acked {
    pub records: u64,
    pub ended: Instant,
}

/// Why a preface cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum PrefaceError {
    #[error("an own batch cannot be read: {0}")]
    Decode(#[from] DecodeError),
    #[error("a record cannot be written: {0}")]
    Encode(#[from] EncodeError),
}

impl Outbox {
    pub fn push(&mut self, draft: Draft, ended: Instant) {
        self.waiting.push_back(Waiting { draft, ended });
    }

    /// Batches that are not acknowledged.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn has_next(&self) -> bool {
        !self.preface.is_empty() || self.sent < self.waiting.len()
    }

    /// The message to send next.
    pub fn next(&mut self) -> Option<AgentMessage> {
        let batch = match self.preface.pop_front() {
            Some(batch) => batch,
            None => {
                let Waiting { draft, ended } = self.waiting.get(self.sent)?;
                self.sent += 1;
                let age_ns = ended.elapsed().as_nanos() as u64;
                Batch { seq: draft.seq, age_ns, ..batch(draft.sections.clone()) }
            }
        };
        Some(AgentMessage { body: Some(Body::Batch(batch)) })
    }

    /// Batches up to this one are taken over; returns what they were. One that this stream has
    /// not been told yet is sent nevertheless: later ones rest on what it defines.
    pub fn ack(&mut self, seq: u64) -> Vec<Acked> {
        self.acked = self.acked.max(seq);
        let sent = self.waiting.iter().take(self.sent);
        let done = sent.take_while(|one| one.draft.seq <= seq).count();
        self.sent -= done;
        self.take(done)
    }

    /// The same, as a new stream is told by its welcome.
    pub fn welcome(&mut self, seq: u64) -> Vec<Acked> {
        self.acked = self.acked.max(seq);
        self.sent = 0;
        self.take(self.waiting.iter().take_while(|one| one.draft.seq <= self.acked).count())
    }

    fn take(&mut self, first: usize) -> Vec<Acked> {
        let acked = |one: Waiting| Acked { records: one.draft.records, ended: one.ended };
        self.waiting.drain(..first).map(acked).collect()
    }

    /// A new stream has been welcomed: a preface with everything as of the last acknowledged batch,
    /// then every other batch again.
    pub fn rewind(&mut self, book: &Book) -> Result<(), PrefaceError> {
        self.preface.clear();
        if self.acked == 0 {
            return Ok(());
        }
        let mut halves: Vec<_> =
            book.as_of(self.acked).map(|half| (half, half.totals.clone())).collect();
        halves.sort_by_key(|(half, _)| half.id);
        self.take_back(&mut halves)?;
        let mut encoder = Encoder::new();
        let chunks = halves.chunks(DEFINED_AT_ONCE);
        // A node without halves has a status to tell all the same.
        let none = halves.is_empty().then_some([].as_slice());
        for chunk in chunks.chain(none) {
            let wire = definitions::all(book.world(), chunk.iter().map(|(half, _)| *half));
            let mut sections = vec![definitions::section(SectionKind::Definitions, &wire)];
            let halves = chunk.iter().map(|(half, _)| *half);
            sections.extend(definitions::translations(book.world(), halves));
            for (half, totals) in chunk {
                encoder.push(half.id, &totals.counters, &totals.buckets())?;
            }
            put(&mut encoder, SectionKind::Totals, &mut sections);
            let (preface, more) = (true, true);
            self.preface.push_back(Batch { seq: self.acked, preface, more, ..batch(sections) });
        }
        if let Some(last) = self.preface.back_mut() {
            last.more = false;
            let all = || halves.iter().map(|(half, _)| *half);
            let state = [definitions::status(all()), definitions::listeners(book.world(), all())];
            last.sections.extend(state);
        }
        Ok(())
    }

    /// Takes off what waiting batches have added.
    fn take_back(&self, halves: &mut [(&Half, HalfTotals)]) -> Result<(), DecodeError> {
        let by_id: HashMap<u32, usize> =
            halves.iter().enumerate().map(|(at, (half, _))| (half.id, at)).collect();
        for Waiting { draft, .. } in &self.waiting {
            let mut taken = TakeBack { seq: draft.seq, by_id: &by_id, halves, at: None };
            for section in &draft.sections {
                // Totals among them are of halves that begin there.
                if section.kind == SectionKind::Increments as u32 {
                    decode(&section.payload, &mut taken)?;
                }
            }
        }
        Ok(())
    }
}

fn batch(sections: Vec<Section>) -> Batch {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Batch { sent_unix_ns: now.as_nanos() as u64, sections, ..Batch::default() }
}

/// Takes the increments of one batch off the totals.
struct TakeBack<'a, 'b> {
    seq: u64,
    by_id: &'a HashMap<u32, usize>,
    halves: &'a mut [(&'b Half, HalfTotals)],
    at: Option<usize>,
}

impl Visitor for TakeBack<'_, '_> {
    fn half(&mut self, id: u32) {
        // After it was retired, its id is another's.
        let halves = &self.halves;
        let same = |at: &usize| {
            let half = halves[*at].0;
            half.retired_in == 0 || self.seq <= half.retired_in
        };
        self.at = self.by_id.get(&id).copied().filter(same);
    }

    fn counter(&mut self, _: u32, counter: Counter, value: u64) {
        if let Some(at) = self.at {
            self.halves[at].1.counters[counter.index()] -= value;
        }
    }

    fn bucket(&mut self, _: u32, kind: HistogramKind, bucket: u16, count: u64) {
        if let Some(at) = self.at {
            self.halves[at].1.histograms[kind.index()].take(bucket, count);
        }
    }
}
