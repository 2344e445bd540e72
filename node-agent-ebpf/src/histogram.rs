//! Histogram samples: a bucket of a chunk of a slot.

use aya_ebpf::bindings::BPF_NOEXIST;
use common::{
    HistogramKind,
    histogram::bucket_of_ns,
    kernel::{CHUNK_BUCKETS, ChunkKey, Loss, NO_CHUNK},
};

use crate::{
    atomic, hint,
    maps::{CHUNK_ARRAY, CHUNK_OF, FREE_CHUNKS},
};

/// Counts one duration.
#[inline(always)]
pub fn record(slot: u32, kind: HistogramKind, ns: u64) {
    let bucket = u32::from(bucket_of_ns(ns));
    let chunk = chunk_of(slot, kind, bucket / CHUNK_BUCKETS as u32);
    count(chunk, bucket);
}

/// Counts one duration; `part` and `chunk` remember where the last one went.
#[inline(always)]
pub fn record_cached(slot: u32, kind: HistogramKind, ns: u64, part: &mut u32, chunk: &mut u32) {
    let bucket = u32::from(bucket_of_ns(ns));
    let wanted = bucket / CHUNK_BUCKETS as u32;
    if *chunk == NO_CHUNK || *part != wanted {
        *chunk = chunk_of(slot, kind, wanted);
        *part = wanted;
    }
    count(*chunk, bucket);
}

#[inline(always)]
fn count(number: u32, bucket: u32) {
    let Some(chunk) = CHUNK_ARRAY.get_ptr_mut(number) else {
        hint::lost(Loss::ChunksFull);
        return;
    };
    // SAFETY: a map value, aligned; the index is masked to the array.
    unsafe {
        let index = (bucket as usize) & (CHUNK_BUCKETS - 1);
        atomic::add_u32((&raw mut (*chunk).buckets).cast::<u32>().add(index), 1);
        atomic::add_u64(&raw mut (*chunk).samples, 1);
    }
}

#[inline(always)]
fn chunk_of(slot: u32, kind: HistogramKind, part: u32) -> u32 {
    let key = ChunkKey { slot, histogram: kind as u16, part: part as u16 };
    // SAFETY: the number is copied at once.
    if let Some(number) = unsafe { CHUNK_OF.get(key) } {
        return *number;
    }
    take(&key)
}

#[inline(never)]
fn take(key: &ChunkKey) -> u32 {
    let Ok(Some(number)) = FREE_CHUNKS.pop() else {
        return NO_CHUNK;
    };
    let Some(chunk) = CHUNK_ARRAY.get_ptr_mut(number) else {
        return NO_CHUNK;
    };
    // SAFETY: a free chunk belongs to whoever popped its number.
    unsafe { (*chunk).key = *key };
    if CHUNK_OF.insert(key, number, u64::from(BPF_NOEXIST)).is_err() {
        // Another CPU was first. The agent finds the chunk through `chunk_of`, not its key.
        let _ = FREE_CHUNKS.push(number, 0);
        // SAFETY: the number is copied at once.
        return match unsafe { CHUNK_OF.get(key) } {
            Some(number) => *number,
            None => NO_CHUNK,
        };
    }
    number
}
