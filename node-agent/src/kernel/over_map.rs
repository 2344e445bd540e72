//! Iterators over the elements of a map, which the library makes no links for.

use std::{
    ffi::CString,
    fs::File,
    io,
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use nix::libc;

/// Commands of `bpf(2)`, and a kind of attachment, of `uapi/linux/bpf.h`.
const OBJ_PIN: libc::c_int = 6;
const LINK_CREATE: libc::c_int = 28;
const ITER_CREATE: libc::c_int = 33;
const TRACE_ITER: u32 = 28;

/// As much of `union bpf_attr` as each command has. The kernel takes what is missing for zeros.
#[repr(C)]
struct LinkCreate {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    /// Address of a `union bpf_iter_link_info`, which for a map is its descriptor.
    info: u64,
    info_len: u32,
    reserved: u32,
}

#[repr(C)]
struct IterCreate {
    link: u32,
    flags: u32,
}

#[repr(C)]
struct ObjPin {
    path: u64,
    fd: u32,
    flags: u32,
}

/// Attaches an iterator to a map.
///
/// # Errors
/// When the kernel refuses.
pub fn link(program: BorrowedFd<'_>, map: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let info = raw(map.as_raw_fd());
    let attributes = LinkCreate {
        program: raw(program.as_raw_fd()),
        target: 0,
        attach_type: TRACE_ITER,
        flags: 0,
        info: &raw const info as u64,
        info_len: size_of_val(&info) as u32,
        reserved: 0,
    };
    // SAFETY: the attributes are those of the command; `info` outlives the call.
    let fd = unsafe { bpf(LINK_CREATE, &attributes) }?;
    // SAFETY: a new descriptor, which is nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A file that runs the iterator when it is read.
///
/// # Errors
/// When the kernel refuses.
pub fn open(link: &impl AsFd) -> io::Result<File> {
    let attributes = IterCreate { link: raw(link.as_fd().as_raw_fd()), flags: 0 };
    // SAFETY: the attributes are those of the command.
    let fd = unsafe { bpf(ITER_CREATE, &attributes) }?;
    // SAFETY: a new descriptor, which is nobody else's.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// Pins a link: reading the file runs the iterator.
///
/// # Errors
/// When the kernel refuses.
pub fn pin(link: &impl AsFd, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let fd = raw(link.as_fd().as_raw_fd());
    let attributes = ObjPin { path: path.as_ptr() as u64, fd, flags: 0 };
    // SAFETY: the attributes are those of the command; `path` outlives the call.
    unsafe { bpf(OBJ_PIN, &attributes) }.map(drop)
}

fn raw(fd: RawFd) -> u32 {
    // One that is open is not negative.
    fd.cast_unsigned()
}

/// # Safety
///
/// `attributes` must be what the command takes.
unsafe fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<RawFd> {
    // SAFETY: the caller's promise; the kernel reads no more than the size says.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, &raw const *attributes, size_of::<T>()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        RawFd::try_from(result).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_link_is_refused() {
        let file = tempfile::tempfile().unwrap();
        assert!(open(&file).is_err());
        assert!(pin(&file, Path::new("/nowhere")).is_err());
        assert!(link(file.as_fd(), file.as_fd()).is_err());
    }
}
