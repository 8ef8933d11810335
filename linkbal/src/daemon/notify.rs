//! Tells the service manager how it stands (sd_notify(3)); without one, nobody.
//!
//! linkbal is ready once routes, ip rules and the translation of addresses are in place. The watchdog
//! is fed by the main loop, as long as the kernel answers: the counters of traffic are asked for
//! once a second.

use std::{sync::OnceLock, time::Duration};

use sd_notify::NotifyState;

use super::{Daemon, warn_of};
use crate::{
    engine::health::State,
    sys::{descriptors, outbox::Outbox},
};

/// Nothing has to be asked of the kernel that takes longer.
const SILENCE: Duration = Duration::from_secs(60);

/// What the service manager was told last.
pub(super) struct Notifier {
    /// How many uplinks are up, and how many there are.
    told: Option<(usize, usize)>,
    /// How often the watchdog wants to be fed, if there is one.
    watchdog: Option<Duration>,
    fed: Option<Duration>,
    /// When the kernel answered last.
    heard: Duration,
}

/// The way to the service manager, which may be stopped, too.
static MANAGER: OnceLock<Option<Outbox>> = OnceLock::new();

/// How long the end waits for it.
const PATIENCE: Duration = Duration::from_millis(200);

/// Messages that wait for it at most.
const QUEUE: usize = 64;

impl Notifier {
    pub(super) fn new() -> Notifier {
        Notifier {
            told: None,
            // Twice in its time is what sd_watchdog_enabled(3) recommends.
            watchdog: sd_notify::watchdog_enabled().map(|time| time / 2),
            fed: None,
            heard: Duration::ZERO,
        }
    }

    /// The kernel answered.
    pub(super) const fn heard(&mut self, now: Duration) {
        self.heard = now;
    }

    fn feed(&mut self, now: Duration) {
        let Some(every) = self.watchdog else { return };
        if self.fed.is_none_or(|fed| fed + every <= now) && now < self.heard + SILENCE {
            self.fed = Some(now);
            tell(&[NotifyState::Watchdog]);
        }
    }
}

/// A reload begins, or is over.
pub(super) fn reloading(begins: bool) {
    if begins && let Ok(now) = NotifyState::monotonic_usec_now() {
        tell(&[NotifyState::Watchdog, NotifyState::Reloading, now]);
    } else {
        tell(&[NotifyState::Watchdog, NotifyState::Ready]);
    }
}

/// The daemon ends.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
    if let Some(Some(manager)) = MANAGER.get() {
        manager.flush(PATIENCE);
    }
}

fn tell(states: &[NotifyState<'_>]) {
    let manager = MANAGER.get_or_init(|| {
        let outbox = Outbox::start("notify", QUEUE, |text, _| {
            let text = String::from_utf8_lossy(text);
            let _lent = descriptors::lend();
            warn_of(sd_notify::notify(&[NotifyState::Custom(&text)]).map_err(Into::into));
        });
        outbox.inspect_err(|error| tracing::warn!("{error:#}")).ok()
    });
    if let Some(manager) = manager {
        let lines: Vec<String> = states.iter().map(ToString::to_string).collect();
        // One that does not listen misses it.
        manager.push(lines.join("\n").into());
    }
}

impl Daemon {
    /// Tells what is news.
    pub(super) fn notify(&mut self, now: Duration) {
        self.notifier.feed(now);
        let told = self.notifier.told;
        if !self.engine.is_installed() && told.is_none() {
            return;
        }
        let uplinks = self.engine.uplinks();
        let up = uplinks.iter().filter(|uplink| uplink.state() == State::Up).count();
        let news = Some((up, uplinks.len()));
        if news == told {
            return;
        }
        if told.is_none() {
            tell(&[NotifyState::Ready]);
        }
        tell(&[NotifyState::Status(&format!("{up} of {} uplinks are up", uplinks.len()))]);
        self.notifier.told = news;
    }
}
