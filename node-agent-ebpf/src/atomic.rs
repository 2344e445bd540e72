//! Atomic adds. `core`'s atomics have none for the BPF target, which knows no compare-and-swap
//! before 5.12; the intrinsic compiles to the plain atomic add that every kernel has, as long as the
//! old value is not used.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

/// Adds to a 64-bit map value.
///
/// # Safety
///
/// `value` must point to an aligned map value.
#[inline(always)]
pub unsafe fn add_u64(value: *mut u64, increment: u64) {
    // SAFETY: the caller's promise.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(value, increment) };
}

/// Adds to a 32-bit map value.
///
/// # Safety
///
/// `value` must point to an aligned map value.
#[inline(always)]
pub unsafe fn add_u32(value: *mut u32, increment: u32) {
    // SAFETY: the caller's promise.
    unsafe { atomic_xadd::<u32, u32, { AtomicOrdering::Relaxed }>(value, increment) };
}
