//! Looks after the datapath: what is missing is told to the engine, which says what to restore.
//!
//! Pins that go away are told by inotify. Of a link that is detached nobody tells: the links are
//! looked at often enough that little goes astray in between.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use super::{Daemon, warn_of};
use crate::{
    engine::{Event, network::NetworkEvent, repair::Part},
    sys::{events::Watch, instance::Instance},
};

/// Time between two looks at the links.
const LINKS: Duration = Duration::from_millis(50);

/// A look may be this much too early if the daemon is awake anyway.
const EARLY: Duration = Duration::from_millis(10);

/// Time between two looks at everything, and between two reports of the same damage.
const ALL: Duration = Duration::from_secs(1);

/// When to look again, and what was missing last time.
pub(super) struct Damage {
    watch: Watch,
    folder: PathBuf,
    links_due: Duration,
    all_due: Duration,
    /// What could not be restored.
    failures: BTreeSet<String>,
    told: Vec<Part>,
    told_at: Duration,
}

impl Damage {
    /// Nothing has been looked at; pins are in `folder`.
    pub(super) fn new(watch: Watch, folder: PathBuf) -> Damage {
        warn_of(watch.pins(&folder));
        let never = Duration::ZERO;
        Damage {
            watch,
            folder,
            links_due: never,
            all_due: never,
            failures: BTreeSet::new(),
            told: Vec::new(),
            told_at: never,
        }
    }

    /// When the next look is due.
    pub(super) fn due(&self) -> Duration {
        self.links_due.min(self.all_due)
    }
}

impl Daemon {
    /// Looks at the datapath, if that is due.
    pub(super) fn look_for_damage(&mut self, now: Duration) {
        if self.damage.due() > now + EARLY {
            return;
        }
        let mut missing = self.datapath.detached();
        self.damage.links_due = now + LINKS;
        if self.damage.all_due <= now + EARLY {
            self.damage.all_due = now + ALL;
            for part in self.datapath.unpinned() {
                if !missing.contains(&part) {
                    missing.push(part);
                }
            }
        }
        self.tell_damage(missing, now);
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

    /// What is news to the datapath; all else is for the engine.
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

    /// Restores parts; one that cannot be is found missing again, and its failure said once.
    pub(super) fn restore(&mut self, parts: &[Part]) {
        // Somebody may have unmounted what the pins are in.
        warn_of(Instance::current().map(drop));
        let failures = parts.iter().filter_map(|part| self.datapath.restore(part).err());
        let failures = failures.map(|error| format!("{error:#}")).collect();
        for failure in BTreeSet::difference(&failures, &self.damage.failures) {
            tracing::warn!("{failure}");
        }
        self.damage.failures = failures;
        // A folder that was made anew is another one.
        warn_of(self.damage.watch.pins(&self.damage.folder));
        self.damage.told.clear();
    }
}
