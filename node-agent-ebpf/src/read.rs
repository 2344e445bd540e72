//! Reading kernel structures at offsets that the agent resolved.

use aya_ebpf::helpers::bpf_probe_read_kernel;

use crate::settings;

/// Reads a field of a kernel structure; `None` when the offset is not known or memory is not
/// readable.
#[inline(always)]
pub fn field<T>(base: *const u8, offset: u32) -> Option<T> {
    if offset == 0 {
        return None;
    }
    // SAFETY: the helper checks the address and copies; `T` is an integer or array of them.
    unsafe { bpf_probe_read_kernel(base.add(offset as usize).cast::<T>()) }.ok()
}

/// Like [`field`], for fields that may be the first of their structure.
#[inline(always)]
pub fn first_field<T>(base: *const u8, offset: u32) -> Option<T> {
    // SAFETY: as above.
    unsafe { bpf_probe_read_kernel(base.add(offset as usize).cast::<T>()) }.ok()
}

/// Cookie of a socket's network namespace. (The helpers that tell it know fewer kinds of program.)
#[inline(always)]
pub fn netns_cookie(sock: *const u8) -> Option<u64> {
    let net = field::<u64>(sock, settings::sock_net())?;
    field(net as *const u8, settings::net_cookie())
}
