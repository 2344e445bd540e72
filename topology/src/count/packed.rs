//! A step of the history as bytes: most numbers of most edges are 0 or small.
//!
//! An entry is its index less that of the one before, what it has of the following (0 where that is the same as in the one
//! before), its open connections, its numbers, and of each histogram how many bytes follow and, in these, the distance of
//! each bucket to the one before and its count, in as many bits as they need (`base/bits.rs`). A bucket takes four or five
//! bits so. Histories of before have, of each histogram, how many numbers follow and these: the distance and the count, as
//! one number where the count is small; those of before that, how many buckets follow, and of each its number and its count.

use common::{HISTOGRAMS, HistogramKind};

use super::edges::Seen;
use crate::{
    base::{
        bits::{BitReader, BitWriter},
        sheet::{Gains, Sheet},
        totals::{EdgeTotals, MEASURES, Measure},
    },
    who::basis::Basis,
};

const CLIENT: u64 = 1 << 30;
const SERVER: u64 = 1 << 31;
const OPEN: u64 = 1 << 29;
/// Buckets are written as distances, in bytes or in bits.
const DISTANCES: u64 = 1 << 24;
const BITS: u64 = 1 << 23;
/// Where the four bits with the evidence begin.
const BASIS: u32 = 25;
/// A bit for each number that there is, and for each histogram.
const VALUES: u64 = (1 << MEASURES) - 1;
const SAMPLES: u64 = ((1 << HISTOGRAMS) - 1) << MEASURES;

/// Bits of a sample's number, in bytes, that are its count. Where they are 0, the count is too large for them, and follows.
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

/// An entry as it is packed, but for its index.
#[derive(Clone, Copy, Debug)]
pub struct Raw<'a> {
    mask: u64,
    bytes: &'a [u8],
}

impl Raw<'_> {
    /// Who reported it, and what was open at the end of the step.
    #[must_use]
    pub fn seen_and_open(&self) -> (Seen, u64) {
        let head = self.unpacker().rest_of_head();
        head.map_or_else(Default::default, |head| (head.seen, head.open))
    }

    /// Adds what it gained to a sum, as far as it can be read.
    pub fn add_to(&self, totals: &mut EdgeTotals) {
        let mut unpacker = self.unpacker();
        if let Some(head) = unpacker.rest_of_head()
            && unpacker.add_values(&head, totals).is_some()
        {
            let _ = unpacker.add_samples(&head, totals);
        }
    }

    const fn unpacker(&self) -> Unpacker<'_> {
        Unpacker { mask: self.mask, ..Unpacker::new(self.bytes) }
    }
}

/// Writes entries in ascending order of their index.
#[derive(Debug, Default)]
pub struct Packer {
    bytes: Vec<u8>,
    last: u64,
    mask: u64,
    /// The samples of one histogram.
    samples: Vec<u8>,
}

impl Packer {
    /// Goes on behind what there is.
    #[must_use]
    pub fn behind(bytes: Vec<u8>) -> Self {
        Packer { bytes, ..Packer::default() }
    }

    /// Adds an entry that was packed before.
    pub fn put_raw(&mut self, index: usize, raw: Raw<'_>) {
        self.begin(index, raw.mask);
        self.bytes.extend_from_slice(raw.bytes);
    }

    fn begin(&mut self, index: usize, mask: u64) {
        let index = index as u64;
        write(&mut self.bytes, index.wrapping_sub(self.last));
        self.last = index;
        let same = std::mem::replace(&mut self.mask, mask) == mask;
        write(&mut self.bytes, if same { 0 } else { mask });
    }

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
        let mut mask = BITS;
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
        self.begin(index, mask);
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
        let (mut bits, mut next) = (BitWriter::new(&mut self.samples), 0);
        for (bucket, count) in samples {
            bits.put(u64::from(bucket - next) + 1);
            bits.put(count);
            next = bucket + 1;
        }
        bits.end();
        write(&mut self.bytes, self.samples.len() as u64);
        self.bytes.extend_from_slice(&self.samples);
    }

    /// The bytes.
    #[must_use]
    pub fn finish(self) -> Box<[u8]> {
        self.bytes.into_boxed_slice()
    }

    /// The bytes, with what they are behind.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
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
    mask: u64,
}

impl<'a> Unpacker<'a> {
    /// Begins at the first entry.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Unpacker { bytes, last: 0, mask: 0 }
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
        self.begin()?;
        self.rest_of_head()
    }

    /// Reads the next entry as it is packed: its index, and the rest.
    pub fn next_raw(&mut self) -> Option<(usize, Raw<'a>)> {
        self.raw().map(|(head, raw)| (head.index, raw))
    }

    /// Reads the next entry as it is packed, and how it begins.
    pub(crate) fn raw(&mut self) -> Option<(Head, Raw<'a>)> {
        self.begin()?;
        let begin = self.bytes;
        let head = self.rest_of_head()?;
        self.pass_values(&head)?;
        self.pass_samples(&head)?;
        let bytes = begin.get(..begin.len() - self.bytes.len())?;
        Some((head, Raw { mask: head.mask, bytes }))
    }

    #[inline]
    fn begin(&mut self) -> Option<()> {
        self.last = self.last.wrapping_add(self.number()?);
        match self.number()? {
            0 => {}
            mask => self.mask = mask,
        }
        Some(())
    }

    #[inline]
    fn rest_of_head(&mut self) -> Option<Head> {
        let mask = self.mask;
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
                if head.mask & BITS > 0 {
                    self.add_bits(kind, to)?;
                } else if head.mask & DISTANCES > 0 {
                    self.add_distances(kind, to)?;
                } else {
                    self.add_buckets(kind, to)?;
                }
            }
        }
        Some(())
    }

    #[inline]
    fn add_bits(&mut self, kind: HistogramKind, to: &mut impl Gains) -> Option<()> {
        let (mut bits, mut next) = (BitReader::new(self.samples()?), 0_u64);
        while let Some((distance, count)) = bits.pair() {
            let bucket = next.checked_add(distance.checked_sub(1)?)?;
            next = bucket.checked_add(1)?;
            to.gain_samples(kind, u16::try_from(bucket).ok()?, count);
        }
        bits.is_over().then_some(())
    }

    /// The bytes of a histogram.
    #[inline]
    fn samples(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (samples, rest) = self.bytes.split_at_checked(length)?;
        self.bytes = rest;
        Some(samples)
    }

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
            if head.mask & BITS > 0 {
                self.samples()?;
                continue;
            }
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
mod tests;
