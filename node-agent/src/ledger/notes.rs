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
        if self.put(&frame, reserved) {
            return true;
        }
        if self.refusing > 0 {
            self.refusing -= 1;
            return false;
        }
        if self.rewrite() && self.put(&frame, reserved) {
            return true;
        }
        tracing::warn!("the ledger of the pinned programs is full");
        self.refusing = PATIENCE;
        false
    }

    fn put(&mut self, frame: &[u8], reserved: usize) -> bool {
        let (area, len) = store::split(self.active);
        let size = store::area_bytes(&*self.store);
        if len + frame.len() + reserved > size {
            return false;
        }
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
            workload: link.workload.as_ref(),
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
        // Whoever folds clears before the next note, so nothing is left to be cleared.
        self.cleared();
        true
    }
}
