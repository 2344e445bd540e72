//! Batches that are not acknowledged: in memory, then in files, then folded.
//!
//! The oldest come first: files hold what memory had no room for, so whatever is in files is
//! older than what is in memory. When there is no room in either, the oldest are let go: their
//! numbers are in the totals of the next preface, only the time resolution is lost. That is counted.
//!
//! A stream that needs a batch which is gone is sent a preface and goes on after it. Prefaces begin
//! where a segment of the spool does, or memory.

pub(crate) mod fuzzing;
pub mod leftover;
mod spool;

use std::collections::VecDeque;

use bytes::Bytes;
use prost::Message as _;
use proto::v1;

pub use spool::{Leftovers, Spool};

use crate::clock::Moment;

/// What an entry takes in memory besides its bytes.
const ENTRY_BYTES: usize = 96;

/// A batch of the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub seq: u64,
    /// When its interval ended.
    pub ended: Moment,
    /// A [`v1::Batch`] without the times of sending.
    pub bytes: Bytes,
}

impl Entry {
    /// Encodes a batch.
    #[must_use]
    pub fn of(batch: &v1::Batch, ended: Moment) -> Self {
        Self { seq: batch.seq, ended, bytes: batch.encode_to_vec().into() }
    }

    /// The batch as it goes out now; the payloads of its sections are not copied.
    ///
    /// # Errors
    /// When the bytes are no batch.
    pub fn batch(&self, now: &Moment, age_ns: u64) -> Result<v1::Batch, prost::DecodeError> {
        let mut batch = v1::Batch::decode(self.bytes.clone())?;
        batch.sent_unix_ns = now.unix_ns;
        batch.age_ns = age_ns;
        Ok(batch)
    }

    fn cost(&self) -> usize {
        self.bytes.len() + ENTRY_BYTES
    }
}

/// Batches that were let go before they were acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Folded {
    /// How many.
    pub batches: u64,
    /// The time they covered, in nanoseconds.
    pub span_ns: u64,
}

impl Folded {
    fn add(&mut self, batches: u64, span_ns: u64) {
        self.batches = self.batches.saturating_add(batches);
        self.span_ns = self.span_ns.saturating_add(span_ns);
    }
}

/// How full a queue is, and what came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Batches held, those in files included.
    pub batches: u64,
    /// Bytes held in memory.
    pub memory_bytes: usize,
    /// Bytes held in files, those of earlier sessions included.
    pub spool_bytes: u64,
    /// Failures to write or remove a file.
    pub spool_failures: u64,
    /// Batches for which the disk was too slow.
    pub spool_slow: u64,
    /// Files put aside because they could not be read.
    pub spool_unreadable: u64,
    /// What was let go.
    pub folded: Folded,
}

/// Where a batch is.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// Here.
    Here(Entry),
    /// It was let go: a preface has to take its place.
    Gone,
    /// It is not built yet.
    NotYet,
}

/// What is left to send of a preface.
#[derive(Clone, Debug, Default)]
pub struct Preface {
    batches: VecDeque<v1::Batch>,
    /// When the interval ended of the last batch that it stands for.
    ended: Moment,
}

impl Preface {
    /// Whether there is nothing left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// The next batch of it, as it goes out now.
    pub fn next(&mut self, now: &Moment) -> Option<v1::Batch> {
        let batch = self.batches.pop_front()?;
        Some(v1::Batch { sent_unix_ns: now.unix_ns, age_ns: now.since(&self.ended), ..batch })
    }
}

/// Writes a preface as of a batch, from the encoded batches after it.
pub trait Prefaces {
    /// As [`Report::preface`](crate::report::Report::preface).
    fn preface(&mut self, seq: u64, queued: &VecDeque<Entry>) -> Vec<v1::Batch>;
}

impl Prefaces for crate::report::Report {
    fn preface(&mut self, seq: u64, queued: &VecDeque<Entry>) -> Vec<v1::Batch> {
        self.preface(seq, queued.iter().map(|entry| &entry.bytes))
    }
}

/// The batches of a session, from the oldest that is neither acknowledged nor let go.
#[derive(Debug)]
pub struct Queue {
    memory: VecDeque<Entry>,
    memory_bytes: usize,
    max_bytes: usize,
    spool: Option<Spool>,
    /// The last batch that was built.
    last: u64,
    /// The last batch that is acknowledged.
    acked: u64,
    /// When the interval ended of the last batch that left memory.
    left: Moment,
    folded: Folded,
}

impl Queue {
    /// Holds at most `max_bytes` in memory, and what the spool has room for.
    #[must_use]
    pub fn new(max_bytes: usize, spool: Option<Spool>) -> Self {
        Self {
            memory: VecDeque::new(),
            memory_bytes: 0,
            max_bytes,
            spool,
            last: 0,
            acked: 0,
            left: Moment::now(),
            folded: Folded::default(),
        }
    }

