//! What an earlier process left.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use common::HistogramKind;
use topology::model::{HalfKey, Workload};

use super::{
    Key, LedgerError, Link, Values,
    record::{self, Record},
    store::{Store, Word, area_bytes, area_start, split},
};

/// A half with what it had counted in slots that are no longer its.
pub type Kept = (Key, Values);

/// What an earlier process left, for the report of this one.
#[derive(Clone, Debug, Default)]
pub struct Past {
    /// The last batch that was built.
    pub last_seq: u64,
    /// The last batch that is known to be taken over.
    pub acked: u64,
    /// How many processes have gone on with the session, this one included.
    pub processes: u64,
    /// What the slots were reported as part of.
    pub links: HashMap<u32, Link>,
    /// Halves with more than their slots tell.
    pub live: Vec<Kept>,
    /// Halves that a batch retired which may not have arrived, in the order of these batches.
    pub retired: Vec<(u64, Key, Values)>,
}

/// The notes of a ledger, put together.
#[derive(Debug, Default)]
pub(super) struct Replay {
    pub(super) links: HashMap<u32, Link>,
    pub(super) live: HashMap<Key, Values>,
    pub(super) retired: VecDeque<(u64, Key, Values)>,
}

impl Replay {
    /// Reads all notes.
    pub(super) fn read(store: &dyn Store) -> Result<Self, LedgerError> {
        let mut replay = Self::default();
        let mut known = HashSet::new();
        each(store, |note| replay.take(note, &mut known))?;
        let acked = store.get(Word::Acked);
        replay.retired.retain(|(seq, ..)| *seq > acked);
        Ok(replay)
    }

    /// The slot that the last note folds.
    pub(super) fn last_folded(store: &dyn Store) -> Option<u32> {
        let mut last = None;
        let read = each(store, |note| {
            last = match note {
                Record::Folded { slot, .. } => slot,
                Record::Linked { .. } | Record::Alike { .. } | Record::Retired { .. } => None,
            };
        });
        read.ok().and(last)
    }

    fn take(&mut self, note: Record<Workload>, known: &mut HashSet<Arc<Workload>>) {
        match note {
            Record::Linked { slot, owner, half, birth } => {
                let half = owned(half, known);
                self.links.insert(slot, Link { owner, half, birth });
            }
            Record::Alike { slot, owner, like } => {
                if let Some(link) = self.links.get(&like).cloned() {
                    self.links.insert(slot, Link { owner, ..link });
                }
            }
            Record::Folded { slot, half, birth, counters, buckets } => {
                if let Some(slot) = slot {
                    self.links.remove(&slot);
                }
                let buckets = buckets.into_iter().filter_map(|(kind, bucket, count)| {
                    Some((*HistogramKind::ALL.get(usize::from(kind))?, bucket, count))
                });
                self.live.entry(owned(half, known)).or_default().add(birth, &counters, buckets);
            }
            Record::Retired { seq, half } => {
                let half = owned(half, known);
                let values = self.live.remove(&half).unwrap_or_default();
                self.retired.push_back((seq, half, values));
            }
        }
    }
}

fn each(store: &dyn Store, mut take: impl FnMut(Record<Workload>)) -> Result<(), LedgerError> {
    let (area, len) = split(store.get(Word::Active));
    if len > area_bytes(store) {
        return Err(LedgerError::Damaged(len));
    }
    let mut bytes = vec![0; len];
    store.read(area_start(store, area), &mut bytes);
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let (note, taken) = record::read(rest).ok_or(LedgerError::Damaged(len - rest.len()))?;
        take(note);
        rest = rest.get(taken..).unwrap_or_default();
    }
    Ok(())
}

fn owned(half: HalfKey<Workload>, known: &mut HashSet<Arc<Workload>>) -> Key {
    HalfKey {
        workload: shared(half.workload, known),
        local: half.local,
        peer: half.peer,
        server_port: half.server_port,
        client_port: half.client_port,
        role: half.role,
    }
}

/// One instance of each workload.
fn shared(workload: Workload, known: &mut HashSet<Arc<Workload>>) -> Arc<Workload> {
    if let Some(instance) = known.get(&workload) {
        return Arc::clone(instance);
    }
    let instance = Arc::new(workload);
    known.insert(Arc::clone(&instance));
    instance
}
