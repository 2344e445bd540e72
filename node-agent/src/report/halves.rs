//! All halves of the node, by id and by key.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use topology::model::HalfKey;

use super::half::Half;

/// Halves known at a time, retired ones whose retirement is not acknowledged included. At some
/// 350 bytes and 24 for each bucket, 64 MiB would be much; no host is known that needs it.
pub(super) const MOST_HALVES: usize = 65_536;

/// A half whose slots are all given back is retired after this time without a change.
const IDLE: Duration = Duration::from_secs(60);

/// Halves whose retirement went out in one batch.
#[derive(Debug)]
struct Retiring {
    seq: u64,
    halves: Vec<u32>,
}

#[derive(Debug, Default)]
pub(super) struct Halves {
    entries: Vec<Option<Half>>,
    free: Vec<u32>,
    by_key: HashMap<HalfKey<u32>, u32>,
    dirty: Vec<u32>,
    ending: Vec<u32>,
    retiring: VecDeque<Retiring>,
}

impl Halves {
    pub(super) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() >= MOST_HALVES
    }

    pub(super) fn by_key(&self, key: &HalfKey<u32>) -> Option<u32> {
        self.by_key.get(key).copied()
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut Half> {
        self.entries.get_mut(id as usize)?.as_mut()
    }

    /// Adds a half; the caller has made sure that there is room and no other with its key.
    pub(super) fn insert(&mut self, half: Half) -> u32 {
        let key = half.key;
        let id = match self.free.pop() {
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
        };
        self.by_key.insert(key, id);
        id
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

    /// Finds halves that ended.
    pub(super) fn expire(&mut self, now: Instant) {
        for (id, half) in (0..).zip(&mut self.entries) {
            let Some(half) = half else { continue };
            let over = half.slots == 0 && now.duration_since(half.changed) >= IDLE;
            // One that is not in the table by key is being retired already.
            if over && !half.dirty && !half.ending && self.by_key.get(&half.key) == Some(&id) {
                half.ending = true;
                self.ending.push(id);
            }
        }
    }

    /// Halves to be retired in the batch with this number. A half that changes from now on is
    /// a new one.
    pub(super) fn retire(&mut self, seq: u64) -> Vec<u32> {
        let mut ended = Vec::new();
        for id in std::mem::take(&mut self.ending) {
            let Some(half) = self.entries.get_mut(id as usize).and_then(Option::as_mut) else {
                continue;
            };
            if half.ending {
                half.ending = false;
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

    /// A new stream knows no half: all are to be defined, with their totals. Retirements that
    /// were not taken over are undone.
    pub(super) fn restart(&mut self, mut forget: impl FnMut(Half)) {
        for id in std::mem::take(&mut self.retiring).into_iter().flat_map(|r| r.halves) {
            let Some(key) = self.get_mut(id).map(|half| half.key) else { continue };
            let Some(successor) = self.by_key(&key) else {
                self.by_key.insert(key, id);
                continue;
            };
            // The receiver never heard that the first ended, so to it they are one.
            let Some(ended) = self.remove(id) else { continue };
            if let Some(successor) = self.get_mut(successor) {
                successor.merge(&ended);
            }
            forget(ended);
        }
        self.ending.clear();
        self.dirty.clear();
        for (id, half) in (0..).zip(&mut self.entries) {
            if let Some(half) = half {
                half.defined = false;
                half.ending = false;
                half.dirty = true;
                self.dirty.push(id);
            }
        }
    }

    fn remove(&mut self, id: u32) -> Option<Half> {
        let half = self.entries.get_mut(id as usize)?.take()?;
        self.free.push(id);
        Some(half)
    }
}
