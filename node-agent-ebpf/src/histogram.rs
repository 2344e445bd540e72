//! Histogram samples: a bucket of a chunk of a slot.

use aya_ebpf::bindings::BPF_NOEXIST;
use common::{
    HistogramKind,
    histogram::bucket_of_ns,
    kernel::{CHUNK_BUCKETS, Chunk, ChunkKey, LAST_CHUNKS, Loss, NO_CHUNK, Slot},
};

use crate::{
    atomic, hint,
    maps::{CHUNK_ARRAY, CHUNK_OF, FREE_CHUNKS},
};

/// Counts one duration in a histogram of a slot. One piece of code for all: each connection comes through it some seven times.
#[inline(never)]
pub fn record(number: u32, slot: *mut Slot, kind: HistogramKind, ns: u64) {
    let bucket = u32::from(bucket_of_ns(ns));
    let part = (bucket / CHUNK_BUCKETS as u32) as u16;
    let key = ChunkKey { slot: number, histogram: kind as u16, part };
    // SAFETY: a map value; of racing writers each writes what is right.
    let last = unsafe {
        let place = kind as usize * LAST_CHUNKS + (usize::from(part) & (LAST_CHUNKS - 1));
        (&raw mut (*slot).last_chunks).cast::<u16>().add(place)
    };
    // SAFETY: as above.
    let hint = u32::from(unsafe { last.read_volatile() });
    if hint != 0
        && let Some(chunk) = CHUNK_ARRAY.get_ptr_mut(hint - 1)
        // SAFETY: a map value.
        && unsafe { (*chunk).key == key }
    {
        count(chunk, bucket);
        return;
    }
    let found = chunk_of(&key);
    let Some(chunk) = CHUNK_ARRAY.get_ptr_mut(found) else {
        hint::lost(Loss::ChunksFull);
        return;
    };
    // SAFETY: as above.
    unsafe { last.write_volatile((found + 1) as u16) };
    count(chunk, bucket);
}

#[inline(always)]
fn count(chunk: *mut Chunk, bucket: u32) {
    // SAFETY: a map value, aligned; the index is masked to the array.
    unsafe {
        let index = (bucket as usize) & (CHUNK_BUCKETS - 1);
        atomic::add_u32((&raw mut (*chunk).buckets).cast::<u32>().add(index), 1);
        atomic::add_u64(&raw mut (*chunk).samples, 1);
    }
}

#[inline(always)]
fn chunk_of(key: &ChunkKey) -> u32 {
    // SAFETY: the number is copied at once.
    if let Some(number) = unsafe { CHUNK_OF.get(key) } {
        return *number;
    }
    take(key)
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
