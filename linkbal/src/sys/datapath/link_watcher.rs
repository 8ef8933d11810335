//! A thread that polls program links: the kernel does not notify of a detached link, and a turn of
//! the main loop would cost several times as much as a poll.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::sleep,
    time::Duration,
};

use anyhow::Result;
use tokio::sync::mpsc;

use super::link::HeldLink;
use crate::sys::host::thread;

/// Time between two polls.
const INTERVAL: Duration = Duration::from_millis(70);

/// The thread's links, and its notifications.
pub struct LinkWatcher {
    links: Links,
    detached: mpsc::Receiver<()>,
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

impl LinkWatcher {
    /// Starts the thread, which ends when this is dropped.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub fn start() -> Result<LinkWatcher> {
        let links = Links::default();
        let (notify, detached) = mpsc::channel(1);
        let watched = links.clone();
        let poll = move || {
            while !notify.is_closed() {
                sleep(INTERVAL);
                if !watched.lock().iter().all(HeldLink::is_attached) {
                    // One that was not received yet says the same.
                    let _ = notify.try_send(());
                }
            }
        };
        thread::start("link-watcher", poll)?;
        Ok(LinkWatcher { links, detached })
    }

    /// Polls these links from now on, in place of all others.
    pub(super) fn set_links(&self, links: Vec<HeldLink>) {
        *self.links.lock() = links;
    }

    /// Waits until a link is found detached.
    pub async fn detached(&mut self) {
        if self.detached.recv().await.is_none() {
            // The thread cannot end before this does.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for LinkWatcher {
    fn drop(&mut self) {
        self.links.lock().clear();
    }
}
