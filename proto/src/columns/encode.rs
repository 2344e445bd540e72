//! Writing columns.

use common::{BUCKETS, COUNTERS, HISTOGRAMS, HistogramKind};
use thiserror::Error;

use super::{SHAPE_BYTES, varint};
use crate::MAX_ID;

/// A record that cannot be written. It leaves the encoder as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// Records come in ascending order of their half ids, each id once.
    #[error("half {0} does not come after the one before it")]
    Unsorted(u32),
    /// The id is too large.
    #[error("half id {0} is not below {MAX_ID}")]
    Id(u32),
    /// Buckets come sorted by (kind, bucket), each once.
    #[error("the buckets of half {0} are not ascending")]
    Buckets(u32),
    /// There is no such bucket.
    #[error("bucket {0} does not exist")]
    Bucket(u16),
    /// The count of a bucket leaves no room for its flag bit.
    #[error("a bucket's count {0} is above 2^63 - 1")]
    Count(u64),
}

/// Writes columns. Its buffers are reused from one section to the next.
#[derive(Debug, Default)]
pub struct Encoder {
    records: u64,
    last_half: Option<u32>,
    shapes: Vec<u32>,
    last_shape: usize,
    columns: u32,
    first_buckets: [i32; HISTOGRAMS],
    halves: Vec<u8>,
    shape_indices: Vec<u8>,
    counters: [Vec<u8>; COUNTERS],
    buckets: Vec<u8>,
    counts: Vec<u8>,
}

impl Encoder {
    /// An encoder without records.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Records written since the last [`finish`](Self::finish).
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Whether there is no record yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Bytes that [`finish`](Self::finish) would write now, or a few more.
    #[must_use]
    pub fn estimated_bytes(&self) -> usize {
        let header = 10 + 10 + self.shapes.len() * SHAPE_BYTES + 3 + (COUNTERS + 4) * 5;
        header
            + self.halves.len()
            + self.shape_indices.len()
            + self.counters.iter().map(Vec::len).sum::<usize>()
            + self.buckets.len()
            + self.counts.len()
    }

    /// Adds the record of a half. Values of 0 are left out; a record of zeros is not written.
    ///
    /// `buckets` are sorted by kind, then by bucket.
    pub fn push(
        &mut self,
        half: u32,
        counters: &[u64; COUNTERS],
        buckets: &[(HistogramKind, u16, u64)],
    ) -> Result<(), EncodeError> {
        self.check(half, buckets)?;
        let mut shape = 0_u32;
        for (index, value) in counters.iter().enumerate() {
            shape |= u32::from(*value != 0) << index;
        }
        self.columns |= shape;
        for (kind, _, count) in buckets {
            shape |= u32::from(*count != 0) << (COUNTERS + kind.index());
        }
        if shape == 0 {
            return Ok(());
        }
        let distance = self.last_half.map_or(half, |last| half - last - 1);
        varint::put(&mut self.halves, u64::from(distance));
        self.last_half = Some(half);
        self.records += 1;
        self.put_shape(shape);
        for (column, value) in self.counters.iter_mut().zip(counters) {
            if *value != 0 {
                varint::put(column, *value);
            }
        }
        self.put_buckets(buckets);
        Ok(())
    }

    /// Appends the columns to `out` and starts anew.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        out.reserve(self.estimated_bytes());
        varint::put(out, self.records);
        varint::put(out, self.shapes.len() as u64);
        for shape in &self.shapes {
            out.extend_from_slice(&shape.to_le_bytes()[..SHAPE_BYTES]);
        }
        out.extend_from_slice(&self.columns.to_le_bytes()[..SHAPE_BYTES]);
        varint::put(out, self.halves.len() as u64);
        varint::put(out, self.shape_indices.len() as u64);
        for column in self.counters.iter().filter(|column| !column.is_empty()) {
            varint::put(out, column.len() as u64);
        }
        varint::put(out, self.buckets.len() as u64);
        varint::put(out, self.counts.len() as u64);
        out.extend_from_slice(&self.halves);
        out.extend_from_slice(&self.shape_indices);
        for column in &self.counters {
            out.extend_from_slice(column);
        }
        out.extend_from_slice(&self.buckets);
        out.extend_from_slice(&self.counts);
        self.clear();
    }

    fn clear(&mut self) {
        self.records = 0;
        self.last_half = None;
        self.shapes.clear();
        self.last_shape = 0;
        self.columns = 0;
        self.first_buckets = [0; HISTOGRAMS];
        self.halves.clear();
        self.shape_indices.clear();
        self.counters.iter_mut().for_each(Vec::clear);
        self.buckets.clear();
        self.counts.clear();
    }

    fn check(&self, half: u32, buckets: &[(HistogramKind, u16, u64)]) -> Result<(), EncodeError> {
        if half >= MAX_ID {
            return Err(EncodeError::Id(half));
        }
        if self.last_half.is_some_and(|last| last >= half) {
            return Err(EncodeError::Unsorted(half));
        }
        for (_, bucket, count) in buckets {
            if usize::from(*bucket) >= BUCKETS {
                return Err(EncodeError::Bucket(*bucket));
            }
            if *count > u64::MAX >> 1 {
                return Err(EncodeError::Count(*count));
            }
        }
        let sorted = buckets.windows(2).all(|pair| (pair[0].0, pair[0].1) < (pair[1].0, pair[1].1));
        if sorted { Ok(()) } else { Err(EncodeError::Buckets(half)) }
    }

    fn put_shape(&mut self, shape: u32) {
        // Neighbours are mostly alike, and there are few shapes: a search is cheap.
        if self.shapes.get(self.last_shape) != Some(&shape) {
            let found = self.shapes.iter().position(|known| *known == shape);
            self.last_shape = found.unwrap_or_else(|| {
                self.shapes.push(shape);
                self.shapes.len() - 1
            });
        }
        varint::put(&mut self.shape_indices, self.last_shape as u64);
    }

    fn put_buckets(&mut self, buckets: &[(HistogramKind, u16, u64)]) {
        let mut present = buckets.iter().filter(|(_, _, count)| *count != 0).peekable();
        let mut before: Option<(HistogramKind, i32)> = None;
        while let Some((kind, bucket, count)) = present.next() {
            let bucket = i32::from(*bucket);
            match before {
                Some((same, last)) if same == *kind => {
                    varint::put(&mut self.buckets, (bucket - last - 1) as u64);
                }
                _ => {
                    let first = &mut self.first_buckets[kind.index()];
                    varint::put(&mut self.buckets, varint::zigzag(bucket - *first));
                    *first = bucket;
                }
            }
            before = Some((*kind, bucket));
            let more = present.peek().is_some_and(|(next, _, _)| next == kind);
            varint::put(&mut self.counts, count << 1 | u64::from(more));
        }
    }
}
