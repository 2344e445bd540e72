//! All halves of the node, by id and by key.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use topology::model::HalfKey;

use super::half::Half;

/// So many workloads have halves for what there is no room for; beyond, it is refused. A host has a few hundred.
const MOST_FOLDED: usize = 2_048;

/// A half whose slots are all given back is retired after this time without a change.
const IDLE: Duration = Duration::from_secs(60);

/// The same, when three quarters of the room are taken, by a port scan say.
const IDLE_WHEN_SCARCE: Duration = Duration::from_secs(2);

/// Halves that one batch retires: it tells the totals of each.
const RETIRED_PER_BATCH: usize = 4_096;

/// Bytes that these totals may come to, exceeded by at most one half's.
const RETIRED_BYTES_PER_BATCH: usize = 1 << 20;

/// Halves that one process begins at most: a million each second for twelve days.
const BIRTHS: u64 = 1 << 40;

/// Halves that one batch retired.
#[derive(Debug)]
pub(super) struct Retiring {
    pub(super) seq: u64,
    pub(super) halves: Vec<u32>,
}

#[derive(Debug)]
pub(super) struct Halves {
    /// Halves known at a time, retired ones whose retirement is not acknowledged included.
    most: usize,
    entries: Vec<Option<Box<Half>>>,
    free: Vec<u32>,
    by_key: HashMap<HalfKey<u32>, u32>,
    dirty: Vec<u32>,
    ending: Vec<u32>,
    retiring: VecDeque<Retiring>,
    /// How many were added.
    births: u64,
}

impl Halves {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            entries: Vec::new(),
            free: Vec::new(),
            by_key: HashMap::new(),
            dirty: Vec::new(),
            ending: Vec::new(),
            retiring: VecDeque::new(),
            births: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Whether there is no room for another half.
    pub(super) fn is_full(&self) -> bool {
        self.len() >= self.most
    }

    /// Whether there is not even room for one that stands for many.
    pub(super) fn is_overfull(&self) -> bool {
        self.len() >= self.most + MOST_FOLDED
    }

    pub(super) fn by_key(&self, key: &HalfKey<u32>) -> Option<u32> {
        self.by_key.get(key).copied()
    }

