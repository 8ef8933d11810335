//! Memory of this process.

/// Lets all threads allocate from two arenas: each of many that are seldom busy would keep half a megabyte of
/// its own. Takes effect for threads that begin after it.
pub fn limit_arenas() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt(3) changes a number of the allocator, under the allocator's own lock.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}

/// Gives the kernel back what was freed: loading the eBPF object, compiling a configuration and answering
/// many readers take megabytes for a moment, and the allocator keeps what lies below something that still
/// lives.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) touches free memory alone, and takes the allocator's locks itself.
    unsafe {
        libc::malloc_trim(0);
    }
}
