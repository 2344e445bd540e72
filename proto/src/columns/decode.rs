//! Reading columns, whatever the bytes.

use common::{BUCKETS, COUNTERS, Counter, HISTOGRAMS, HistogramKind};
use thiserror::Error;

use super::{
    COUNTER_BITS, Records, SHAPE_BITS, SHAPE_BYTES,
    records::{Row, Sample},
    varint,
};
use crate::MAX_ID;

/// Bytes that are not columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// A column or the header ends early.
    #[error("columns end early")]
    Truncated,
    /// A number does not fit its type.
    #[error("a number in the columns is too large")]
    Overflow,
    /// A column has numbers, or bytes, that belong to no record.
    #[error("columns have {0} numbers or bytes too many")]
    Trailing(usize),
    /// A shape has bits without a meaning, or a column is announced that is not a counter's.
    #[error("shape {0:#x} has unknown bits")]
    Shape(u32),
    /// A record refers to a shape that is not there.
    #[error("shape number {0} does not exist")]
    ShapeIndex(u64),
    /// A half id is too large.
    #[error("a half id is not below {MAX_ID}")]
    Half,
    /// There is no such bucket.
    #[error("a bucket is out of range")]
    Bucket,
}

impl From<varint::Bad> for DecodeError {
    fn from(bad: varint::Bad) -> Self {
        match bad {
            varint::Bad::Truncated => DecodeError::Truncated,
            varint::Bad::Overflow => DecodeError::Overflow,
        }
    }
}

/// Takes the values of each record, half by half in ascending order of the ids.
pub trait Visitor {
    /// A record begins: the following values are this half's.
    fn half(&mut self, half: u32);
    /// A counter of the half.
    fn counter(&mut self, half: u32, counter: Counter, value: u64);
    /// A bucket of one of the half's histograms; `bucket` is below [`BUCKETS`].
    fn bucket(&mut self, half: u32, kind: HistogramKind, bucket: u16, count: u64);
}

/// Reads columns and hands every value to the visitor, unless any of them is bad; returns the number of records.
pub fn decode(payload: &[u8], visitor: &mut impl Visitor) -> Result<u64, DecodeError> {
    let records = Records::read(payload)?;
    for record in records.iter() {
        visitor.half(record.half);
        for (counter, value) in record.counters() {
            visitor.counter(record.half, counter, value);
        }
        for (kind, bucket, count) in record.samples {
            visitor.bucket(record.half, *kind, *bucket, *count);
        }
    }
    Ok(records.len() as u64)
}

/// The columns of a section, each of which is read from its beginning to its end before the next one is.
pub(super) struct Columns<'a> {
    records: u64,
    shapes: &'a [u8],
    halves: &'a [u8],
    shape_indices: &'a [u8],
    counters: [&'a [u8]; COUNTERS],
    buckets: &'a [u8],
    counts: &'a [u8],
}

impl<'a> Columns<'a> {
    pub(super) fn parse(payload: &'a [u8]) -> Result<Self, DecodeError> {
        let mut rest = payload;
        let records = varint::take(&mut rest)?;
        let shapes = varint::take(&mut rest)?;
        let shapes = slice(&mut rest, shapes.saturating_mul(SHAPE_BYTES as u64))?;
        let present = shape_at(slice(&mut rest, SHAPE_BYTES as u64)?);
        if present & !COUNTER_BITS != 0 {
            return Err(DecodeError::Shape(present));
        }
        let halves = varint::take(&mut rest)?;
        let shape_indices = varint::take(&mut rest)?;
        let mut lengths = [0_u64; COUNTERS];
        for (index, length) in lengths.iter_mut().enumerate() {
            if present >> index & 1 == 1 {
                *length = varint::take(&mut rest)?;
            }
        }
        let buckets = varint::take(&mut rest)?;
        let counts = varint::take(&mut rest)?;
        let mut columns = Self {
            records,
            shapes,
            halves: slice(&mut rest, halves)?,
            shape_indices: slice(&mut rest, shape_indices)?,
            counters: [&[]; COUNTERS],
            buckets: &[],
            counts: &[],
        };
        for (column, length) in columns.counters.iter_mut().zip(lengths) {
            *column = slice(&mut rest, length)?;
        }
        columns.buckets = slice(&mut rest, buckets)?;
        columns.counts = slice(&mut rest, counts)?;
        if rest.is_empty() { Ok(columns) } else { Err(DecodeError::Trailing(rest.len())) }
    }

