//! Notes as they are stored.

use common::COUNTERS;
use serde::{Deserialize, Serialize};
use topology::model::{HalfKey, Workload};

use super::{Key, Values};

/// Length and checksum before each note.
pub(super) const FRAME_BYTES: usize = 8;

/// A note; with borrowed workloads to be written, with owned ones as it is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Record<W> {
    /// A slot is reported as part of this half.
    Linked { slot: u32, owner: u64, half: HalfKey<W>, birth: u64 },
    /// A slot is reported as part of the same half as another one.
    Alike { slot: u32, owner: u64, like: u32 },
    /// A half has counted this in a slot that is given back, or in several of them.
    Folded {
        slot: Option<u32>,
        half: HalfKey<W>,
        birth: u64,
        counters: [u64; COUNTERS],
        /// Kind, bucket, count.
        buckets: Vec<(u8, u16, u64)>,
    },
    /// A batch retires a half.
    Retired { seq: u64, half: HalfKey<W> },
}

impl Record<&Workload> {
    /// The note with its length and checksum; `None` when it cannot be encoded.
    pub(super) fn frame(&self) -> Option<Vec<u8>> {
        let mut frame = vec![0; FRAME_BYTES];
        frame = postcard::to_extend(self, frame)
            .inspect_err(|error| tracing::error!(%error, "cannot write a note of the ledger"))
            .ok()?;
        let (head, body) = frame.split_at_mut(FRAME_BYTES);
        let len = u32::try_from(body.len()).ok()?;
        let (len_bytes, sum_bytes) = head.split_at_mut(4);
        len_bytes.copy_from_slice(&len.to_le_bytes());
        sum_bytes.copy_from_slice(&crc32fast::hash(body).to_le_bytes());
        Some(frame)
    }
}

/// Reads the first note; returns it with the bytes that it takes.
pub(super) fn read(bytes: &[u8]) -> Option<(Record<Workload>, usize)> {
    let (len, rest) = bytes.split_first_chunk()?;
    let (sum, rest) = rest.split_first_chunk()?;
    let len = u32::from_le_bytes(*len) as usize;
    let body = rest.get(..len)?;
    if crc32fast::hash(body) != u32::from_le_bytes(*sum) {
        return None;
    }
    Some((postcard::from_bytes(body).ok()?, FRAME_BYTES + len))
}

/// Without a copy of the workload.
pub(super) fn borrowed(half: &Key) -> HalfKey<&Workload> {
    HalfKey {
        workload: half.workload.as_ref(),
        local: half.local,
        peer: half.peer,
        server_port: half.server_port,
        client_port: half.client_port,
        role: half.role,
    }
}

/// All that a half had counted.
pub(super) fn folded<'a>(half: HalfKey<&'a Workload>, values: &Values) -> Record<&'a Workload> {
    let buckets = values.buckets.iter();
    let buckets = buckets.map(|((kind, bucket), count)| (kind.index() as u8, *bucket, *count));
    Record::Folded {
        slot: None,
        half,
        birth: values.birth,
        counters: values.counters,
        buckets: buckets.collect(),
    }
}
