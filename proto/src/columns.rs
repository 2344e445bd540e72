//! Counter columns: the payload of `TOTALS` and `INCREMENTS` sections.
//!
//! A record says, for one half, which counters and histogram buckets have a value, and the
//! values. Records are sorted by half id and stored by columns, so that what is
//! alike lies together and small numbers take one byte:
//!
//! ```text
//! header   varint  number of records
//!          varint  number of shapes, then 3 bytes (little endian) for each shape
//!          3 bytes which counter columns there are (bit = index of the counter)
//!          varint  length of each column, in the order below
//! halves   varint  half id, as the distance to the record before, less one
//! shapes   varint  index of the record's shape: a bit for each counter (0..16) and for
//!                  each histogram (16..19) that has values
//! counters varint  one column for each counter present, only of the records that have it
//! buckets  varint  first bucket of a histogram: zigzag distance to the first bucket of the
//!                  same kind in the record before it that has one; others: distance, less one
//! counts   varint  count << 1 | 1 where another bucket of the same histogram follows
//! ```
//!
//! All varints are LEB128. Decoding reads one column after the other, survives any bytes, and allocates for no more numbers
//! than there are bytes.

mod decode;
mod encode;
mod records;
mod varint;

pub use decode::{DecodeError, Visitor, decode};
pub use encode::{EncodeError, Encoder};
pub use records::{Record, Records};

use common::{COUNTERS, HISTOGRAMS};

/// Bits of a shape that stand for counters.
const COUNTER_BITS: u32 = (1 << COUNTERS) - 1;
/// Bits of a shape in use.
const SHAPE_BITS: u32 = (1 << (COUNTERS + HISTOGRAMS)) - 1;
/// Bytes of a shape in the header.
const SHAPE_BYTES: usize = 3;

const _: () = assert!(COUNTERS + HISTOGRAMS <= SHAPE_BYTES * 8);

#[cfg(test)]
mod tests;