    /// The half and the shape of each record, and where its values begin. There are no more records and values than bytes.
    pub(super) fn rows(&self, numbers: &mut Vec<u64>) -> Result<Vec<Row>, DecodeError> {
        varint::take_all(self.halves, numbers)?;
        same(numbers.len() as u64, self.records)?;
        let mut next = 0_u64;
        let half = |distance: &u64| {
            let half = next.saturating_add(*distance);
            next = half.saturating_add(1);
            Row { half: half as u32, shape: 0, values: 0, samples: 0 }
        };
        let mut rows: Vec<Row> = numbers.iter().map(half).collect();
        // They ascend: the last one says whether all of them fit.
        if next > u64::from(MAX_ID) {
            return Err(DecodeError::Half);
        }
        varint::take_all(self.shape_indices, numbers)?;
        same(numbers.len() as u64, self.records)?;
        let mut values = 0_u64;
        // Neighbours are mostly alike.
        let (mut last, mut shape, mut counters) = (None, 0, 0);
        for (row, index) in rows.iter_mut().zip(numbers) {
            if last != Some(*index) {
                (last, shape) = (Some(*index), self.shape(*index)?);
                counters = u64::from((shape & COUNTER_BITS).count_ones());
            }
            (row.shape, row.values) = (shape, values as u32);
            values += counters;
        }
        same(self.values() as u64, values)?;
        Ok(rows)
    }

    fn shape(&self, index: u64) -> Result<u32, DecodeError> {
        let start = usize::try_from(index).ok().and_then(|index| index.checked_mul(SHAPE_BYTES));
        let bytes = start.and_then(|start| self.shapes.get(start..start.checked_add(SHAPE_BYTES)?));
        let shape = shape_at(bytes.ok_or(DecodeError::ShapeIndex(index))?);
        if shape & !SHAPE_BITS != 0 { Err(DecodeError::Shape(shape)) } else { Ok(shape) }
    }

    /// How many values of counters there are.
    fn values(&self) -> usize {
        self.counters.iter().map(|column| varint::count(column)).sum()
    }

    /// The counters of all rows, each row's side by side in the order of their indices. Afterwards, `values` of a row is
    /// where they end.
    pub(super) fn counters(
        &self,
        rows: &mut [Row],
        numbers: &mut Vec<u64>,
    ) -> Result<Vec<u64>, DecodeError> {
        let mut values = vec![0; self.values()];
        for (index, column) in self.counters.iter().enumerate().filter(|(_, one)| !one.is_empty()) {
            varint::take_all(column, numbers)?;
            let mut rest = numbers.iter();
            for row in rows.iter_mut() {
                if row.shape >> index & 1 == 1 {
                    let place = values.get_mut(row.values as usize).zip(rest.next());
                    let (place, number) = place.ok_or(DecodeError::Truncated)?;
                    *place = *number;
                    row.values += 1;
                }
            }
            // As many as there are in all belong to records: where one is too many, another is missing.
            same(rest.len() as u64, 0)?;
        }
        Ok(values)
    }

    /// The samples of all rows. Afterwards, `samples` of a row is where they end.
    pub(super) fn samples(
        &self,
        rows: &mut [Row],
        numbers: &mut Vec<u64>,
    ) -> Result<Vec<Sample>, DecodeError> {
        let mut counts = Vec::new();
        varint::take_all(self.buckets, numbers)?;
        varint::take_all(self.counts, &mut counts)?;
        same(numbers.len() as u64, counts.len() as u64)?;
        let mut samples = vec![(HistogramKind::Rtt, 0, 0); counts.len()];
        let mut places = samples.iter_mut();
        let mut pairs = numbers.iter().zip(&counts);
        let mut first_buckets = [0; HISTOGRAMS];
        for row in rows {
            for (kind, first) in HistogramKind::ALL.iter().zip(&mut first_buckets) {
                if row.shape >> (COUNTERS + kind.index()) & 1 == 0 {
                    continue;
                }
                let (distance, mut count) = pairs.next().ok_or(DecodeError::Truncated)?;
                let mut bucket = u64::wrapping_add(*first, varint::unzigzag(*distance) as u64);
                *first = bucket;
                loop {
                    // One before the first has wrapped to far beyond the last.
                    if bucket >= BUCKETS as u64 {
                        return Err(DecodeError::Bucket);
                    }
                    if let Some(place) = places.next() {
                        *place = (*kind, bucket as u16, count >> 1);
                    }
                    if count & 1 == 0 {
                        break;
                    }
                    let (distance, next) = pairs.next().ok_or(DecodeError::Truncated)?;
                    bucket = (bucket + 1).saturating_add(*distance);
                    count = next;
                }
            }
            row.samples = (counts.len() - pairs.len()) as u32;
        }
        same(pairs.len() as u64, 0)?;
        Ok(samples)
    }
}

/// Whether a column has as many numbers as it should have.
fn same(numbers: u64, expected: u64) -> Result<(), DecodeError> {
    match numbers.checked_sub(expected) {
        Some(0) => Ok(()),
        Some(more) => Err(DecodeError::Trailing(more as usize)),
        None => Err(DecodeError::Truncated),
    }
}

/// The first `length` bytes of `rest`, which then begins after them.
fn slice<'a>(rest: &mut &'a [u8], length: u64) -> Result<&'a [u8], DecodeError> {
    let length = usize::try_from(length).map_err(|_| DecodeError::Truncated)?;
    let (front, back) = rest.split_at_checked(length).ok_or(DecodeError::Truncated)?;
    *rest = back;
    Ok(front)
}

fn shape_at(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |shape, byte| shape << 8 | u32::from(*byte))
}
