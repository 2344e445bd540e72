//! Arrays of the kernel, mapped: reading them costs no system call.

use std::{
    io,
    marker::PhantomData,
    os::fd::AsRawFd,
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
};

use common::{
    COUNTERS,
    kernel::{CHUNK_BUCKETS, Chunk, ChunkKey, HalfKey, Slot},
};
use memmap2::{MmapOptions, MmapRaw};

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
