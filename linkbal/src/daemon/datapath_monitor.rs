//! Supervision of the datapath: missing parts are reported to the engine, which decides what to
//! restore.
//!
//! Lost pins are reported by inotify. The kernel does not report a detached link: a thread checks
//! the links, often enough that few packets go astray in between.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use anyhow::Result;

use super::{Daemon, warn_of};
use crate::{
    engine::{Event, network::NetworkEvent, repair::Part},
    sys::{
        datapath::link_watcher::Lookout,
        events::Watch,
        host::{descriptors, instance::Instance},
    },
};

/// Time between two checks of everything, and between two reports of the same damage.
const ALL: Duration = Duration::from_secs(1);

/// Time of the next check, and the result of the last one.
pub(super) struct Damage {
    watch: Watch,
    /// The thread that checks the links.
    pub(super) lookout: Lookout,
    folder: PathBuf,
    all_due: Duration,
    /// Failures to restore parts.
    failures: BTreeSet<String>,
    told: Vec<Part>,
    told_at: Duration,
}

impl Damage {
    /// Creates the state before the first check; pins are in `folder`.
    ///
    /// # Errors
    ///
    /// If a thread cannot be started.
    pub(super) fn new(watch: Watch, folder: PathBuf) -> Result<Damage> {
        warn_of(watch.pins(&folder));
        let never = Duration::ZERO;
        Ok(Damage {
            watch,
            lookout: Lookout::start()?,
            folder,
            all_due: never,
            failures: BTreeSet::new(),
            told: Vec::new(),
            told_at: never,
        })
    }

    /// Returns the time of the next check.
    pub(super) const fn due(&self) -> Duration {
        self.all_due
    }
}

impl Daemon {
    /// Checks the datapath, if that is due.
    pub(super) fn look_for_damage(&mut self, now: Duration) {
        if self.damage.all_due > now {
            return;
        }
        self.damage.all_due = now + ALL;
        let mut missing = self.datapath.detached();
        for part in self.datapath.unpinned() {
            if !missing.contains(&part) {
                missing.push(part);
            }
        }
        self.tell_damage(missing, now);
    }

    /// Reports detached links to the engine.
    pub(super) fn link_detached(&mut self) {
        let now = self.now();
        self.tell_damage(self.datapath.detached(), now);
    }

    fn tell_damage(&mut self, missing: Vec<Part>, now: Duration) {
        let again = missing == self.damage.told && now < self.damage.told_at + ALL;
        if missing.is_empty() || again {
            return;
        }
        self.damage.told.clone_from(&missing);
        self.damage.told_at = now;
        self.feed(Some(Event::Damaged(missing)), now);
    }

    /// Handles changes of the datapath, and passes all other events to the engine.
    pub(super) fn network_event(&mut self, event: NetworkEvent) {
        let now = self.now();
        match event {
            NetworkEvent::Datapath { ifindex: None } => {
                self.damage.all_due = now;
                self.look_for_damage(now);
            }
            NetworkEvent::Datapath { ifindex: Some(ifindex) } => {
                let lost = self.datapath.lost_filter(ifindex);
                self.tell_damage(lost.into_iter().collect(), now);
            }
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
        for failure in BTreeSet::difference(&failures, &self.damage.failures) {
            tracing::warn!("{failure}");
        }
        self.damage.failures = failures;
        self.datapath.watch(&self.damage.lookout);
        // A folder that was created anew is another one.
        warn_of(self.damage.watch.pins(&self.damage.folder));
        self.damage.told.clear();
    }
}
