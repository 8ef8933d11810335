//! Outages of uplinks, from what is seen of them once a second.

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    time::Duration,
};

use linkbal_common::uplink::Family;

/// Number of outages within [`FLAP_WINDOW`] from which on an uplink flaps.
const FLAPS: usize = 3;

/// Time in which outages are counted.
const FLAP_WINDOW: Duration = Duration::from_secs(30 * 60);

/// An uplink in one family.
pub type Key = (String, Family);

/// A look at an uplink in one family. Times count from the start of the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Name of the uplink.
    pub uplink: String,
    /// The family.
    pub family: Family,
    /// Set if the uplink has no other family.
    pub only: bool,
    /// The state.
    pub seen: Seen,
    /// Time since which it has its state.
    pub since: Duration,
}

/// The state of an uplink in one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The uplink is up.
    Up,
    /// The uplink is down.
    Down(OutageCause),
    /// Nothing is known: it was disabled, or is blocked by a drill.
    Unwatched,
}

/// The cause of an outage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutageCause {
    /// A few words, in the past tense or without any.
    pub brief: String,
    /// The cause with what to do; empty if there is no more to say.
    pub advice: String,
}

/// An outage of an uplink in one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outage {
    /// Name of the uplink.
    pub uplink: String,
    /// The family.
    pub family: Family,
    /// Set if the uplink has no other family.
    pub only: bool,
    /// Time at which it began.
    pub began: Duration,
    /// Time at which it ended; `None` while it lasts.
    pub ended: Option<Duration>,
    /// Set if it ended because nobody watches the uplink any longer.
    pub unwatched: bool,
    /// The cause.
    pub cause: OutageCause,
}

impl Outage {
    /// Returns its uplink and family.
    pub fn key(&self) -> Key {
        (self.uplink.clone(), self.family)
    }

    /// Returns how long it lasted; nothing while it lasts.
    pub fn length(&self) -> Duration {
        self.ended.map_or(Duration::ZERO, |ended| ended.saturating_sub(self.began))
    }
}

/// News of an outage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutageNews {
    /// The outage as it is now.
    pub outage: Outage,
    /// The change.
    pub change: Change,
    /// Set if the uplink goes down again and again.
    pub flaps: bool,
}

/// A change of an outage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The outage began.
    Began,
    /// The cause is known better.
    Refined,
    /// The outage ended.
    Ended,
}

/// A watcher of all uplinks.
#[derive(Debug, Default)]
pub struct Tracker {
    tracks: BTreeMap<Key, Track>,
}

#[derive(Debug, Default)]
struct Track {
    open: Option<Outage>,
    /// Times at which the last outages began, at most [`FLAPS`].
    begins: VecDeque<Duration>,
}

impl Tracker {
    /// Takes what is seen of all uplinks at a time; returns the news.
    pub fn observe(&mut self, now: Duration, all: &[Sighting]) -> Vec<OutageNews> {
        let mut former = mem::take(&mut self.tracks);
        let mut news = Vec::new();
        for sighting in all {
            let key = (sighting.uplink.clone(), sighting.family);
            let mut track = former.remove(&key).unwrap_or_default();
            news.extend(track.observe(now, sighting));
            self.tracks.insert(key, track);
        }
        news.extend(former.into_values().filter_map(|mut gone| gone.end(now, true)));
        news
    }
}

impl Track {
    fn observe(&mut self, now: Duration, sighting: &Sighting) -> Option<OutageNews> {
        match (&sighting.seen, &mut self.open) {
            (Seen::Down(cause), None) => Some(self.begin(now, sighting, cause)),
            (Seen::Down(cause), Some(outage)) => {
                // What has no name has the number of rounds in it, which goes on.
                let refined = !cause.advice.is_empty() && outage.cause != *cause;
                if !refined {
                    return None;
                }
                outage.cause = cause.clone();
                let outage = outage.clone();
                Some(self.news(outage, Change::Refined, now))
            }
            (Seen::Up, _) => self.end(sighting.since.min(now), false),
            (Seen::Unwatched, _) => self.end(now, true),
        }
    }

    fn begin(&mut self, now: Duration, sighting: &Sighting, cause: &OutageCause) -> OutageNews {
        let began = sighting.since.min(now);
        let outage = Outage {
            uplink: sighting.uplink.clone(),
            family: sighting.family,
            only: sighting.only,
            began,
            ended: None,
            unwatched: false,
            cause: cause.clone(),
        };
        if self.begins.len() == FLAPS {
            self.begins.pop_front();
        }
        self.begins.push_back(began);
        self.open = Some(outage.clone());
        self.news(outage, Change::Began, now)
    }

    fn end(&mut self, at: Duration, unwatched: bool) -> Option<OutageNews> {
        let open = self.open.take()?;
        let outage = Outage { ended: Some(at.max(open.began)), unwatched, ..open };
        Some(self.news(outage, Change::Ended, at))
    }

    fn news(&self, outage: Outage, change: Change, now: Duration) -> OutageNews {
        let first = self.begins.front().filter(|_| self.begins.len() == FLAPS);
        let flaps = first.is_some_and(|first| now.saturating_sub(*first) <= FLAP_WINDOW);
        OutageNews { outage, change, flaps }
    }
}
