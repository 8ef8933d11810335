//! News that a receiver was not told yet: bounded, and all of them are one message.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use super::outage::{Change, Key, Outage, OutageNews};

/// Most entries of uplinks, and most lines of other events.
const MAX_UPLINKS: usize = 64;
const MAX_LINES: usize = 40;

/// Time without a change after which an uplink that flapped is told of, and the longest time until then.
const CALM: Duration = Duration::from_secs(10 * 60);
const MAX_CALM: Duration = Duration::from_secs(3600);

/// News that wait to be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    uplinks: BTreeMap<Key, Entry>,
    lines: VecDeque<EventLine>,
    /// Number of news that there was no room for, or that could not be sent.
    lost: u64,
}

/// The outages of an uplink in one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The last outage.
    pub last: Outage,
    /// Number of outages.
    pub times: u32,
    /// Time for which all that ended lasted.
    pub total: Duration,
    /// Time at which the first one began.
    pub first: Duration,
    /// Times of the first and the last news.
    asked: Duration,
    changed: Duration,
    /// Set if the uplink goes down again and again.
    pub flaps: bool,
}

/// Another event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventLine {
    /// Time of the event.
    pub at: Duration,
    /// The event in one line.
    pub text: String,
    /// Set if something works worse than it should.
    pub is_warning: bool,
}

impl Entry {
    fn new(now: Duration, news: &OutageNews) -> Entry {
        let OutageNews { outage, flaps, .. } = news;
        Entry {
            times: 1,
            total: outage.length(),
            first: outage.began,
            asked: now,
            changed: now,
            flaps: *flaps,
            last: outage.clone(),
        }
    }

    /// Returns the entry that has this one and a later one of the same uplink.
    fn then(self, later: Entry) -> Entry {
        // An outage that lasted is the first one of what came later.
        let same = u32::from(self.last.ended.is_none());
        Entry {
            times: self.times.saturating_add(later.times).saturating_sub(same),
            total: self.total.saturating_add(later.total),
            first: self.first.min(later.first),
            asked: self.asked.min(later.asked),
            ..later
        }
    }

    fn due(&self, gather: Duration) -> Duration {
        let soon = self.asked.saturating_add(gather);
        if !self.flaps {
            return soon;
        }
        let calm = self.changed.saturating_add(CALM);
        calm.min(self.asked.saturating_add(MAX_CALM)).max(soon)
    }
}

impl Digest {
    /// Adds news of an outage.
    pub fn add_outage(&mut self, now: Duration, news: &OutageNews) {
        let key = news.outage.key();
        let known = self.uplinks.remove(&key);
        match (news.change, known) {
            // It was told already, and is told again with its end.
            (Change::Refined, None) => {}
            (Change::Refined, Some(known)) => {
                self.insert(key, Entry { last: news.outage.clone(), ..known });
            }
            (Change::Began | Change::Ended, Some(known)) => {
                self.insert(key, known.then(Entry::new(now, news)));
            }
            (Change::Began | Change::Ended, None) => self.insert(key, Entry::new(now, news)),
        }
    }

    /// Adds another event.
    pub fn add_line(&mut self, line: EventLine) {
        if self.lines.len() >= MAX_LINES {
            self.lines.pop_front();
            self.lost = self.lost.saturating_add(1);
        }
        self.lines.push_back(line);
    }

    fn insert(&mut self, key: Key, entry: Entry) {
        if self.uplinks.len() >= MAX_UPLINKS && !self.uplinks.contains_key(&key) {
            self.lost = self.lost.saturating_add(1);
            return;
        }
        self.uplinks.insert(key, entry);
    }

    /// Puts back what came before all of this.
    pub fn put_back(&mut self, earlier: Digest) {
        for (key, entry) in earlier.uplinks {
            let entry = match self.uplinks.remove(&key) {
                Some(later) => entry.then(later),
                None => entry,
            };
            self.insert(key, entry);
        }
        let later = std::mem::replace(&mut self.lines, earlier.lines);
        self.lost = self.lost.saturating_add(earlier.lost);
        later.into_iter().for_each(|line| self.add_line(line));
    }

    /// Drops all news, and keeps their number; returns how many these were.
    pub fn give_up(&mut self) -> u64 {
        let number = self.len();
        *self = Digest { lost: self.lost.saturating_add(number), ..Digest::default() };
        number
    }

    /// Returns the time at which it is to be told; `None` if there is nothing new.
    pub fn due(&self, gather: Duration) -> Option<Duration> {
        let uplinks = self.uplinks.values().map(|entry| entry.due(gather));
        let lines = self.lines.iter().map(|line| line.at.saturating_add(gather));
        uplinks.chain(lines).min()
    }

    /// Returns the number of news that wait.
    pub fn len(&self) -> u64 {
        let number = self.uplinks.len().saturating_add(self.lines.len());
        u64::try_from(number).unwrap_or(u64::MAX)
    }

    /// Returns whether there are no news.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the outages, in the order of uplinks and families.
    pub fn uplinks(&self) -> impl Iterator<Item = &Entry> {
        self.uplinks.values()
    }

    /// Returns the other events in order.
    pub fn lines(&self) -> impl Iterator<Item = &EventLine> {
        self.lines.iter()
    }

    /// Returns the number of news that were left out.
    pub const fn lost(&self) -> u64 {
        self.lost
    }
}
