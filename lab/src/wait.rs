//! Bounded waiting for a condition.

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::interrupt;

const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The error of a wait whose limit passed.
#[derive(Debug)]
pub struct Timeout {
    what: String,
    limit: Duration,
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "failed to see {} within {:?}", self.what, self.limit)
    }
}

impl std::error::Error for Timeout {}

/// Calls `probe` again and again until it returns `Some`.
///
/// # Errors
/// [`Timeout`] when `limit` passes first (`what` names the thing waited for); also when `probe`
/// fails, or when the user interrupts the lab.
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
            return Err(Timeout { what: what.to_owned(), limit }.into());
        }
        thread::sleep(POLL_INTERVAL);
    }
}
