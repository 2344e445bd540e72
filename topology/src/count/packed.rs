//! A step of the history as bytes: most numbers of most edges are 0 or small.
//!
//! An entry is its index less that of the one before, what it has of the following, its open connections, its numbers,
//! and of each histogram how many numbers follow and these: the distance to the bucket before, and the count, as
//! one number where the count is small. Nearly all buckets take one byte so. Histories of before have, of each histogram,
//! how many buckets follow, and of each its number and its count.

use common::{HISTOGRAMS, HistogramKind};

use super::edges::Seen;
use crate::{
    base::{
        sheet::{Gains, Sheet},
        totals::{EdgeTotals, MEASURES, Measure},
    },
    who::basis::Basis,
};

const CLIENT: u64 = 1 << 30;
const SERVER: u64 = 1 << 31;
const OPEN: u64 = 1 << 29;
/// Buckets are written as distances.
const DISTANCES: u64 = 1 << 24;
/// Where the four bits with the evidence begin.
const BASIS: u32 = 25;
/// A bit for each number that there is, and for each histogram.
const VALUES: u64 = (1 << MEASURES) - 1;
const SAMPLES: u64 = ((1 << HISTOGRAMS) - 1) << MEASURES;

/// Bits of a sample's number that are its count. Where they are 0, the count is too large for them, and follows.
const COUNT_BITS: u32 = 3;
const COUNT: u64 = (1 << COUNT_BITS) - 1;

/// The highest bit of each byte, which a number has in all of its bytes but the last.
const HIGHEST: u64 = 0x8080_8080_8080_8080;

/// What an edge has in a step.
#[derive(Debug, Default)]
pub struct Entry {
    /// Which edge, by a number that means something to whoever packed it.
    pub index: usize,
    /// What it gained.
    pub totals: EdgeTotals,
    /// Who reported it.
    pub seen: Seen,
    /// Connections open at the end of the step.
    pub open: u64,
}

/// What an entry begins with; what it gained follows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) index: usize,
    pub(crate) seen: Seen,
    pub(crate) open: u64,
    mask: u64,
}

impl Head {
    /// Whether any number or histogram has gained.
    pub(crate) const fn has_any(&self) -> bool {
        self.mask & (VALUES | SAMPLES) > 0
    }
}

/// Writes entries in ascending order of their index.
#[derive(Debug, Default)]
pub struct Packer {
    bytes: Vec<u8>,
    last: u64,
    /// The samples of one histogram.
    samples: Vec<u8>,
}

impl Packer {
    /// Adds an entry.
    pub fn put(&mut self, index: usize, totals: &EdgeTotals, seen: Seen, open: u64) {
        let samples = HistogramKind::ALL.map(|kind| totals.histogram(kind).iter());
        self.write(index, totals.values(), samples, (seen, open));
    }

    /// Adds an entry with nothing open.
    pub(crate) fn put_sheet(&mut self, index: usize, sheet: &Sheet, seen: Seen) {
        let samples = HistogramKind::ALL.map(|kind| sheet.samples(kind));
        self.write(index, sheet.values(), samples, (seen, 0));
    }

    #[inline]
    fn write(
        &mut self,
        index: usize,
        values: &[u64; MEASURES],
        samples: [impl Iterator<Item = (u16, u64)> + Clone; HISTOGRAMS],
        (seen, open): (Seen, u64),
    ) {
        let index = index as u64;
        let distance = index.wrapping_sub(self.last);
        self.last = index;
        let mut mask = DISTANCES;
        for (at, value) in values.iter().enumerate() {
            mask |= u64::from(*value > 0) << at;
        }
        for (at, samples) in samples.iter().enumerate() {
            mask |= u64::from(samples.clone().next().is_some()) << (MEASURES + at);
        }
        for (flag, set) in [(CLIENT, seen.client), (SERVER, seen.server), (OPEN, open > 0)] {
            mask |= if set { flag } else { 0 };
        }
        mask |= seen.by.number() << BASIS;
        write(&mut self.bytes, distance);
        write(&mut self.bytes, mask);
        for number in [open].iter().chain(values).filter(|number| **number > 0) {
            write(&mut self.bytes, *number);
        }
        for (at, samples) in samples.into_iter().enumerate() {
            if mask & (1 << (MEASURES + at)) > 0 {
                self.write_samples(samples);
            }
        }
    }

    #[inline]
    fn write_samples(&mut self, samples: impl Iterator<Item = (u16, u64)>) {
        self.samples.clear();
        let (mut numbers, mut next) = (0, 0);
        for (bucket, count) in samples {
            let distance = u64::from(bucket - next) << COUNT_BITS;
            next = bucket + 1;
            if count <= COUNT {
                write(&mut self.samples, distance | count);
                numbers += 1;
            } else {
                write(&mut self.samples, distance);
                write(&mut self.samples, count);
                numbers += 2;
            }
        }
        write(&mut self.bytes, numbers);
        self.bytes.extend_from_slice(&self.samples);
    }

