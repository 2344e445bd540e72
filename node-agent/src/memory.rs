//! What the allocator keeps of memory that was given back to it.

/// Makes glibc keep little. Called before there is a second thread: with a heap for each of them, whatever the
/// collector's thread needs for a moment when it loads the programs, some 20 MB for the kernel's types, would stay
/// with its heap, which nothing makes smaller.
pub fn keep_little() {
    #[cfg(target_env = "gnu")]
    #[allow(unsafe_code)]
    // SAFETY: it has no requirements; a setting that is not known changes nothing.
    unsafe {
        use nix::libc::{M_ARENA_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, mallopt};
        mallopt(M_ARENA_MAX, 1);
        // As they are at first; left alone, they grow to the largest block ever given back.
        mallopt(M_MMAP_THRESHOLD, 128 * 1024);
        mallopt(M_TRIM_THRESHOLD, 128 * 1024);
    }
}

/// Gives back what lies free between what is in use.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    #[allow(unsafe_code)]
    // SAFETY: it has no requirements, and moves nothing that is in use.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}
