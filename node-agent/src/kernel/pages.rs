//! Arrays of the kernel, mapped: reading them costs no system call.

use std::{
    io,
    marker::PhantomData,
    os::fd::{AsFd, AsRawFd},
    sync::atomic::{
        AtomicU32, AtomicU64,
        Ordering::{Relaxed, Release},
    },
};

use common::{
    COUNTERS,
    kernel::{CHUNK_BUCKETS, Chunk, ChunkKey, HalfKey, Slot},
};
use memmap2::{MmapOptions, MmapRaw};

use crate::ledger::{HEAD_BYTES, Store, Word};

/// An array map's elements, in memory shared with the kernel programs.
pub struct Pages<T> {
    map: MmapRaw,
    len: usize,
    element: PhantomData<T>,
}

// SAFETY: the memory is reached through atomics or copies only, from whatever thread.
unsafe impl<T> Send for Pages<T> {}

impl<T: Copy> Pages<T> {
    /// Maps an array of `len` elements made with `BPF_F_MMAPABLE`.
    ///
    /// # Errors
    /// When the kernel refuses the mapping.
    pub fn new(map: &impl AsRawFd, len: usize) -> io::Result<Self> {
        const { assert!(size_of::<T>().is_multiple_of(8), "the kernel rounds elements up to 8 bytes") };
        let map = MmapOptions::new().len(len * size_of::<T>()).map_raw(map.as_raw_fd())?;
        Ok(Self { map, len, element: PhantomData })
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    fn element(&self, index: usize) -> *mut T {
        assert!(index < self.len, "index {index} of {}", self.len);
        // SAFETY: inside the mapping, just checked.
        unsafe { self.map.as_mut_ptr().cast::<T>().add(index) }
    }

    /// Sets an element to zeros. The caller knows that no program uses it.
    pub fn clear(&mut self, index: usize) {
        // SAFETY: a valid element; all-zero bytes are a valid value of every map layout.
        unsafe { self.element(index).write_bytes(0, 1) };
    }
}

/// Reads a word that the kernel programs may be adding to.
fn load(word: *mut u64) -> u64 {
    // SAFETY: callers pass aligned words of the mapping.
    unsafe { AtomicU64::from_ptr(word) }.load(Relaxed)
}

impl Pages<Slot> {
    /// Role of the slot's half; 0 for a free slot.
    pub fn role(&self, index: usize) -> u8 {
        // SAFETY: a valid element; one byte.
        unsafe { (&raw const (*self.element(index)).key.role).read_volatile() }
    }

    /// Key of the slot's half, written before its number is known to anyone.
    pub fn key(&self, index: usize) -> HalfKey {
        // SAFETY: a valid element of plain integers.
        unsafe { (&raw const (*self.element(index)).key).read_volatile() }
    }

    /// Counters of the slot, each as it is now.
    pub fn counters(&self, index: usize) -> [u64; COUNTERS] {
        let slot = self.element(index);
        std::array::from_fn(|counter| {
            // SAFETY: a valid element; `counter` is below its number of counters.
            load(unsafe { (&raw mut (*slot).counters).cast::<u64>().add(counter) })
        })
    }
}

impl Pages<Chunk> {
    /// Samples counted in the chunk so far.
    pub fn samples(&self, index: usize) -> u64 {
        // SAFETY: a valid element.
        load(unsafe { &raw mut (*self.element(index)).samples })
    }

    /// Whose chunk it is.
    pub fn key(&self, index: usize) -> ChunkKey {
        // SAFETY: a valid element of plain integers.
        unsafe { (&raw const (*self.element(index)).key).read_volatile() }
    }

    /// Buckets of the chunk, each as it is now, modulo 2^32.
    pub fn buckets(&self, index: usize) -> [u32; CHUNK_BUCKETS] {
        let chunk = self.element(index);
        std::array::from_fn(|bucket| {
            // SAFETY: a valid element, an aligned word of it.
            unsafe { AtomicU32::from_ptr((&raw mut (*chunk).buckets).cast::<u32>().add(bucket)) }
                .load(Relaxed)
        })
    }
}

/// The ledger's array, mapped: no program uses it, and of processes only the one that has the lock.
pub struct LedgerPages(MmapRaw);

impl LedgerPages {
    /// Maps an array of so many bytes.
    ///
    /// # Errors
    /// When the kernel refuses the mapping.
    pub fn new(map: &impl AsFd, bytes: usize) -> io::Result<Self> {
        Ok(Self(MmapOptions::new().len(bytes).map_raw(map.as_fd().as_raw_fd())?))
    }

    fn word(&self, word: Word) -> *mut u64 {
        const { assert!((Word::ChunksEnd as usize + 1) * 8 <= HEAD_BYTES) };
        assert!(self.0.len() >= HEAD_BYTES, "the head is not all there");
        // SAFETY: inside the head, which is mapped and aligned to a page.
        unsafe { self.0.as_mut_ptr().cast::<u64>().add(word as usize) }
    }

    /// Where `len` bytes begin at `at`.
    fn bytes_at(&self, at: usize, len: usize) -> *mut u8 {
        let end = at.checked_add(len);
        assert!(end.is_some_and(|end| end <= self.0.len()), "{len} bytes at {at}");
        // SAFETY: inside the mapping, just checked.
        unsafe { self.0.as_mut_ptr().add(at) }
    }
}

impl Store for LedgerPages {
    fn bytes(&self) -> usize {
        self.0.len()
    }

    fn get(&self, word: Word) -> u64 {
        load(self.word(word))
    }

    fn set(&mut self, word: Word, value: u64) {
        // SAFETY: an aligned word of the mapping. What was written before is seen before, by whoever comes next.
        unsafe { AtomicU64::from_ptr(self.word(word)) }.store(value, Release);
    }

    fn read(&self, at: usize, into: &mut [u8]) {
        // SAFETY: `bytes_at` makes sure that so many bytes are there; nobody else writes.
        unsafe {
            self.bytes_at(at, into.len()).copy_to_nonoverlapping(into.as_mut_ptr(), into.len())
        };
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        // SAFETY: `bytes_at` makes sure that there is room; nobody else reads or writes.
        unsafe {
            self.bytes_at(at, bytes.len()).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len())
        };
    }
}
