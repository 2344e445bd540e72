//! A native histogram. Our buckets are those of schema 3, so it has the same counts: bucket `k` is the one with index
//! `k + FIRST_SCHEMA_INDEX`. Only bucket 0 also holds everything that is smaller, down to 0: it is the zero bucket,
//! whose threshold is its bound. What is 0 is left out, as it is when it is read, but not that threshold: it is what
//! tells a native histogram without samples from a classic one, and must not change from one scrape to the next.

use common::histogram::{FIRST_SCHEMA_INDEX, bound_seconds};
use topology::Histogram;

use super::wire::{Wire, varint_bytes, zigzag};

/// 2^(1/8) from bucket to bucket.
const SCHEMA: i64 = 3;

/// Spans and counts on their way into a message; their memory is used again.
#[derive(Default)]
pub(super) struct Sparse {
    spans: Wire,
    deltas: Wire,
    /// The span that goes on: how far it is from the end of the one before, and its buckets.
    offset: i64,
    length: u64,
    /// Index after the last bucket, and the count of that.
    next: i64,
    last: i64,
}

impl Sparse {
    /// Appends a histogram.
    pub(super) fn write(&mut self, histogram: &Histogram, out: &mut Wire) {
        self.spans.0.clear();
        self.deltas.0.clear();
        (self.offset, self.length, self.next, self.last) = (0, 0, 0, 0);
        let (mut zero, mut all) = (0, 0);
        for (bucket, count) in histogram.iter() {
            all += count;
            if bucket == 0 {
                zero = count;
            } else {
                // Counts have at most 55 bits.
                self.bucket(i64::from(bucket) + i64::from(FIRST_SCHEMA_INDEX), count as i64);
            }
        }
        self.end_span();
        if all > 0 {
            out.number(1, all);
            out.double(2, histogram.approximate_sum());
        }
        out.signed(5, SCHEMA);
        out.double(6, bound_seconds(0));
        if zero > 0 {
            out.number(7, zero);
        }
        out.0.extend_from_slice(&self.spans.0);
        if !self.deltas.0.is_empty() {
            out.bytes(13, &self.deltas.0);
        }
    }

    fn bucket(&mut self, index: i64, count: i64) {
        let gap = index - self.next;
        if self.length == 0 || gap > 0 && !self.is_bridged(gap, count) {
            self.end_span();
            (self.offset, self.length) = (gap, 0);
        } else {
            for _ in 0..gap {
                self.count(0);
            }
        }
        self.count(count);
        self.next = index + 1;
    }

    /// Whether it takes fewer bytes to count 0 in so many buckets before one than to begin another span with it. Those
    /// who read it leave such buckets out again.
    fn is_bridged(&self, gap: i64, count: i64) -> bool {
        let bytes = |delta: i64| varint_bytes(zigzag(delta));
        let apart = 5 + varint_bytes(zigzag(gap)) + bytes(count - self.last);
        // The first of them takes back the last count, the others are no change.
        gap < 8 && bytes(-self.last) + gap as usize - 1 + bytes(count) < apart
    }

    /// Another bucket of the span.
    fn count(&mut self, count: i64) {
        self.deltas.varint(zigzag(count - self.last));
        self.last = count;
        self.length += 1;
    }

    fn end_span(&mut self) {
        if self.length > 0 {
            let (offset, length) = (zigzag(self.offset), self.length);
            self.spans.begin(12, 2 + varint_bytes(offset) + varint_bytes(length));
            self.spans.number(1, offset);
            self.spans.number(2, length);
        }
    }
}
