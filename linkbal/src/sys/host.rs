//! The machine beside its network: files, helper programs, descriptors, privileges and time.

pub mod child;
pub mod clock;
pub mod descriptors;
pub mod file;
pub mod hook;
pub mod instance;
pub mod memory;
pub mod privilege;
pub mod seed;
pub(crate) mod thread;
pub mod timer;
pub mod writer;

use std::time::{Duration, Instant};

/// Returns the moment that is `time` from now.
fn moment_after(time: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(time).unwrap_or(now)
}
