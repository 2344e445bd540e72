//! Numbers while they are added up: each bucket has a place of its own, so that adding is an addition.

use common::{BUCKETS, HISTOGRAMS, HistogramKind};

use super::{
    histogram::{Histogram, MOST},
    totals::{EdgeTotals, MEASURES, Measure},
};

/// What numbers and samples can be added to.
pub(crate) trait Gains {
    /// Adds to one number.
    fn gain(&mut self, measure: Measure, value: u64);

    /// Adds samples to one histogram. A bucket above the last is the last.
    fn gain_samples(&mut self, kind: HistogramKind, bucket: u16, count: u64);
}

impl Gains for EdgeTotals {
    #[inline]
    fn gain(&mut self, measure: Measure, value: u64) {
        self.add(measure, value);
    }

    #[inline]
    fn gain_samples(&mut self, kind: HistogramKind, bucket: u16, count: u64) {
        self.add_bucket(kind, bucket, count);
    }
}

/// What edges have counted, while it is added up.
#[derive(Default)]
pub(crate) struct Sheet {
    values: [u64; MEASURES],
    /// By [`HistogramKind::index`].
    spans: [Span; HISTOGRAMS],
}

/// Counts of neighbouring buckets.
struct Span {
    /// Bucket of the first count.
    first: u16,
    counts: Vec<u64>,
    /// The lowest and the highest bucket that has any; the other way round when none has.
    low: u16,
    high: u16,
}

/// Buckets for which room is made at a time.
const BLOCK: u16 = 32;

impl Gains for Sheet {
    #[inline]
    fn gain(&mut self, measure: Measure, value: u64) {
        let mine = &mut self.values[measure.index()];
        *mine = mine.saturating_add(value);
    }

    #[inline]
    fn gain_samples(&mut self, kind: HistogramKind, bucket: u16, count: u64) {
        self.spans[kind.index()].add(bucket.min(BUCKETS as u16 - 1), count);
    }
}

impl Sheet {
    /// All numbers, by [`Measure::index`].
    pub(crate) const fn values(&self) -> &[u64; MEASURES] {
        &self.values
    }

    /// Buckets of one histogram and their counts, ascending, none of them 0.
    pub(crate) fn samples(&self, kind: HistogramKind) -> impl Iterator<Item = (u16, u64)> + Clone {
        let (first, counts) = self.spans[kind.index()].counts();
        (first..).zip(counts.iter().copied()).filter(|(_, count)| *count > 0)
    }

    /// Adds everything of `totals`.
    pub(crate) fn add(&mut self, totals: &EdgeTotals) {
        for (mine, theirs) in self.values.iter_mut().zip(totals.values()) {
            *mine = mine.saturating_add(*theirs);
        }
        for kind in HistogramKind::ALL {
            totals.histogram(kind).iter().for_each(|(bucket, count)| {
                self.gain_samples(kind, bucket, count);
            });
        }
    }

    /// Takes out what was added up; the memory stays.
    pub(crate) fn take(&mut self) -> EdgeTotals {
        let histograms = std::array::from_fn(|kind| {
            let (first, counts) = self.spans[kind].counts();
            Histogram::of_counts(first, counts)
        });
        let totals = EdgeTotals::of(self.values, histograms);
        self.clear();
        totals
    }

    /// Sets everything to 0, keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.values = [0; MEASURES];
        self.spans.iter_mut().for_each(Span::clear);
    }
}

impl Default for Span {
    fn default() -> Self {
        Span { first: 0, counts: Vec::new(), low: u16::MAX, high: 0 }
    }
}

impl Span {
    #[inline]
    fn add(&mut self, bucket: u16, count: u64) {
        if count == 0 {
            return;
        }
        (self.low, self.high) = (self.low.min(bucket), self.high.max(bucket));
        // One before the first wraps to far beyond the last.
        let at = usize::from(bucket.wrapping_sub(self.first));
        let known = match self.counts.get_mut(at) {
            Some(known) => known,
            None => self.reach(bucket),
        };
        *known = known.saturating_add(count).min(MOST);
    }

    /// Makes room for a bucket.
    #[cold]
    fn reach(&mut self, bucket: u16) -> &mut u64 {
        let block = bucket / BLOCK * BLOCK;
        if self.counts.is_empty() {
            self.first = block;
        }
        let before = usize::from(self.first.saturating_sub(block));
        self.counts.splice(0..0, std::iter::repeat_n(0, before));
        self.first = self.first.min(block);
        let length = usize::from(block - self.first + BLOCK).max(self.counts.len());
        self.counts.resize(length, 0);
        &mut self.counts[usize::from(bucket - self.first)]
    }

    /// From the lowest bucket that has any to the highest.
    fn counts(&self) -> (u16, &[u64]) {
        if self.low > self.high {
            return (0, &[]);
        }
        let [from, to] = [self.low, self.high].map(|bucket| usize::from(bucket - self.first));
        (self.low, &self.counts[from..=to])
    }

    fn clear(&mut self) {
        if self.low <= self.high {
            let [from, to] = [self.low, self.high].map(|bucket| usize::from(bucket - self.first));
            self.counts[from..=to].fill(0);
        }
        (self.low, self.high) = (u16::MAX, 0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is gained: one of the numbers, or samples.
    fn gains() -> impl Strategy<Value = Vec<(usize, u16, u64)>> {
        let count = (any::<u64>(), prop_oneof![Just(60_u32), Just(50), Just(20), Just(0)]);
        let count = count.prop_map(|(count, shift)| count >> shift);
        proptest::collection::vec((0..MEASURES + HISTOGRAMS, 0_u16..400, count), 0..40)
    }

    fn gain(to: &mut impl Gains, gains: &[(usize, u16, u64)]) {
        for (at, bucket, count) in gains {
            match Measure::ALL.get(*at) {
                Some(measure) => to.gain(*measure, *count),
                None => to.gain_samples(HistogramKind::ALL[at - MEASURES], *bucket, *count),
            }
        }
    }

    proptest! {
        #[test]
        fn a_sheet_adds_up_to_the_same(all in proptest::collection::vec(gains(), 1..5)) {
            let mut sheet = Sheet::default();
            for gains in &all {
                let mut plain = EdgeTotals::default();
                gain(&mut plain, gains);
                gain(&mut sheet, gains);
                for kind in HistogramKind::ALL {
                    prop_assert!(sheet.samples(kind).eq(plain.histogram(kind).iter()));
                }
                prop_assert_eq!(sheet.values(), plain.values());
                // Nothing of it is left for the next one.
                prop_assert_eq!(sheet.take(), plain);
            }
        }
    }
}
