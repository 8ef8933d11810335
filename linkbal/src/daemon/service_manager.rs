//! Notification of the service manager, if there is one (sd_notify(3)).
//!
//! linkbal is ready once routes, ip rules and the NAT are in place. The watchdog is fed by the main
//! loop, as long as the kernel answers: it is asked for the counters of traffic once a second.

use std::{sync::OnceLock, time::Duration};

use sd_notify::NotifyState;

use super::{Daemon, warn_of};
use crate::{
    engine::health::State,
    sys::host::{descriptors, memory, writer::BackgroundWriter},
    words::count,
};

/// Longest time for an answer of the kernel, before the watchdog is no longer fed.
const KERNEL_TIMEOUT: Duration = Duration::from_secs(60);

/// Knowledge of the service manager: what it was told last.
pub(super) struct ServiceManager {
    /// Number of uplinks that are up, and of all uplinks.
    reported: Option<(usize, usize)>,
    /// Interval at which the watchdog is fed, if there is one.
    watchdog: Option<Duration>,
    fed: Option<Duration>,
    /// Time of the kernel's last answer.
    answered: Duration,
}

/// The channel to the service manager, which may be stopped, too.
static MANAGER: OnceLock<Option<BackgroundWriter>> = OnceLock::new();

/// Longest time that the end of the daemon waits for the service manager.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(200);

/// Most messages that wait for the service manager.
const QUEUE: usize = 64;

impl ServiceManager {
    pub(super) fn new() -> ServiceManager {
        ServiceManager {
            reported: None,
            // Half of the timeout is what sd_watchdog_enabled(3) recommends.
            watchdog: sd_notify::watchdog_enabled().map(|time| time / 2),
            fed: None,
            answered: Duration::ZERO,
        }
    }

    /// Records that the kernel answered.
    pub(super) const fn answered(&mut self, now: Duration) {
        self.answered = now;
    }

    fn feed(&mut self, now: Duration) {
        let Some(every) = self.watchdog else { return };
        if self.fed.is_none_or(|fed| fed + every <= now) && now < self.answered + KERNEL_TIMEOUT {
            self.fed = Some(now);
            notify_manager(&[NotifyState::Watchdog]);
        }
    }
}

/// Tells the service manager that a reload begins, or is over.
pub(super) fn reloading(begins: bool) {
    if begins && let Ok(now) = NotifyState::monotonic_usec_now() {
        notify_manager(&[NotifyState::Watchdog, NotifyState::Reloading, now]);
    } else {
        notify_manager(&[NotifyState::Watchdog, NotifyState::Ready]);
    }
}

/// Tells the service manager that the daemon ends.
pub(super) fn stopping() {
    notify_manager(&[NotifyState::Stopping]);
    if let Some(Some(manager)) = MANAGER.get() {
        manager.flush(FLUSH_TIMEOUT);
    }
}

fn notify_manager(states: &[NotifyState<'_>]) {
    let manager = MANAGER.get_or_init(|| {
        let outbox = BackgroundWriter::start("notify", QUEUE, |text, _| {
            let text = String::from_utf8_lossy(text);
            let _lent = descriptors::lend();
            warn_of(sd_notify::notify(&[NotifyState::Custom(&text)]).map_err(Into::into));
        });
        outbox.inspect_err(|error| tracing::warn!("{error:#}")).ok()
    });
    if let Some(manager) = manager {
        let lines: Vec<String> = states.iter().map(ToString::to_string).collect();
        // A manager that does not listen misses it.
        manager.push(lines.join("\n").into());
    }
}

impl Daemon {
    /// Tells the service manager the state, if it changed.
    pub(super) fn tell_service_manager(&mut self, now: Duration) {
        self.service_manager.feed(now);
        let reported = self.service_manager.reported;
        if !self.engine.is_installed() && reported.is_none() {
            return;
        }
        let uplinks = self.engine.uplinks();
        let up = uplinks.iter().filter(|uplink| uplink.state() == State::Up).count();
        let state = Some((up, uplinks.len()));
        if state == reported {
            return;
        }
        if reported.is_none() {
            notify_manager(&[NotifyState::Ready]);
            // Nothing as large follows the loading of the programs.
            memory::give_back();
        }
        let verb = if uplinks.len() == 1 { "is" } else { "are" };
        let uplinks = count(uplinks.len(), "uplink");
        notify_manager(&[NotifyState::Status(&format!("{up} of {uplinks} {verb} up"))]);
        self.service_manager.reported = state;
    }
}
