//! Tells the engine what the datapath counted.
//!
//! A look reads the counters of all uplinks of all CPUs, 16 system calls. While there is traffic it
//! is taken ten times a second, and once a second otherwise.

use std::{collections::BTreeMap, time::Duration};

use super::{Daemon, warn_of};
use crate::engine::{
    Event,
    traffic::{LOOK, Traffic},
};

/// Time to the next look after one that found nothing new.
const IDLE_LOOK: Duration = Duration::from_secs(1);

/// The last look, and when the next one is due.
#[derive(Debug, Default)]
pub(super) struct Looks {
    counters: BTreeMap<u32, Traffic>,
    due: Duration,
}

impl Looks {
    /// When the next look is due.
    pub(super) const fn due(&self) -> Duration {
        self.due
    }

    /// Takes in the counters; answers those that changed.
    fn take(&mut self, counters: BTreeMap<u32, Traffic>, now: Duration) -> BTreeMap<u32, Traffic> {
        let old = |(index, traffic): &(&u32, &Traffic)| self.counters.get(index) == Some(traffic);
        let changed: BTreeMap<_, _> =
            counters.iter().filter(|each| !old(each)).map(|(at, each)| (*at, *each)).collect();
        self.due = now + if changed.is_empty() { IDLE_LOOK } else { LOOK };
        self.counters = counters;
        changed
    }
}

impl Daemon {
    /// Looks at the counters, if that is due.
    pub(super) fn look_at_traffic(&mut self, now: Duration) {
        if self.looks.due > now {
            return;
        }
        let counters = match self.datapath.uplink_counters() {
            Ok(counters) => counters,
            Err(error) => {
                self.looks.due = now + IDLE_LOOK;
                return warn_of(Err(error));
            }
        };
        let of_uplink = |index: u32| {
            let counted = &counters[index as usize];
            Traffic {
                packets: counted.packets,
                answers: counted.answers,
                connects: counted.connects,
                connects_answered: counted.connects_answered,
            }
        };
        let indexes = self.engine.uplinks().iter().map(|uplink| uplink.indexed.index);
        let counters = indexes.map(|index| (index, of_uplink(index))).collect();
        let changed = self.looks.take(counters, now);
        if !changed.is_empty() {
            self.feed(Some(Event::Traffic { counters: changed }), now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_frequent_while_something_changes() {
        let mut looks = Looks::default();
        let traffic = |packets| Traffic { packets, ..Traffic::default() };
        let second = Duration::from_secs(1);
        let counters = BTreeMap::from([(0, traffic(1)), (3, traffic(5))]);
        assert_eq!(looks.take(counters.clone(), second), counters);
        assert_eq!(looks.due(), second + LOOK);
        let next = BTreeMap::from([(0, traffic(1)), (3, traffic(6))]);
        assert_eq!(looks.take(next.clone(), second), BTreeMap::from([(3, traffic(6))]));
        assert_eq!(looks.take(next, second), BTreeMap::new());
        assert_eq!(looks.due(), second + IDLE_LOOK);
    }
}
