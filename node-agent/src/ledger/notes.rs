//! Writing notes, and writing anew what still matters when an area is full.

use std::collections::{HashMap, hash_map::Entry};

use topology::model::Workload;

use super::{
    Key, LEAST, Ledger,
    record::{self, Record},
    store::{self, Word},
};

/// Once what matters fills nearly a whole area, notes are refused this often before it is looked at again.
const PATIENCE: u32 = 4_096;

impl Ledger {
    /// Appends a note, unless less than `reserved` bytes would be left. Returns whether it is there.
    pub(super) fn append(&mut self, note: &Record<&Workload>, reserved: usize) -> bool {
        let Some(frame) = note.frame() else { return false };
        self.make_room(frame.len() + reserved) && self.put(&frame)
    }

    /// Whether there is room for so many bytes, which is made if need be.
    pub(super) fn make_room(&mut self, bytes: usize) -> bool {
        if !self.tight && store::split(self.active).1 >= self.check_at {
            // How much of it matters is known only then.
            self.rewrite();
        }
        if self.has(bytes) {
            return true;
        }
        let (times, of_bytes) = self.refusing;
        if times > 0 && bytes >= of_bytes {
            self.refusing.0 -= 1;
            return false;
        }
        if self.rewrite() && self.has(bytes) {
            return true;
        }
        tracing::warn!("the ledger of the pinned programs is full");
        self.refusing = (PATIENCE, bytes);
        false
    }

    /// Bytes of an area that are not for new halves.
    pub(super) fn spare(&self) -> usize {
        (store::area_bytes(&*self.store) / 4).max(3 * LEAST)
    }

    fn has(&self, bytes: usize) -> bool {
        store::split(self.active).1 + bytes <= store::area_bytes(&*self.store)
    }

    fn put(&mut self, frame: &[u8]) -> bool {
        let (area, len) = store::split(self.active);
        self.store.write(store::area_start(&*self.store, area) + len, frame);
        self.active = store::join(area, len + frame.len());
        self.store.set(Word::Active, self.active);
        true
    }

    /// Writes what still matters into the other area. Returns whether it fits.
    pub(super) fn rewrite(&mut self) -> bool {
        let (area, _) = store::split(self.active);
        let other = 1 - area;
        let (start, size) =
            (store::area_start(&*self.store, other), store::area_bytes(&*self.store));
        let mut len = 0;
        let mut first: HashMap<(&Key, u64), u32> = HashMap::new();
        // Low numbers take less room.
        let mut links: Vec<_> = self.links.iter().collect();
        links.sort_unstable_by_key(|(slot, _)| **slot);
        let links = links.into_iter().map(|(slot, link)| {
            let (slot, owner, birth) = (*slot, link.owner, link.birth);
            match first.entry((&link.half, birth)) {
                Entry::Occupied(first) => Record::Alike { slot, owner, like: *first.get() },
                Entry::Vacant(first) => {
                    first.insert(slot);
                    Record::Linked { slot, owner, half: record::borrowed(&link.half), birth }
                }
            }
        });
        let retired = self.retired.iter().flat_map(|(seq, half, values)| {
            let half = record::borrowed(half);
            [record::folded(half, values), Record::Retired { seq: *seq, half }]
        });
        let live = self.live.iter();
        let live = live.map(|(half, values)| record::folded(record::borrowed(half), values));
        for note in retired.chain(live).chain(links) {
            let Some(frame) = note.frame() else { return false };
            if len + frame.len() > size {
                return false;
            }
            self.store.write(start + len, &frame);
            len += frame.len();
        }
        let spare = self.spare();
        let tight = len + spare > size;
        if tight && !self.tight {
            tracing::warn!(
                "the ledger of the pinned programs is nearly full: new halves are counted together"
            );
        }
        self.tight = tight;
        self.check_at = (size - spare.min(size)).max(len + spare / 2);
        self.active = store::join(other, len);
        self.store.set(Word::Active, self.active);
        // All that there is to note is noted, whatever could not be before.
        self.store.set(Word::Broken, 0);
        // Whoever folds clears before the next note, so nothing is left to be cleared.
        self.cleared();
        true
    }
}
