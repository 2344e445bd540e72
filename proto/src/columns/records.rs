//! Columns as rows: all of a section, checked, before anything of it counts.

use common::{Counter, HistogramKind};

use super::{COUNTER_BITS, DecodeError, decode::Columns};

/// A kind of histogram, one of its buckets, and how many samples.
pub(super) type Sample = (HistogramKind, u16, u64);

/// The records of a section in ascending order of their halves. Some 100 bytes for one of 4 counters and 3 samples.
#[derive(Debug, Default)]
pub struct Records {
    rows: Vec<Row>,
    values: Vec<u64>,
    samples: Vec<Sample>,
}

/// Where a record is.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) half: u32,
    pub(super) shape: u32,
    /// Where the values of its counters end.
    pub(super) values: u32,
    /// Where its samples end.
    pub(super) samples: u32,
}

/// What a section has of a half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Id of the half.
    pub half: u32,
    /// Which counters it has: a bit for each, by its index.
    pub which: u16,
    /// Their values, in the order of these bits.
    pub values: &'a [u64],
    /// Samples by kind and bucket.
    pub samples: &'a [(HistogramKind, u16, u64)],
}

impl<'a> Record<'a> {
    /// Each counter at most once, and its value.
    pub fn counters(&self) -> impl Iterator<Item = (Counter, u64)> + use<'a> {
        let which = self.which;
        let present = Counter::ALL.iter().filter(move |one| which >> one.index() & 1 == 1);
        present.copied().zip(self.values.iter().copied())
    }
}

impl Records {
    /// Reads columns, whatever the bytes.
    ///
    /// # Errors
    /// When any of them makes no sense.
    pub fn read(payload: &[u8]) -> Result<Self, DecodeError> {
        let columns = Columns::parse(payload)?;
        let mut numbers = Vec::new();
        let mut rows = columns.rows(&mut numbers)?;
        let values = columns.counters(&mut rows, &mut numbers)?;
        let samples = columns.samples(&mut rows, &mut numbers)?;
        Ok(Self { rows, values, samples })
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
        let (mut values, mut samples) = (self.values.as_slice(), self.samples.as_slice());
        let (mut valued, mut sampled) = (0, 0);
        self.rows.iter().map(move |row| {
            let record = Record {
                half: row.half,
                which: (row.shape & COUNTER_BITS) as u16,
                values: front(&mut values, row.values - valued),
                samples: front(&mut samples, row.samples - sampled),
            };
            (valued, sampled) = (row.values, row.samples);
            record
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
