//! A check of program links in a thread of its own: the kernel does not tell of a detached link,
//! and a turn of the main loop would cost several times as much as the check.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::sync::mpsc;

use super::link::HeldLink;

/// Time between two checks.
const PACE: Duration = Duration::from_millis(70);

/// The thread's links, and its alarms.
pub struct Lookout {
    links: Links,
    alarms: mpsc::Receiver<()>,
}

/// The links, shared with the thread, which must not hold them any longer than the datapath does.
#[derive(Clone, Default)]
struct Links(Arc<Mutex<Vec<HeldLink>>>);

impl Links {
    /// Locks the links, which no holder leaves half changed.
    fn lock(&self) -> MutexGuard<'_, Vec<HeldLink>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lookout {
    /// Starts the thread, which ends when this is dropped.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub fn start() -> Result<Lookout> {
        let links = Links::default();
        let (alarm, alarms) = mpsc::channel(1);
        let watched = links.clone();
        let look = move || {
            while !alarm.is_closed() {
                thread::sleep(PACE);
                if !watched.lock().iter().all(HeldLink::is_attached) {
                    // An alarm that was not heard yet says the same.
                    let _ = alarm.try_send(());
                }
            }
        };
        let thread = thread::Builder::new().name("lookout".into()).spawn(look);
        thread.context("failed to start a thread")?;
        Ok(Lookout { links, alarms })
    }

    /// Checks these links from now on, in place of all others.
    pub(super) fn watch(&self, links: Vec<HeldLink>) {
        *self.links.lock() = links;
    }

    /// Waits until a link is found detached.
    pub async fn alarm(&mut self) {
        if self.alarms.recv().await.is_none() {
            // The thread cannot end before this does.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Lookout {
    fn drop(&mut self) {
        self.links.lock().clear();
    }
}
