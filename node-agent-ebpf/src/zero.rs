//! Zeros without `memset`: for this target the compiler makes a call of every one of them, however short, to a function that
//! goes byte by byte and takes 32 bytes of the stack besides.

use core::mem::MaybeUninit;

/// Fills a place with zeros, padding included.
#[inline(always)]
pub fn out<T: Copy>(place: &mut MaybeUninit<T>) -> &mut T {
    const { assert!(size_of::<T>().is_multiple_of(8) && align_of::<T>() == 8) };
    let words = place.as_mut_ptr().cast::<u64>();
    let mut word = 0;
    while word < size_of::<T>() / 8 {
        // SAFETY: inside the place. Volatile, so that the writes are not made a `memset` again.
        unsafe { words.add(word).write_volatile(0) };
        word += 1;
    }
    // SAFETY: callers use it for plain integers, of which zeros are a value.
    unsafe { place.assume_init_mut() }
}