    /// The bytes.
    #[must_use]
    pub fn finish(self) -> Box<[u8]> {
        self.bytes.into_boxed_slice()
    }
}

/// Writes a number, seven bits a byte, the lowest first.
#[inline]
fn write(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// Reads what a [`Packer`] wrote.
pub struct Unpacker<'a> {
    bytes: &'a [u8],
    last: u64,
}

impl<'a> Unpacker<'a> {
    /// Begins at the first entry.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Unpacker { bytes, last: 0 }
    }

    /// Reads the next entry into `entry`; `None` at the end, and where bytes make no sense.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self, entry: &mut Entry) -> Option<()> {
        let head = self.head()?;
        (entry.index, entry.seen, entry.open) = (head.index, head.seen, head.open);
        entry.totals.clear();
        self.add_values(&head, &mut entry.totals)?;
        self.add_samples(&head, &mut entry.totals)
    }

    /// Reads how the next entry begins. Its values are to be read or passed over next, then its samples.
    #[inline]
    pub(crate) fn head(&mut self) -> Option<Head> {
        self.last = self.last.wrapping_add(self.number()?);
        let mask = self.number()?;
        let seen = Seen {
            client: mask & CLIENT > 0,
            server: mask & SERVER > 0,
            by: Basis::of_number(mask >> BASIS & 0xf),
        };
        let open = if mask & OPEN > 0 { self.number()? } else { 0 };
        Some(Head { index: self.last as usize, seen, open, mask })
    }

    /// Adds the numbers of the entry that was begun.
    #[inline]
    pub(crate) fn add_values(&mut self, head: &Head, to: &mut impl Gains) -> Option<()> {
        for measure in Measure::ALL {
            if head.mask & (1 << measure.index()) > 0 {
                to.gain(measure, self.number()?);
            }
        }
        Some(())
    }

    /// Adds the samples of the entry whose numbers were read.
    #[inline]
    pub(crate) fn add_samples(&mut self, head: &Head, to: &mut impl Gains) -> Option<()> {
        for kind in HistogramKind::ALL {
            if head.mask & (1 << (MEASURES + kind.index())) > 0 {
                if head.mask & DISTANCES > 0 {
                    self.add_distances(kind, to)?;
                } else {
                    self.add_buckets(kind, to)?;
                }
            }
        }
        Some(())
    }

    #[inline]
    fn add_distances(&mut self, kind: HistogramKind, to: &mut impl Gains) -> Option<()> {
        let (mut numbers, mut next) = (self.number()?, 0_u64);
        while numbers > 0 {
            let number = self.number()?;
            let bucket = next + (number >> COUNT_BITS);
            next = u64::from(u16::try_from(bucket).ok()?) + 1;
            numbers -= 1;
            let mut count = number & COUNT;
            if count == 0 {
                count = self.number()?;
                numbers = numbers.checked_sub(1)?;
            }
            to.gain_samples(kind, bucket as u16, count);
        }
        Some(())
    }

    fn add_buckets(&mut self, kind: HistogramKind, to: &mut impl Gains) -> Option<()> {
        for _ in 0..self.number()? {
            let bucket = u16::try_from(self.number()?).ok()?;
            to.gain_samples(kind, bucket, self.number()?);
        }
        Some(())
    }

    /// Passes over the numbers of the entry that was begun.
    #[inline]
    pub(crate) fn pass_values(&mut self, head: &Head) -> Option<()> {
        self.pass(u64::from((head.mask & VALUES).count_ones()))
    }

    /// Passes over the samples of the entry whose numbers were read.
    #[inline]
    pub(crate) fn pass_samples(&mut self, head: &Head) -> Option<()> {
        for _ in 0..(head.mask & SAMPLES).count_ones() {
            let numbers = self.number()?;
            let each = if head.mask & DISTANCES > 0 { 1 } else { 2 };
            self.pass(numbers.saturating_mul(each))?;
        }
        Some(())
    }

    /// Passes over so many numbers, most of them eight bytes at a time.
    #[inline]
    fn pass(&mut self, mut numbers: u64) -> Option<()> {
        while numbers >= 8
            && let Some((word, rest)) = self.bytes.split_first_chunk()
        {
            // Only where all eight end in it, none is begun.
            numbers -= u64::from((!u64::from_le_bytes(*word) & HIGHEST).count_ones());
            self.bytes = rest;
        }
        for _ in 0..numbers {
            self.number()?;
        }
        Some(())
    }

    #[inline]
    fn number(&mut self) -> Option<u64> {
        let (byte, rest) = self.bytes.split_first()?;
        if byte & 0x80 > 0 {
            return self.long_number();
        }
        // Most are that short.
        self.bytes = rest;
        Some(u64::from(*byte))
    }

    fn long_number(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.bytes.split_first()?;
            self.bytes = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn totals() -> impl Strategy<Value = EdgeTotals> {
        let values = proptest::collection::vec((0..MEASURES, any::<u64>()), 0..6);
        let buckets = proptest::collection::vec((0..3_usize, 0_u16..320, any::<u64>()), 0..9);
        (values, buckets).prop_map(|(values, buckets)| {
            let mut totals = EdgeTotals::default();
            for (measure, value) in values {
                totals.add(Measure::ALL[measure], value);
            }
            for (kind, bucket, count) in buckets {
                totals.add_bucket(HistogramKind::ALL[kind], bucket, count);
            }
            totals
        })
    }

    #[test]
    fn what_was_packed_before_comes_back() {
        let connections = 1 << Measure::Connections.index();
        let samples = 1 << (MEASURES + HistogramKind::Connect.index());
        let mut packer = Packer::default();
        for _ in 0..2 {
            // The index, what there is, connections, two buckets.
            for number in [3, CLIENT | connections | samples, 5, 2, 17, 200, 300, 1] {
                write(&mut packer.bytes, number);
            }
        }
        let bytes = packer.finish();
        let (mut unpacker, mut entry) = (Unpacker::new(&bytes), Entry::default());
        assert_eq!(unpacker.next(&mut entry), Some(()));
        assert_eq!((entry.index, entry.totals.get(Measure::Connections)), (3, 5));
        let histogram = entry.totals.histogram(HistogramKind::Connect);
        assert_eq!(histogram.iter().collect::<Vec<_>>(), [(17, 200), (300, 1)]);
        let head = unpacker.head().unwrap();
        unpacker.pass_values(&head).unwrap();
        assert_eq!((head.index, unpacker.pass_samples(&head)), (6, Some(())));
        assert!(unpacker.head().is_none());
    }

    proptest! {
        #[test]
        fn what_is_packed_comes_back(
            entries in proptest::collection::btree_map(
                0_usize..1 << 30,
                (totals(), any::<bool>(), any::<bool>(), 0_u64..9, 0_u64..10),
                0..20,
            ),
        ) {
            let mut packer = Packer::default();
            for (index, (totals, client, server, open, by)) in &entries {
                let by = Basis::of_number(*by);
                packer.put(*index, totals, Seen { client: *client, server: *server, by }, *open);
            }
            let bytes = packer.finish();
            let mut unpacker = Unpacker::new(&bytes);
            let mut entry = Entry::default();
            for (index, (totals, client, server, open, by)) in entries {
                prop_assert_eq!(unpacker.next(&mut entry), Some(()));
                prop_assert_eq!((entry.index, entry.open), (index, open));
                let by = Basis::of_number(by);
                prop_assert_eq!(entry.seen, Seen { client, server, by });
                prop_assert_eq!(&entry.totals, &totals);
            }
            prop_assert_eq!(unpacker.next(&mut entry), None);
        }

        #[test]
        fn what_is_passed_over_is_not_read(
            entries in proptest::collection::vec((totals(), any::<bool>(), any::<bool>()), 0..20),
        ) {
            let mut packer = Packer::default();
            for (index, (totals, ..)) in entries.iter().enumerate() {
                packer.put(3 * index, totals, Seen::default(), index as u64);
            }
            let bytes = packer.finish();
            let mut unpacker = Unpacker::new(&bytes);
            for (index, (totals, values, samples)) in entries.iter().enumerate() {
                let head = unpacker.head().unwrap();
                prop_assert_eq!((head.index, head.open), (3 * index, index as u64));
                let has_any = HistogramKind::ALL.iter().any(|kind| !totals.histogram(*kind).is_empty());
                let has_any = has_any || totals.values().iter().any(|value| *value > 0);
                prop_assert_eq!(head.has_any(), has_any);
                let mut read = EdgeTotals::default();
                let was_read = if *values {
                    unpacker.add_values(&head, &mut read)
                } else {
                    unpacker.pass_values(&head)
                };
                prop_assert_eq!(was_read, Some(()));
                let was_read = if *samples {
                    unpacker.add_samples(&head, &mut read)
                } else {
                    unpacker.pass_samples(&head)
                };
                prop_assert_eq!(was_read, Some(()));
                for measure in Measure::ALL {
                    prop_assert_eq!(read.get(measure), if *values { totals.get(measure) } else { 0 });
                }
                for kind in HistogramKind::ALL {
                    let expected = samples.then(|| totals.histogram(kind).clone());
                    prop_assert_eq!(read.histogram(kind), &expected.unwrap_or_default());
                }
            }
            prop_assert!(unpacker.head().is_none());
        }

        #[test]
        fn broken_bytes_end(bytes: Vec<u8>) {
            let mut unpacker = Unpacker::new(&bytes);
            let mut entry = Entry::default();
            while unpacker.next(&mut entry).is_some() {}
            let mut unpacker = Unpacker::new(&bytes);
            while let Some(head) = unpacker.head() {
                if unpacker.pass_values(&head).and_then(|()| unpacker.pass_samples(&head)).is_none() {
                    break;
                }
            }
        }
    }
}
