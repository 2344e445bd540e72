//! What an agent with `--pin-dir` leaves to the next one beside the counters of the kernel, so that the next can go on with
//! the same session as if it had only lost its connection.
//!
//! The slots tell what is counted now. The ledger has what they do not tell: which half a slot was reported
//! as part of, whatever its process is called by the time the next agent asks; what slots had counted that were given back since; which
//! halves a batch has retired that may not have arrived; and up to which number batches were built. From all that
//! the next agent puts its report together, with totals, and the aggregator takes of them what it lacks.
//!
//! Everything is noted before the kernel or the network can see its effect, so that the process may be killed
//! between any two stores. Notes are frames of length, CRC-32 and contents in one of two areas; a note counts once the
//! head says how long the area is. When an area is full, what still matters is written into the other one.
//!
//! **Full**: a slot that cannot be noted is not reported (`report_full`), one that cannot be folded is not given back.

mod notes;
mod past;
mod record;
mod store;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use common::{COUNTERS, HistogramKind};
use topology::model::{HalfKey, Workload};

use past::Replay;
pub use past::{Kept, Past};
use record::Record;
pub use store::{HEAD_BYTES, Memory, Store, Word};

/// Version of everything in this folder. Incremented with every change.
pub const LEDGER_VERSION: u64 = 3;

/// Left free in an area by everything but retirements, which cannot be put off.
const RESERVED: usize = 64 << 10;

/// More than the note of a slot takes.
const ROOMY: usize = 4 << 10;

/// A half of the report.
pub type Key = HalfKey<Arc<Workload>>;

/// Why a ledger cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The agent that began it did not come to the end of its start.
    #[error("it was not finished")]
    Unfinished,
    /// Another version of the agent wrote it.
    #[error("its ledger is of version {0}, not {LEDGER_VERSION}")]
    Version(u64),
    /// A note is not what was written.
    #[error("its ledger is damaged at byte {0}")]
    Damaged(usize),
    /// A note could not be made.
    #[error("its ledger was full")]
    Incomplete,
}

/// Whom and what a ledger is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// [`common::kernel::SCHEMA_VERSION`] of the programs.
    pub schema: u64,
    /// Of the kernel maps.
    pub generation: u64,
    /// In which batches are numbered.
    pub session: u64,
    /// Inode of the cgroup directory that the programs are attached to.
    pub cgroup: u64,
    /// Checksum of the node's name.
    pub node: u64,
    /// Checksum of the kernel object.
    pub object: u64,
    /// What the programs were told of the kernel; the bits are `kernel`'s.
    pub settings: u64,
}

/// What a half had counted in slots that were given back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values {
    /// Which half it is of all there were in the session.
    pub birth: u64,
    /// By [`common::Counter`].
    pub counters: [u64; COUNTERS],
    /// By kind and bucket.
    pub buckets: BTreeMap<(HistogramKind, u16), u64>,
}

impl Values {
    fn add(
        &mut self,
        birth: u64,
        counters: &[u64; COUNTERS],
        buckets: impl IntoIterator<Item = (HistogramKind, u16, u64)>,
    ) {
        self.birth = birth;
        for (sum, value) in self.counters.iter_mut().zip(counters) {
            *sum = sum.saturating_add(*value);
        }
        for (kind, bucket, count) in buckets {
            let sum = self.buckets.entry((kind, bucket)).or_default();
            *sum = sum.saturating_add(count);
        }
    }
}

/// Whose a slot was reported as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Id of the owner.
    pub owner: u64,
    /// The half that it counts for.
    pub half: Key,
    /// Which half that is of all there were in the session.
    pub birth: u64,
}

/// Losses of the agent itself, which count on over its restarts.
const CARRIED: [(&str, Word); 5] = [
    ("report_full", Word::ReportFull),
    ("report_folded", Word::ReportFolded),
    ("resolution_folded", Word::Folded),
    ("resolution_folded_seconds", Word::FoldedSeconds),
    ("spool_unreadable", Word::SpoolUnreadable),
];

/// See the module.
pub struct Ledger {
    store: Box<dyn Store>,
    /// By slot.
    links: HashMap<u32, Link>,
    live: HashMap<Key, Values>,
    retired: VecDeque<(u64, Key, Values)>,
    /// Area and length, as in [`Word::Active`].
    active: u64,
    /// How often notes are still refused before there may be room.
    refusing: u32,
    /// Losses as the agent before this one left them.
    carried: [u64; CARRIED.len()],
    /// It was there before this process.
    adopted: bool,
}

