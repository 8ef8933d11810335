//! Supervision of the datapath: missing parts are reported to the engine, which decides what to
//! restore.
//!
//! Lost pins are reported by inotify. The kernel does not report a detached link: a thread polls
//! the links, often enough that few packets go astray in between.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use anyhow::Result;

use super::{Daemon, warn_of};
use crate::{
    engine::{
        Event,
        kernel::{network::NetworkEvent, resource::Part},
        obstacles::Obstacles,
    },
    sys::{
        datapath::link_watcher::LinkWatcher,
        events::FileWatcher,
        host::{descriptors, instance::Instance},
        ipsec,
    },
};

/// Time between two checks of everything, and between two reports of the same missing parts.
const INTERVAL: Duration = Duration::from_secs(1);

/// Time between two attempts to listen to IPsec.
const RETRY_DELAY: Duration = Duration::from_secs(30);

/// The time of the next check, and the result of the last one.
pub(super) struct DatapathMonitor {
    watch: FileWatcher,
    /// The thread that polls the links.
    pub(super) watcher: LinkWatcher,
    folder: PathBuf,
    due: Duration,
    /// Failures to restore parts.
    failures: BTreeSet<String>,
    reported: Vec<Part>,
    reported_at: Duration,
    /// The interfaces that the programs could not be attached to at the last attempt, with the reason,
    /// and those that the engine knows.
    pub(super) unattached: BTreeMap<String, String>,
    known_unattached: BTreeMap<String, String>,
    /// The obstacles to shortcuts that the engine knows.
    obstacles: Option<Obstacles>,
    /// False if the kernel has no IPsec, or why nothing is known of it.
    ipsec: Result<bool, String>,
    /// Time of the next attempt to listen to IPsec; `None` once that is done.
    ipsec_due: Option<Duration>,
}

impl DatapathMonitor {
    /// Creates the state before the first check; pins are in `folder`.
    ///
    /// # Errors
    ///
    /// If a thread cannot be started.
    pub(super) fn new(watch: FileWatcher, folder: PathBuf) -> Result<DatapathMonitor> {
        warn_of(watch.pins(&folder));
        let never = Duration::ZERO;
        Ok(DatapathMonitor {
            watch,
            watcher: LinkWatcher::start()?,
            folder,
            due: never,
            failures: BTreeSet::new(),
            reported: Vec::new(),
            reported_at: never,
            unattached: BTreeMap::new(),
            known_unattached: BTreeMap::new(),
            obstacles: None,
            ipsec: Ok(false),
            ipsec_due: Some(never),
        })
    }

    /// Returns the time of the next check.
    pub(super) const fn due(&self) -> Duration {
        self.due
    }

    /// Makes the next check come soon.
    pub(super) const fn look_soon(&mut self) {
        self.due = Duration::ZERO;
    }
}

impl Daemon {
    /// Checks the datapath, if that is due.
    pub(super) fn check_datapath(&mut self, now: Duration) {
        if self.monitor.due > now {
            return;
        }
        self.monitor.due = now + INTERVAL;
        self.datapath.refresh_drivers();
        let mut missing = self.datapath.detached();
        for part in self.datapath.unpinned() {
            if !missing.contains(&part) {
                missing.push(part);
            }
        }
        self.report_missing(missing, now);
        self.report_unattached(now);
        self.look_for_obstacles(now);
    }

    fn report_unattached(&mut self, now: Duration) {
        let DatapathMonitor { unattached, known_unattached, .. } = &mut self.monitor;
        if unattached != known_unattached {
            known_unattached.clone_from(unattached);
            let unattached = unattached.clone();
            self.feed(Some(Event::NotAttached(unattached)), now);
        }
    }

    /// Asks the kernel what packets that take shortcuts would pass by, if there are any, and tells the
    /// engine what changed.
    fn look_for_obstacles(&mut self, now: Duration) {
        if !self.config.accelerate.takes_shortcuts() {
            return;
        }
        let lent = descriptors::lend();
        let everywhere = self.ipsec(now);
        let obstacles = Obstacles { everywhere, ingress: self.datapath.behind() };
        drop(lent);
        if self.monitor.obstacles.as_ref() != Some(&obstacles) {
            self.monitor.obstacles = Some(obstacles.clone());
            self.feed(Some(Event::Obstacles(obstacles)), now);
        }
    }

    /// Returns what IPsec does to packets, and listens to changes of that.
    fn ipsec(&mut self, now: Duration) -> Option<String> {
        // The kernel looks for a module each time.
        if self.monitor.ipsec_due.is_some_and(|due| due <= now) {
            let heard = self.network.listen_to_ipsec();
            self.monitor.ipsec_due = (!matches!(heard, Ok(true))).then_some(now + RETRY_DELAY);
            self.monitor.ipsec = heard.map_err(|error| format!("{error:#}"));
        }
        let asked = match &self.monitor.ipsec {
            Ok(false) => Ok(None),
            Ok(true) => ipsec::obstacle().map_err(|error| error.to_string()),
            Err(error) => Err(error.clone()),
        };
        asked.unwrap_or_else(|error| Some(format!("IPsec policies are unknown: {error}")))
    }

    /// Reports detached links to the engine.
    pub(super) fn handle_detached_link(&mut self) {
        let now = self.now();
        self.report_missing(self.datapath.detached(), now);
    }

    fn report_missing(&mut self, missing: Vec<Part>, now: Duration) {
        let again = missing == self.monitor.reported && now < self.monitor.reported_at + INTERVAL;
        if missing.is_empty() || again {
            return;
        }
        self.monitor.reported.clone_from(&missing);
        self.monitor.reported_at = now;
        self.feed(Some(Event::DatapathPartsMissing(missing)), now);
    }

    /// Handles changes of the datapath, and passes all other events to the engine.
    pub(super) fn handle_network_event(&mut self, event: NetworkEvent) {
        let now = self.now();
        match event {
            NetworkEvent::Datapath { ifindex: None } => {
                self.monitor.due = now;
                self.check_datapath(now);
            }
            NetworkEvent::Datapath { ifindex: Some(ifindex) } => {
                let lost = self.datapath.lost_filter(ifindex);
                self.report_missing(lost.into_iter().collect(), now);
                self.look_for_obstacles(now);
            }
            NetworkEvent::Obstacle => self.look_for_obstacles(now),
            event => self.feed(Some(Event::Network(event)), now),
        }
    }

    /// Restores parts. A part that cannot be restored is found missing again, and its failure is
    /// logged once.
    pub(super) fn restore(&mut self, parts: &[Part]) {
        let _lent = descriptors::lend();
        // The file system of the pins may have been unmounted.
        warn_of(Instance::current().map(drop));
        let failures = parts.iter().filter_map(|part| self.datapath.restore(part).err());
        let failures = failures.map(|error| format!("{error:#}")).collect();
        for failure in BTreeSet::difference(&failures, &self.monitor.failures) {
            tracing::warn!("{failure}");
        }
        self.monitor.failures = failures;
        self.datapath.watch_links(&self.monitor.watcher);
        // A folder that was created anew is another one.
        warn_of(self.monitor.watch.pins(&self.monitor.folder));
        self.monitor.reported.clear();
    }
}
