//! Memory of this process.

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