impl Ledger {
    /// Begins a ledger. It is none until [`finish`](Self::finish).
    #[must_use]
    pub fn create(mut store: Box<dyn Store>, identity: &Identity, max_halves: u32) -> Self {
        store.set(Word::Magic, 0);
        for (word, value) in [
            (Word::Version, LEDGER_VERSION),
            (Word::Schema, identity.schema),
            (Word::Generation, identity.generation),
            (Word::Session, identity.session),
            (Word::Cgroup, identity.cgroup),
            (Word::Node, identity.node),
            (Word::Object, identity.object),
            (Word::Settings, identity.settings),
            (Word::MaxHalves, u64::from(max_halves)),
            (Word::Processes, 1),
        ] {
            store.set(word, value);
        }
        Self::over(store, Replay::default(), false)
    }

    /// The ledger that an agent before this one left.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(store: Box<dyn Store>) -> Result<Self, LedgerError> {
        Self::identity_of(&*store)?;
        if store.get(Word::Broken) != 0 {
            return Err(LedgerError::Incomplete);
        }
        let replay = Replay::read(&*store)?;
        let mut ledger = Self::over(store, replay, true);
        let processes = ledger.store.get(Word::Processes).saturating_add(1);
        ledger.store.set(Word::Processes, processes);
        Ok(ledger)
    }

    /// Whom and what a ledger is of.
    ///
    /// # Errors
    /// When it is not finished or of another version.
    pub fn identity_of(store: &dyn Store) -> Result<Identity, LedgerError> {
        if store.get(Word::Magic) != store::MAGIC {
            return Err(LedgerError::Unfinished);
        }
        if store.get(Word::Version) != LEDGER_VERSION {
            return Err(LedgerError::Version(store.get(Word::Version)));
        }
        Ok(Identity {
            schema: store.get(Word::Schema),
            generation: store.get(Word::Generation),
            session: store.get(Word::Session),
            cgroup: store.get(Word::Cgroup),
            node: store.get(Word::Node),
            object: store.get(Word::Object),
            settings: store.get(Word::Settings),
        })
    }

    fn over(store: Box<dyn Store>, replay: Replay, adopted: bool) -> Self {
        let active = store.get(Word::Active);
        let carried = CARRIED.map(|(_, word)| store.get(word));
        let Replay { links, live, retired } = replay;
        Self { store, links, live, retired, active, refusing: 0, carried, adopted }
    }

    /// From here on the next process can go on from it.
    pub fn finish(&mut self) {
        self.store.set(Word::Magic, store::MAGIC);
    }

    /// Number of the session.
    #[must_use]
    pub fn session(&self) -> u64 {
        self.store.get(Word::Session)
    }

    /// How many halves the kernel has room for.
    #[must_use]
    pub fn max_halves(&self) -> u32 {
        u32::try_from(self.store.get(Word::MaxHalves)).unwrap_or(u32::MAX)
    }

    /// Generation of the maps.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.store.get(Word::Generation)
    }

    /// Whom and what it is of.
    ///
    /// # Errors
    /// When it is not finished.
    pub fn identity(&self) -> Result<Identity, LedgerError> {
        Self::identity_of(&*self.store)
    }

    /// Checksum of the kernel object.
    #[must_use]
    pub fn object(&self) -> u64 {
        self.store.get(Word::Object)
    }

    /// What the programs were told of the kernel.
    #[must_use]
    pub fn settings(&self) -> u64 {
        self.store.get(Word::Settings)
    }

    /// What an earlier process left; `None` when this one began the ledger.
    #[must_use]
    pub fn past(&self) -> Option<Past> {
        self.adopted.then(|| Past {
            last_seq: self.store.get(Word::LastSeq),
            acked: self.store.get(Word::Acked),
            processes: self.store.get(Word::Processes),
            links: self.links.clone(),
            live: self.live.iter().map(|(key, values)| (key.clone(), values.clone())).collect(),
            retired: self.retired.iter().cloned().collect(),
        })
    }

    /// Whether one more slot can be noted.
    pub fn has_room(&mut self) -> bool {
        self.make_room(ROOMY + RESERVED)
    }

    /// A slot is reported as part of this half, from the next batch on.
    pub fn link(&mut self, slot: u32, link: Link) {
        if self.links.get(&slot) == Some(&link) {
            return;
        }
        let Link { owner, half, birth } = &link;
        let (owner, birth) = (*owner, *birth);
        let note = Record::Linked { slot, owner, half: record::borrowed(half), birth };
        let noted = self.append(&note, RESERVED);
        self.links.insert(slot, link);
        if !noted {
            self.give_up();
        }
    }

    /// A slot is about to be given back that has counted this. Returns whether that is noted; then it has to be cleared, and
    /// [`cleared`](Self::cleared) called.
    pub fn fold(
        &mut self,
        slot: u32,
        counters: &[u64; COUNTERS],
        buckets: &[(HistogramKind, u16, u64)],
    ) -> bool {
        // One that was never reported has nothing to be kept.
        let Some(Link { half, birth, .. }) = self.links.get(&slot).cloned() else { return true };
        let stored = buckets.iter();
        let stored = stored.map(|(kind, bucket, count)| (kind.index() as u8, *bucket, *count));
        let note = Record::Folded {
            slot: Some(slot),
            half: record::borrowed(&half),
            birth,
            counters: *counters,
            buckets: stored.collect(),
        };
        if !self.append(&note, RESERVED) {
            return false;
        }
        self.links.remove(&slot);
        self.live.entry(half).or_default().add(birth, counters, buckets.iter().copied());
        true
    }

    /// The slot that was folded last is cleared; now its number may be given away.
    pub fn cleared(&mut self) {
        self.store.set(Word::Cleared, self.active);
    }

    /// The slot that was folded last, when the process before did not come to clear it.
    #[must_use]
    pub fn to_clear(&self) -> Option<u32> {
        if self.store.get(Word::Cleared) == self.active {
            return None;
        }
        Replay::last_folded(&*self.store)
    }

    /// The batch with this number is about to be sent, and retires these halves.
    pub fn built(&mut self, seq: u64, retired: &[Key]) {
        self.store.set(Word::LastSeq, seq);
        for half in retired {
            let values = self.live.remove(half).unwrap_or_default();
            let note = Record::Retired { seq, half: record::borrowed(half) };
            // Into the area as it was: should what matters be written anew, it is still as before this note.
            self.live.insert(half.clone(), values);
            let noted = self.append(&note, 0);
            let values = self.live.remove(half).unwrap_or_default();
            self.retired.push_back((seq, half.clone(), values));
            if !noted {
                self.give_up();
            }
        }
    }

    /// A note is missing.
    fn give_up(&mut self) {
        self.store.set(Word::Broken, 1);
        tracing::warn!("the ledger is full: the next agent has to begin anew");
    }

    /// Batches up to this one are taken over.
    pub fn acked(&mut self, seq: u64) {
        if seq > self.store.get(Word::Acked) {
            self.store.set(Word::Acked, seq);
        }
        while self.retired.front().is_some_and(|(retired, ..)| *retired <= seq) {
            self.retired.pop_front();
        }
    }

    /// Adds to the agent's own losses what the processes before counted, and remembers the sum.
    pub fn carry(&mut self, losses: &mut Vec<(&'static str, u64)>) {
        for ((cause, word), carried) in CARRIED.into_iter().zip(self.carried) {
            match losses.iter_mut().find(|(known, _)| *known == cause) {
                Some((_, count)) => *count = count.saturating_add(carried),
                None if carried > 0 => losses.push((cause, carried)),
                None => {}
            }
            let sum = losses.iter().find(|(known, _)| *known == cause).map_or(0, |(_, sum)| *sum);
            self.store.set(word, sum);
        }
    }

    /// One more than the highest slot, and chunk, that was ever seen in use.
    #[must_use]
    pub fn ends(&self) -> (usize, usize) {
        (self.store.get(Word::SlotsEnd) as usize, self.store.get(Word::ChunksEnd) as usize)
    }

    /// Notes the same.
    pub fn set_ends(&mut self, (slots, chunks): (usize, usize)) {
        self.store.set(Word::SlotsEnd, slots as u64);
        self.store.set(Word::ChunksEnd, chunks as u64);
    }

    /// Hints that the kernel could not send, `all` so far, without those that nobody was there to read.
    pub fn hints_missed(&mut self, all: u64) -> u64 {
        self.store.set(Word::HintsSeen, all);
        all.saturating_sub(self.store.get(Word::HintsIgnored))
    }

    /// Nobody read hints until now.
    pub fn ignore_hints(&mut self, all: u64) {
        let unread = all.saturating_sub(self.store.get(Word::HintsSeen));
        let ignored = self.store.get(Word::HintsIgnored).saturating_add(unread);
        self.store.set(Word::HintsIgnored, ignored);
        self.store.set(Word::HintsSeen, all);
    }
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (area, len) = store::split(self.active);
        f.debug_struct("Ledger").field("area", &area).field("len", &len).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
