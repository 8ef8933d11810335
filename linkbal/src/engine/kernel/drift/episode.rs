//! Times in which what linkbal set up is undone.
//!
//! A probe that is under way meanwhile may be lost for that, which says nothing of its uplink. Only
//! few of these times excuse anything: somebody who undoes things for ever is no reason to keep a
//! dead uplink.

use std::{collections::VecDeque, time::Duration};

/// Most episodes within `WINDOW` that excuse lost probes.
const MOST: usize = 5;
const WINDOW: Duration = Duration::from_secs(60);

/// Time after which an episode excuses nothing any more: a repair takes milliseconds, and seconds on
/// a busy machine.
const LONGEST: Duration = Duration::from_secs(5);

/// Meaning of a change for probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Excuse {
    /// They are excused, until a time at most.
    Begins(Duration),
    /// They count again.
    Ends,
}

/// The episodes.
#[derive(Debug, Default)]
pub(super) struct Episodes {
    started: VecDeque<Duration>,
    /// Time at which something was last undone, while an episode lasts.
    undone_at: Option<Duration>,
    news: Option<Excuse>,
}

impl Episodes {
    /// Notes that something was undone, at that time or before.
    pub(super) fn begin(&mut self, undone_at: Duration, now: Duration) {
        let lasts = self.undone_at.is_some();
        self.undone_at = self.undone_at.max(Some(undone_at));
        if lasts {
            return;
        }
        self.started.retain(|start| now < *start + WINDOW);
        if self.started.len() > MOST {
            self.started.pop_front();
        }
        // Those that excuse nothing count, too: it must be left alone first.
        self.started.push_back(now);
        self.news = (self.started.len() <= MOST).then_some(Excuse::Begins(now + LONGEST));
    }

    /// Notes that everything is in place, by an observation that began at `observed_from`: it does not
    /// show what was undone later.
    pub(super) fn end(&mut self, observed_from: Duration) {
        if self.undone_at.take_if(|at| *at <= observed_from).is_some() {
            self.news = Some(Excuse::Ends);
        }
    }

    /// Returns what changed for probes since the last call.
    pub(super) const fn news(&mut self) -> Option<Excuse> {
        self.news.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn episode(episodes: &mut Episodes, now: Duration) -> bool {
        episodes.begin(now, now);
        let begins = episodes.news();
        let later = now + Duration::from_millis(1);
        episodes.begin(later, later);
        assert_eq!(episodes.news(), None, "it has begun");
        episodes.end(now);
        assert_eq!(episodes.news(), None, "the observation is too old");
        episodes.end(later);
        assert_eq!(episodes.news(), Some(Excuse::Ends));
        episodes.end(later);
        assert_eq!(episodes.news(), None);
        begins == Some(Excuse::Begins(now + LONGEST))
    }

    #[test]
    fn few_episodes_excuse_and_others_must_be_left_alone_first() {
        let mut episodes = Episodes::default();
        let excused = |episodes: &mut Episodes, from: u64, to: u64, step: usize| {
            (from..to).step_by(step).filter(|now| episode(episodes, s(*now))).count()
        };
        assert_eq!(excused(&mut episodes, 0, 600, 2), MOST);
        assert!(episodes.started.len() <= MOST + 1);
        assert_eq!(excused(&mut episodes, 700, 1300, 20), 30, "now and then is no war");
    }
}
