//! Reading columns, whatever the bytes.

use common::{BUCKETS, COUNTERS, Counter, HISTOGRAMS, HistogramKind};
use thiserror::Error;

use super::{COUNTER_BITS, SHAPE_BITS, SHAPE_BYTES, varint};
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
    /// A column has bytes that belong to no record.
    #[error("columns have {0} bytes too many")]
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
    /// So many records, counters and buckets there are, if all is well. Never more than there are bytes.
    fn expect(&mut self, _records: usize, _counters: usize, _buckets: usize) {}
    /// A record begins: the following values are this half's.
    fn half(&mut self, half: u32);
    /// A counter of the half.
    fn counter(&mut self, half: u32, counter: Counter, value: u64);
    /// A bucket of one of the half's histograms; `bucket` is below [`BUCKETS`].
    fn bucket(&mut self, half: u32, kind: HistogramKind, bucket: u16, count: u64);
}

/// Reads columns and hands every value to the visitor; returns the number of records.
///
/// Allocates nothing. On an error the visitor has seen the values before the bad one.
pub fn decode(payload: &[u8], visitor: &mut impl Visitor) -> Result<u64, DecodeError> {
    let mut columns = Columns::parse(payload)?;
    columns.announce(visitor);
    let mut next_half = 0_u64;
    for _ in 0..columns.records {
        let half = next_half.saturating_add(varint::take(&mut columns.halves)?);
        next_half = half + 1;
        let half = u32::try_from(half).ok().filter(|half| *half < MAX_ID);
        columns.record(half.ok_or(DecodeError::Half)?, visitor)?;
    }
    columns.end()?;
    Ok(columns.records)
}

struct Columns<'a> {
    records: u64,
    shapes: &'a [u8],
    halves: &'a [u8],
    shape_indices: &'a [u8],
    /// The shape of the record before, and its index.
    last_shape: Option<(u64, u32)>,
    counters: [&'a [u8]; COUNTERS],
    buckets: &'a [u8],
    counts: &'a [u8],
    first_buckets: [i32; HISTOGRAMS],
}

impl<'a> Columns<'a> {
    fn parse(payload: &'a [u8]) -> Result<Self, DecodeError> {
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
            last_shape: None,
            counters: [&[]; COUNTERS],
            buckets: &[],
            counts: &[],
            first_buckets: [0; HISTOGRAMS],
        };
        for (column, length) in columns.counters.iter_mut().zip(lengths) {
            *column = slice(&mut rest, length)?;
        }
        columns.buckets = slice(&mut rest, buckets)?;
        columns.counts = slice(&mut rest, counts)?;
        if rest.is_empty() { Ok(columns) } else { Err(DecodeError::Trailing(rest.len())) }
    }

    fn announce(&self, visitor: &mut impl Visitor) {
        let records = varint::count(self.halves);
        let counters: usize = self.counters.iter().map(|column| varint::count(column)).sum();
        let counters = counters.min(records * COUNTERS);
        visitor.expect(records, counters, varint::count(self.counts));
    }

    #[inline]
    fn record(&mut self, half: u32, visitor: &mut impl Visitor) -> Result<(), DecodeError> {
        let shape = self.shape()?;
        visitor.half(half);
        let mut counters = shape & COUNTER_BITS;
        while counters != 0 {
            let counter = Counter::ALL[counters.trailing_zeros() as usize];
            counters &= counters - 1;
            let value = varint::take(&mut self.counters[counter.index()])?;
            visitor.counter(half, counter, value);
        }
        for kind in HistogramKind::ALL {
            if shape >> (COUNTERS + kind.index()) & 1 == 1 {
                self.histogram(half, kind, visitor)?;
            }
        }
        Ok(())
    }

    #[inline]
    fn shape(&mut self) -> Result<u32, DecodeError> {
        let index = varint::take(&mut self.shape_indices)?;
        // Neighbours are mostly alike.
        match self.last_shape {
            Some((last, shape)) if last == index => Ok(shape),
            _ => self.another_shape(index),
        }
    }

    fn another_shape(&mut self, index: u64) -> Result<u32, DecodeError> {
        let start = usize::try_from(index).ok().and_then(|index| index.checked_mul(SHAPE_BYTES));
        let bytes = start.and_then(|start| self.shapes.get(start..start.checked_add(SHAPE_BYTES)?));
        let shape = shape_at(bytes.ok_or(DecodeError::ShapeIndex(index))?);
        if shape & !SHAPE_BITS != 0 {
            return Err(DecodeError::Shape(shape));
        }
        self.last_shape = Some((index, shape));
        Ok(shape)
    }

    #[inline]
    fn histogram(
        &mut self,
        half: u32,
        kind: HistogramKind,
        visitor: &mut impl Visitor,
    ) -> Result<(), DecodeError> {
        let distance = varint::unzigzag(varint::take(&mut self.buckets)?);
        let first = &mut self.first_buckets[kind.index()];
        let mut bucket = distance
            .and_then(|distance| first.checked_add(distance))
            .and_then(|bucket| u16::try_from(bucket).ok())
            .filter(|bucket| usize::from(*bucket) < BUCKETS)
            .ok_or(DecodeError::Bucket)?;
        *first = i32::from(bucket);
        loop {
            let count = varint::take(&mut self.counts)?;
            visitor.bucket(half, kind, bucket, count >> 1);
            if count & 1 == 0 {
                return Ok(());
            }
            let distance = varint::take(&mut self.buckets)?;
            bucket = (u64::from(bucket) + 1)
                .checked_add(distance)
                .filter(|bucket| *bucket < BUCKETS as u64)
                .ok_or(DecodeError::Bucket)? as u16;
        }
    }

    fn end(&self) -> Result<(), DecodeError> {
        let left = self.halves.len()
            + self.shape_indices.len()
            + self.counters.iter().map(|column| column.len()).sum::<usize>()
            + self.buckets.len()
            + self.counts.len();
        if left == 0 { Ok(()) } else { Err(DecodeError::Trailing(left)) }
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
