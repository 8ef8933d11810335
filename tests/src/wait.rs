//! Bounded waiting for a condition.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::interrupt;

const PAUSE: Duration = Duration::from_millis(20);

/// Asks `probe` again and again until it answers `Some`.
///
/// # Errors
/// When `limit` passes first (`what` names the thing waited for), when `probe` fails, or when the
/// user interrupts the lab.
pub fn until<T>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        interrupt::check()?;
        if let Some(value) = probe()? {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            bail!("failed to see {what} within {limit:?}");
        }
        thread::sleep(PAUSE);
    }
}
