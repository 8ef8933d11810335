//! The time zone of this machine.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::tz::TimeZone;
use tokio::sync::Semaphore;

use crate::sys::host::thread;

/// The zone as it was found last; UTC until then. It is found by a thread, since its files may be on
/// a disk that hangs. Clones share it.
#[derive(Clone)]
pub(super) struct LocalZone {
    known: Arc<Mutex<TimeZone>>,
    /// Permit of the thread: a second one would hang as well.
    finding: Arc<Semaphore>,
}

impl LocalZone {
    pub(super) fn new() -> LocalZone {
        LocalZone {
            known: Arc::new(Mutex::new(TimeZone::UTC)),
            finding: Arc::new(Semaphore::new(1)),
        }
    }

    /// Returns the zone as far as it is known.
    pub(super) fn get(&self) -> TimeZone {
        self.lock().clone()
    }

    /// Begins to find the zone, which may be another one by now.
    pub(super) fn refresh(&self) {
        self.refresh_by(TimeZone::system);
    }

    fn refresh_by(&self, find: impl FnOnce() -> TimeZone + Send + 'static) {
        let Ok(permit) = Arc::clone(&self.finding).try_acquire_owned() else { return };
        let zone = self.clone();
        let work = move || {
            let found = find();
            *zone.lock() = found;
            drop(permit);
        };
        if let Err(error) = thread::start("zone", work) {
            tracing::debug!("the time zone is not read: {error:#}");
        }
    }

    fn lock(&self) -> MutexGuard<'_, TimeZone> {
        // No holder leaves it half changed.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::mpsc,
        time::{Duration, Instant},
    };

    use super::*;

    #[test]
    fn a_zone_that_hangs_is_utc_and_costs_one_thread() {
        let zone = LocalZone::new();
        let (found, wait) = mpsc::channel();
        zone.refresh_by(move || wait.recv().expect("found"));
        assert_eq!(zone.get(), TimeZone::UTC);
        zone.refresh_by(|| unreachable!("a second thread"));
        let local = TimeZone::fixed(jiff::tz::offset(-3));
        found.send(local.clone()).expect("awaited");
        let deadline = Instant::now() + Duration::from_secs(60);
        while zone.get() != local {
            assert!(Instant::now() < deadline, "the zone that was found is not used");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
