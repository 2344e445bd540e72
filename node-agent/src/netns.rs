//! Network namespaces and their cookies.

use std::{io, os::fd::AsRawFd as _};

use nix::{
    libc,
    sys::socket::{AddressFamily, SockFlag, SockType, socket},
};

/// Cookie of the calling thread's network namespace, unique within a boot.
///
/// # Errors
/// Before kernel 5.14.
pub(crate) fn cookie() -> io::Result<u64> {
    let probe = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut cookie = 0_u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    #[allow(unsafe_code, reason = "no wrapper in the crates at hand knows this option")]
    // SAFETY: the pointers are to live variables, and `length` is the size of the one written.
    let result = unsafe {
        libc::getsockopt(
            probe.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}
