//! Arrays of the kernel, mapped: reading them costs no system call.

use std::{
    cell::{Cell, RefCell},
    io,
    marker::PhantomData,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::atomic::{
        AtomicU32, AtomicU64,
        Ordering::{Relaxed, Release, SeqCst},
    },
};

use common::{
    COUNTERS,
    kernel::{CHUNK_BUCKETS, Chunk, ChunkKey, HalfKey, Slot},
};
use memmap2::{MmapOptions, MmapRaw};

use crate::ledger::{HEAD_BYTES, Store, Word};

/// The least that is mapped of an array. From there on it doubles.
const LEAST_BYTES: usize = 64 * 1024;

/// An array map's elements, in memory shared with the kernel programs. Every page that is mapped counts as resident, used
/// or not, so the array is mapped as far as somebody has looked.
pub struct Pages<T> {
    array: OwnedFd,
    mapped: RefCell<MmapRaw>,
    /// The last attempt to map more failed, which has been said.
    is_short: Cell<bool>,
    len: usize,
    element: PhantomData<T>,
}

// SAFETY: the memory is reached through atomics or copies only, from whatever thread.
unsafe impl<T> Send for Pages<T> {}

impl<T: Copy> Pages<T> {
    /// Opens an array of `len` elements made with `BPF_F_MMAPABLE`.
    ///
    /// # Errors
    /// When the kernel refuses the mapping.
    pub fn new(array: OwnedFd, len: usize) -> io::Result<Self> {
        const { assert!(size_of::<T>().is_multiple_of(8), "the kernel rounds elements up to 8 bytes") };
        let mapped = RefCell::new(map(&array, LEAST_BYTES.min(len * size_of::<T>()))?);
        Ok(Self { array, mapped, is_short: Cell::new(false), len, element: PhantomData })
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Maps no more than the first `used` elements need.
    pub fn fit(&mut self, used: usize) {
        let bytes = self.bytes_for(used);
        if bytes < self.mapped.get_mut().len()
            && let Ok(less) = map(&self.array, bytes)
        {
            self.mapped.replace(less);
        }
    }

    fn bytes_for(&self, elements: usize) -> usize {
        let bytes = elements * size_of::<T>();
        bytes.next_power_of_two().max(LEAST_BYTES).min(self.len * size_of::<T>())
    }

    /// An element; `None` when it was not mapped so far and cannot be. As long as nobody has seen it in use, it
    /// may as well be of zeros.
    fn element(&self, index: usize) -> Option<*mut T> {
        assert!(index < self.len, "index {index} of {}", self.len);
        let mut mapped = self.mapped.borrow_mut();
        if mapped.len() < (index + 1) * size_of::<T>() {
            match map(&self.array, self.bytes_for(index + 1)) {
                Ok(more) => {
                    *mapped = more;
                    self.is_short.set(false);
                }
                Err(error) => {
                    if !self.is_short.replace(true) {
                        tracing::warn!(%error, index, "cannot map more of an array of the kernel");
                    }
                    return None;
                }
            }
        }
        // SAFETY: inside the mapping, just checked. It is gone only when another element is asked for, or all are dropped.
        Some(unsafe { mapped.as_mut_ptr().cast::<T>().add(index) })
    }

    /// Sets an element to zeros. The caller knows that no program uses it.
    pub fn clear(&mut self, index: usize) {
        if let Some(element) = self.element(index) {
            // SAFETY: a valid element; all-zero bytes are a valid value of every map layout.
            unsafe { element.write_bytes(0, 1) };
        }
    }
}

fn map(array: &OwnedFd, bytes: usize) -> io::Result<MmapRaw> {
    MmapOptions::new().len(bytes).map_raw(array.as_raw_fd())
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
        self.element(index)
            .map_or(0, |slot| unsafe { (&raw const (*slot).key.role).read_volatile() })
    }

    /// Key of the slot's half, written before its number is known to anyone.
    pub fn key(&self, index: usize) -> HalfKey {
        let Some(slot) = self.element(index) else { return HalfKey::folded(0, 0, 0) };
        // SAFETY: a valid element of plain integers.
        unsafe { (&raw const (*slot).key).read_volatile() }
    }

    /// Whether the programs take the slot's key to lead to it in the map `halves`.
    pub fn leads_here(&self, index: usize) -> bool {
        // SAFETY: a valid element.
        self.element(index).is_some_and(|slot| load(unsafe { &raw mut (*slot).leads_here }) != 0)
    }

    /// Tells the programs whether it does: to be taken back before it does not any more.
    pub fn set_leads_here(&mut self, index: usize, leads: bool) {
        let Some(slot) = self.element(index) else { return };
        // SAFETY: a valid element, an aligned word of it. Seen before whatever is done to the map.
        unsafe { AtomicU64::from_ptr(&raw mut (*slot).leads_here) }.store(u64::from(leads), SeqCst);
    }

    /// When an open connection of the slot was last found to have moved something, in ns since boot.
    pub fn moved_ns(&self, index: usize) -> u64 {
        // SAFETY: a valid element.
        self.element(index).map_or(0, |slot| load(unsafe { &raw mut (*slot).moved_ns }))
    }

    /// Counters of the slot, each as it is now.
    pub fn counters(&self, index: usize) -> [u64; COUNTERS] {
        let Some(slot) = self.element(index) else { return [0; COUNTERS] };
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
        self.element(index).map_or(0, |chunk| load(unsafe { &raw mut (*chunk).samples }))
    }

    /// Whose chunk it is.
    pub fn key(&self, index: usize) -> ChunkKey {
        let none = ChunkKey { slot: 0, histogram: 0, part: 0 };
        // SAFETY: a valid element of plain integers.
        self.element(index)
            .map_or(none, |chunk| unsafe { (&raw const (*chunk).key).read_volatile() })
    }

    /// Buckets of the chunk, each as it is now, modulo 2^32.
    pub fn buckets(&self, index: usize) -> [u32; CHUNK_BUCKETS] {
        let Some(chunk) = self.element(index) else { return [0; CHUNK_BUCKETS] };
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A file in place of an array, of which each element is its number.
    fn array(elements: u64) -> OwnedFd {
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..elements).flat_map(u64::to_ne_bytes).collect();
        io::Write::write_all(&mut file, &bytes).unwrap();
        file.into()
    }

    #[test]
    fn no_more_is_mapped_than_was_looked_at() {
        let elements = 40_000;
        let mut pages = Pages::<u64>::new(array(elements), elements as usize).unwrap();
        let mapped = |pages: &Pages<u64>| pages.mapped.borrow().len();
        let at = |pages: &Pages<u64>, index| load(pages.element(index).unwrap());
        assert_eq!((at(&pages, 0), at(&pages, 8_191)), (0, 8_191));
        assert_eq!(mapped(&pages), LEAST_BYTES);
        assert_eq!(at(&pages, 8_192), 8_192);
        assert_eq!(mapped(&pages), 2 * LEAST_BYTES);
        assert_eq!(at(&pages, 39_999), 39_999);
        assert_eq!(mapped(&pages), 320_000);
        pages.clear(39_999);
        pages.fit(8_193);
        assert_eq!(mapped(&pages), 2 * LEAST_BYTES);
        assert_eq!((at(&pages, 8_191), at(&pages, 39_999)), (8_191, 0));
    }
}