    /// Goes on after the last batch that an earlier process of the session built. Of its batches, those after `acked` are
    /// gone, unless they are in files of which `kept` is the last.
    #[must_use]
    pub fn resume(self, last: u64, acked: u64, kept: u64) -> Self {
        let gone = last.saturating_sub(acked.max(kept));
        let folded = Folded { batches: gone, ..self.folded };
        Self { last, acked: acked.min(last), folded, ..self }
    }

    /// The next batch is written by nobody: what it would tell of the interval that has ended is in the prefaces from here on.
    pub fn pass_over(&mut self, seq: u64, ended: Moment) {
        debug_assert!(self.memory.is_empty(), "it is the first of a process");
        self.last = seq;
        self.left = ended;
    }

    /// Adds the next batch, and makes room for it.
    pub fn push(&mut self, entry: Entry, prefaces: &mut impl Prefaces) {
        self.last = entry.seq;
        self.memory_bytes += entry.cost();
        self.memory.push_back(entry);
        self.make_room(self.max_bytes, prefaces);
    }

    /// Puts everything into files, as far as there is room, for the next process to deliver.
    pub fn spill(&mut self, prefaces: &mut impl Prefaces) {
        if self.spool.is_some() {
            self.make_room(0, prefaces);
        }
    }

    fn make_room(&mut self, max_bytes: usize, prefaces: &mut impl Prefaces) {
        while self.memory_bytes > max_bytes {
            let Some(front) = self.memory.front() else { break };
            let before = front.seq - 1;
            let spooled = self.spool.as_mut().is_some_and(|spool| {
                spool.append(front, self.left, || prefaces.preface(before, &self.memory))
            });
            let Some(front) = self.pop() else { break };
            if !spooled {
                self.folded.add(1, front.ended.since(&self.left));
            }
            self.left = front.ended;
            if let Some(spool) = &mut self.spool {
                spool.trim(self.acked, &mut self.folded);
            }
        }
    }

    fn pop(&mut self) -> Option<Entry> {
        let front = self.memory.pop_front()?;
        self.memory_bytes -= front.cost();
        Some(front)
    }

    /// Every batch up to this one is taken over.
    pub fn acked(&mut self, seq: u64) {
        self.acked = self.acked.max(seq.min(self.last));
        while self.memory.front().is_some_and(|front| front.seq <= self.acked) {
            if let Some(front) = self.pop() {
                self.left = front.ended;
            }
        }
        if self.memory.capacity() > 4 * self.memory.len() + 64 {
            self.memory.shrink_to(2 * self.memory.len());
        }
        if let Some(spool) = &mut self.spool {
            spool.acked(self.acked);
        }
    }

    /// The batch with this number.
    pub fn find(&mut self, seq: u64) -> Found {
        if seq > self.last {
            return Found::NotYet;
        }
        let before = self.last - self.memory.len() as u64;
        if let Some(ahead) = seq.checked_sub(before + 1) {
            let entry = usize::try_from(ahead).ok().and_then(|index| self.memory.get(index));
            return entry.map_or(Found::Gone, |entry| Found::Here(entry.clone()));
        }
        let read = self.spool.as_mut().and_then(|spool| spool.read(seq, &mut self.folded));
        read.map_or(Found::Gone, Found::Here)
    }

    /// What a new stream is to be sent before the first batch; and the number of that batch.
    pub fn preface(&mut self, prefaces: &mut impl Prefaces) -> (Preface, u64) {
        self.preface_from(self.acked + 1, prefaces)
    }

    /// What a stream is to be sent when the batches from `from` on are gone, up to some
    /// later one; and the number of that one.
    pub fn preface_from(&mut self, from: u64, prefaces: &mut impl Prefaces) -> (Preface, u64) {
        let folded = &mut self.folded;
        let stored = self.spool.as_mut().and_then(|spool| spool.preface(from, folded));
        stored.unwrap_or_else(|| {
            let before = self.last - self.memory.len() as u64;
            let batches = prefaces.preface(before, &self.memory).into();
            (Preface { batches, ended: self.left }, before + 1)
        })
    }

    /// Batches up to this one will not be sent any more.
    #[must_use]
    pub fn start(&self) -> u64 {
        let memory = self.last - self.memory.len() as u64;
        self.spool.as_ref().and_then(Spool::start).unwrap_or(memory)
    }

    /// Whether every batch is acknowledged.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.acked == self.last
    }

    /// How full it is, and what came of it.
    #[must_use]
    pub fn state(&self) -> State {
        let spool = self.spool.as_ref();
        State {
            batches: self.last - self.start().max(self.acked),
            memory_bytes: self.memory_bytes,
            spool_bytes: spool.map_or(0, Spool::bytes),
            spool_failures: spool.map_or(0, Spool::failures),
            spool_slow: spool.map_or(0, Spool::slow),
            spool_unreadable: spool.map_or(0, Spool::unreadable),
            folded: self.folded,
        }
    }
}

#[cfg(test)]
mod tests;
