//! The clock of this machine.

/// Returns whether the kernel says that nobody keeps the clock right (adjtimex(2)).
pub fn is_unsynchronised() -> bool {
    // SAFETY: all zeros are a value of this type; without modes, nothing is changed.
    let mut clock: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes to the value, which is ours.
    unsafe { libc::adjtimex(&raw mut clock) == libc::TIME_ERROR }
}
