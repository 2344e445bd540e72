//! Writing notes, and writing anew what still matters when an area is full.

use topology::model::Workload;

use super::{
    Ledger,
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
        if self.has(bytes) {
            return true;
        }
        if self.refusing > 0 {
            self.refusing -= 1;
            return false;
        }
        if self.rewrite() && self.has(bytes) {
            return true;
        }
        tracing::warn!("the ledger of the pinned programs is full");
        self.refusing = PATIENCE;
        false
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
    fn rewrite(&mut self) -> bool {
        let (area, _) = store::split(self.active);
        let other = 1 - area;
        let (start, size) =
            (store::area_start(&*self.store, other), store::area_bytes(&*self.store));
        let mut len = 0;
        let links = self.links.iter().map(|(slot, link)| Record::Linked {
            slot: *slot,
            owner: link.owner,
            half: record::borrowed(&link.half),
            birth: link.birth,
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
        self.active = store::join(other, len);
        self.store.set(Word::Active, self.active);
        // All that there is to note is noted, whatever could not be before.
        self.store.set(Word::Broken, 0);
        // Whoever folds clears before the next note, so nothing is left to be cleared.
        self.cleared();
        true
    }
}
