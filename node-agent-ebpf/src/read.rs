//! Reading kernel structures at offsets that the agent resolved.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;

use crate::settings;

/// Reads a field of a kernel structure; `None` when the offset is not known or memory is not
/// readable.
#[inline(always)]
pub fn field<T>(base: *const u8, offset: u32) -> Option<T> {
    if offset == 0 {
        return None;
    }
    first_field(base, offset)
}

/// Like [`field`], for fields that may be the first of their structure.
#[inline(always)]
pub fn first_field<T>(base: *const u8, offset: u32) -> Option<T> {
    // Zeroed first: before 6.3 the verifier refuses to read what it has not seen written, and the compiler reads
    // neighbours together.
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: the helper checks the address and copies; `T` is an integer or array of them, for which any bytes are
    // a value.
    unsafe {
        let source = base.add(offset as usize).cast();
        let size = size_of::<T>() as u32;
        (bpf_probe_read_kernel(value.as_mut_ptr().cast(), size, source) == 0)
            .then(|| value.assume_init())
    }
}

/// Like [`field`], of a structure that the verifier knows by its type: a plain load, which costs a tenth of a call.
///
/// # Safety
///
/// `base` must be what a helper returned for a structure that has such a field at `offset`, and not null. The verifier
/// refuses the program otherwise.
#[inline(always)]
pub unsafe fn known_field<T: Copy>(base: *const u8, offset: u32) -> Option<T> {
    if offset == 0 {
        return None;
    }
    // SAFETY: the caller's promise. Volatile, so that neighbours are not read together.
    Some(unsafe { core::ptr::read_volatile(base.add(offset as usize).cast()) })
}

/// Cookie of a socket's network namespace. (The helpers that tell it know fewer kinds of program.)
#[inline(always)]
pub fn netns_cookie(sock: *const u8) -> Option<u64> {
    let net = field::<u64>(sock, settings::sock_net())?;
    field(net as *const u8, settings::net_cookie())
}