    pub(super) fn get(&self, id: u32) -> Option<&Half> {
        self.entries.get(id as usize)?.as_deref()
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut Half> {
        self.entries.get_mut(id as usize)?.as_deref_mut()
    }

    /// Adds a half; the caller has made sure that there is room and no other with its key.
    pub(super) fn insert(&mut self, mut half: Half) -> u32 {
        self.births += 1;
        half.birth = self.births;
        self.insert_known(half)
    }

    /// Adds a half that the process before had, too, by the number that it had there.
    pub(super) fn insert_known(&mut self, half: Half) -> u32 {
        let key = half.key;
        let id = self.insert_retired(half);
        self.by_key.insert(key, id);
        id
    }

    /// Adds a half that a batch has retired.
    pub(super) fn insert_retired(&mut self, half: Half) -> u32 {
        let half = Box::new(half);
        match self.free.pop() {
            Some(id) => {
                if let Some(place) = self.entries.get_mut(id as usize) {
                    *place = Some(half);
                }
                id
            }
            None => {
                self.entries.push(Some(half));
                self.entries.len() as u32 - 1
            }
        }
    }

    /// These were retired by batches of an earlier process. This one is the session's `process`th: its halves are later
    /// ones than all before.
    pub(super) fn resume(&mut self, retiring: VecDeque<Retiring>, process: u64) {
        self.retiring = retiring;
        self.births = process.saturating_sub(1).saturating_mul(BIRTHS);
    }

    /// Halves that the batch with this number retired, if it was the last that retired any.
    pub(super) fn retired_by(&self, seq: u64) -> impl Iterator<Item = &Half> {
        let last = self.retiring.back().filter(|retiring| retiring.seq == seq);
        let halves = last.map(|last| last.halves.as_slice()).unwrap_or_default();
        halves.iter().filter_map(|id| self.get(*id))
    }

    /// The half has something to send.
    pub(super) fn mark(&mut self, id: u32) {
        if let Some(half) = self.get_mut(id) {
            half.ending = false;
            if !std::mem::replace(&mut half.dirty, true) {
                self.dirty.push(id);
            }
        }
    }

    /// Whether no half has anything to send.
    pub(super) fn is_clean(&self) -> bool {
        self.dirty.is_empty() && self.ending.is_empty()
    }

    /// Halves with something to send, in ascending order.
    pub(super) fn take_dirty(&mut self) -> Vec<u32> {
        let mut dirty = std::mem::take(&mut self.dirty);
        dirty.sort_unstable();
        dirty
    }

    /// Gives back what did not fit.
    pub(super) fn put_back(&mut self, dirty: &[u32]) {
        self.dirty.extend_from_slice(dirty);
    }

    /// Finds halves that ended, so many at most.
    pub(super) fn expire(&mut self, now: Instant, most: usize) {
        let scarce = self.len() > self.most / 4 * 3;
        let idle = if scarce { IDLE_WHEN_SCARCE } else { IDLE };
        for (id, half) in (0..).zip(&mut self.entries) {
            let Some(half) = half else { continue };
            let over = half.slots == 0 && now.duration_since(half.changed) >= idle;
            if self.ending.len() >= most {
                break;
            }
            if over && !half.dirty && !half.ending && half.retired == 0 {
                half.ending = true;
                self.ending.push(id);
            }
        }
    }

    /// How many of these, the first of them, one batch can retire.
    pub(super) fn retirable(&self, ids: impl Iterator<Item = u32>) -> usize {
        let mut bytes = 0;
        let fits = |id: &u32| {
            let fits = bytes < RETIRED_BYTES_PER_BATCH;
            bytes += self.get(*id).map_or(0, Half::most_bytes);
            fits
        };
        ids.take(RETIRED_PER_BATCH).take_while(fits).count()
    }

    /// Halves to be retired in the batch with this number. A half that changes from now on is
    /// a new one, with another id.
    pub(super) fn retire(&mut self, seq: u64) -> Vec<u32> {
        let mut ended = Vec::new();
        let rest = self.ending.split_off(self.retirable(self.ending.iter().copied()));
        for id in std::mem::replace(&mut self.ending, rest) {
            let Some(half) = self.entries.get_mut(id as usize).and_then(Option::as_mut) else {
                continue;
            };
            if half.ending {
                half.ending = false;
                half.retired = seq;
                self.by_key.remove(&half.key);
                ended.push(id);
            }
        }
        if !ended.is_empty() {
            self.retiring.push_back(Retiring { seq, halves: ended.clone() });
        }
        ended
    }

    /// Every batch up to this one is taken over: what was retired in them is over for good.
    pub(super) fn acked(&mut self, seq: u64, mut forget: impl FnMut(Half)) {
        while self.retiring.front().is_some_and(|retiring| retiring.seq <= seq) {
            for id in self.retiring.pop_front().map(|retiring| retiring.halves).unwrap_or_default()
            {
                if let Some(half) = self.remove(id) {
                    forget(half);
                }
            }
        }
    }

    /// Halves that a batch up to this one defined and that no batch up to this one retired, and
    /// those that one of them retired without having been acknowledged; in ascending order of the
    /// batch that retired them, and of their ids. With each, that batch.
    pub(super) fn as_of(&self, seq: u64) -> Vec<(u64, u32)> {
        let known = |half: &Half| (1..=seq).contains(&half.defined);
        let retired = |half: &Half| if half.retired > seq { 0 } else { half.retired };
        let halves = (0..).zip(&self.entries).filter_map(|(id, half)| Some((id, half.as_ref()?)));
        let mut halves: Vec<_> =
            halves.filter(|(_, half)| known(half)).map(|(id, half)| (retired(half), id)).collect();
        // Those that did not end come last.
        halves.sort_unstable_by_key(|(retired, id)| (retired.wrapping_sub(1), *id));
        halves
    }

    fn remove(&mut self, id: u32) -> Option<Half> {
        let half = self.entries.get_mut(id as usize)?.take()?;
        self.free.push(id);
        if self.by_key.len() < self.by_key.capacity() / 4 {
            self.by_key.shrink_to(self.by_key.len() * 2);
        }
        Some(*half)
    }
}
