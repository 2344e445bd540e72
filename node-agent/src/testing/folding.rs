//! An aggregator that has no room: it counts all halves together.

use common::{Counter, HistogramKind};
use proto::{
    columns::{Visitor, decode},
    v1::{self, SectionKind},
};

/// All bytes sent. Of totals, which prefaces tell again, they must be the sum.
#[derive(Clone, Debug, Default)]
pub(crate) struct Folding {
    /// What was counted; never falls.
    pub(crate) bytes: u64,
    /// What halves had counted that ended.
    before: u64,
    /// What the preface has told so far; and of it, what has ended.
    told: (u64, u64),
}

impl Folding {
    /// A stream begins.
    pub(crate) fn restart(&mut self) {
        self.told = (0, 0);
    }

    /// Applies a batch with new numbers.
    pub(crate) fn apply(&mut self, batch: &v1::Batch) {
        for section in &batch.sections {
            let mut bytes = Bytes(0);
            let kind = SectionKind::try_from(section.kind as i32).unwrap();
            use SectionKind::{EndedTotals, Increments, Totals};
            if matches!(kind, Totals | Increments | EndedTotals) {
                decode(&section.payload, &mut bytes).unwrap();
            }
            match kind {
                Totals if batch.preface => self.told.0 += bytes.0,
                Totals | Increments => self.bytes += bytes.0,
                EndedTotals if batch.preface => self.told.1 += bytes.0,
                EndedTotals => self.before += bytes.0,
                _ => {}
            }
        }
        if batch.preface && !batch.more {
            let (all, ended) = self.told;
            self.bytes = self.bytes.max(self.before + all);
            self.before += ended;
            self.told = (0, 0);
        }
    }
}

struct Bytes(u64);

impl Visitor for Bytes {
    fn half(&mut self, _: u32) {}
    fn counter(&mut self, _: u32, counter: Counter, value: u64) {
        if counter == Counter::BytesSent {
            self.0 += value;
        }
    }
    fn bucket(&mut self, _: u32, _: HistogramKind, _: u16, _: u64) {}
}
