//! Columns as rows: all of a section, checked, before anything of it counts.

use common::{Counter, HistogramKind};

use super::{DecodeError, Visitor, decode};

/// The records of a section in ascending order of their halves. Some 100 bytes for one of 4 counters and 3 samples.
#[derive(Debug, Default)]
pub struct Records {
    /// Half of each record, and where its counters and samples begin.
    rows: Vec<(u32, u32, u32)>,
    counters: Vec<(Counter, u64)>,
    samples: Vec<(HistogramKind, u16, u64)>,
}

/// What a section has of a half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Id of the half.
    pub half: u32,
    /// Each counter at most once.
    pub counters: &'a [(Counter, u64)],
    /// Samples by kind and bucket.
    pub samples: &'a [(HistogramKind, u16, u64)],
}

impl Records {
    /// Reads columns, as [`decode`] does.
    ///
    /// # Errors
    /// Those of [`decode`].
    pub fn read(payload: &[u8]) -> Result<Self, DecodeError> {
        let mut records = Records::default();
        decode(payload, &mut records)?;
        Ok(records)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// One after the other.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Record<'_>> {
        let (mut counters, mut samples) = (self.counters.as_slice(), self.samples.as_slice());
        let (mut from_counter, mut from_sample) = (0, 0);
        let mut begins = self.rows.iter().skip(1);
        self.rows.iter().map(move |(half, ..)| {
            // All that is left is the last one's.
            let (_, counter, sample) = begins.next().copied().unwrap_or((0, u32::MAX, u32::MAX));
            let (counted, sampled) = (counter - from_counter, sample - from_sample);
            (from_counter, from_sample) = (counter, sample);
            Record {
                half: *half,
                counters: front(&mut counters, counted),
                samples: front(&mut samples, sampled),
            }
        })
    }
}

/// Takes as many off the front, or all that are there.
#[inline]
fn front<'a, T>(rest: &mut &'a [T], count: u32) -> &'a [T] {
    let (front, back) = rest.split_at_checked(count as usize).unwrap_or((rest, &[]));
    *rest = back;
    front
}

impl Visitor for Records {
    fn expect(&mut self, records: usize, counters: usize, buckets: usize) {
        self.rows.reserve_exact(records);
        self.counters.reserve_exact(counters);
        self.samples.reserve_exact(buckets);
    }

    #[inline]
    fn half(&mut self, half: u32) {
        self.rows.push((half, self.counters.len() as u32, self.samples.len() as u32));
    }

    #[inline]
    fn counter(&mut self, _: u32, counter: Counter, value: u64) {
        self.counters.push((counter, value));
    }

    #[inline]
    fn bucket(&mut self, _: u32, kind: HistogramKind, bucket: u16, count: u64) {
        self.samples.push((kind, bucket, count));
    }
}
