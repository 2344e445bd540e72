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
//! **Full**: when what matters fills three quarters of an area, as it may while no aggregator takes over which halves have ended,
//! there are no new halves: they are folded, and few of those that are over are retired. The room that is left is for slots of
//! folded halves, which take little, and for what slots had counted that are given back. A slot that cannot even be noted then is
//! not reported (`report_full`).

pub(crate) mod fuzzing;
mod notes;
mod past;
mod record;
mod store;
mod words;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use common::{COUNTERS, HistogramKind, kernel::SLOTS};
use topology::model::{HalfKey, Workload};

use past::Replay;
pub use past::{Kept, Past};
use record::Record;
pub use store::{HEAD_BYTES, Memory, Store, Word};
use words::CARRIED;

/// Version of everything in this folder. Incremented with every change.
pub const LEDGER_VERSION: u64 = 3;

/// Left free in an area by everything but retirements, which cannot be put off.
const RESERVED: usize = 64 << 10;

/// More than the note of a slot takes.
const ROOMY: usize = 4 << 10;

/// Room in an area for which nothing is noted any more but retirements.
pub(crate) const LEAST: usize = RESERVED + ROOMY;

/// Halves that are retired at a time when there is little room.
const FEW: usize = 64;

/// As many as there is room for whenever the ledger is not tight: how tight it is is seen from one look to the next.
const MANY: usize = 2_048;

/// Beyond every number of a batch, and of processes that had one session: with one more each second, of the latter after
/// forty-eight days.
const MOST_BATCHES: u64 = 1 << 56;
const MOST_PROCESSES: u64 = 1 << 22;

/// A half of the report.
pub type Key = HalfKey<Arc<Workload>>;

/// Why a ledger cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The agent that began it did not come to the end of its start.
    #[error("it was not finished")]
    Unfinished,
    /// No agent comes so far as its head says.
    #[error("its ledger begins with numbers that make no sense")]
    Absurd,
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

/// See the module.
pub struct Ledger {
    store: Box<dyn Store>,
    /// By slot.
    links: HashMap<u32, Link>,
    /// One of the slots of a half.
    slot_of: HashMap<Key, u32>,
    live: HashMap<Key, Values>,
    retired: VecDeque<(u64, Key, Values)>,
    /// Area and length, as in [`Word::Active`].
    active: u64,
    /// How often notes are still refused before there may be room, and from how many bytes on.
    refusing: (u32, usize),
    /// What matters fills most of an area.
    tight: bool,
    /// At which length of an area it is time to look whether it does.
    check_at: usize,
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
        let batches = store.get(Word::LastSeq).max(store.get(Word::Acked));
        if batches > MOST_BATCHES || store.get(Word::Processes) > MOST_PROCESSES {
            return Err(LedgerError::Absurd);
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
        let slot_of = links.iter().map(|(slot, link)| (link.half.clone(), *slot)).collect();
        let mut ledger = Self {
            store,
            links,
            slot_of,
            live,
            retired,
            active,
            refusing: (0, 0),
            tight: false,
            check_at: 0,
            carried,
            adopted,
        };
        ledger.check_at = store::area_bytes(&*ledger.store).saturating_sub(ledger.spare());
        ledger
    }

    /// From here on the next process can go on from it.
    pub fn finish(&mut self) {
        self.store.set(Word::Magic, store::MAGIC);
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

    /// Whether there is room for one more half.
    pub fn has_room(&mut self) -> bool {
        self.has_room_for_slot() && !self.tight
    }

    /// Whether one more slot can be noted, of a half that is there.
    pub fn has_room_for_slot(&mut self) -> bool {
        self.make_room(LEAST)
    }

    /// How many halves may be retired for now: of those that end, too, there are notes until that is taken over.
    #[must_use]
    pub fn retirable(&self) -> usize {
        match self.tight {
            true if self.retired.is_empty() => FEW,
            true => 0,
            false => MANY,
        }
    }

    /// A slot is reported as part of this half, from the next batch on.
    pub fn link(&mut self, slot: u32, link: Link) {
        if self.links.get(&slot) == Some(&link) {
            return;
        }
        let Link { owner, half, birth } = &link;
        let (owner, birth) = (*owner, *birth);
        let like = self.slot_of.get(half).filter(|like| {
            let known = self.links.get(like);
            known.is_some_and(|known| known.half == *half && known.birth == birth)
        });
        let note = match like {
            Some(like) => Record::Alike { slot, owner, like: *like },
            None => Record::Linked { slot, owner, half: record::borrowed(half), birth },
        };
        let noted = self.append(&note, RESERVED);
        self.slot_of.entry(half.clone()).or_insert(slot);
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
        if self.slot_of.get(&half) == Some(&slot) {
            self.slot_of.remove(&half);
        }
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
        Replay::last_folded(&*self.store).filter(|slot| *slot < SLOTS)
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
        let before = self.retired.len();
        while self.retired.front().is_some_and(|(retired, ..)| *retired <= seq) {
            self.retired.pop_front();
        }
        if self.retired.len() < before {
            self.refusing = (0, 0);
            if self.tight {
                self.rewrite();
            }
        }
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
