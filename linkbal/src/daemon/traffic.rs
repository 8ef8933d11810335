//! Traffic counters of the datapath, for the engine.
//!
//! A poll takes the counters of all uplinks of all CPUs, 16 system calls. It is done ten times a
//! second while there is traffic, or probes are lost that traffic may excuse, and once a second
//! otherwise.

use std::{collections::BTreeMap, time::Duration};

use linkbal_common::counter::NETWORKS;

use super::{Daemon, warn_of};
use crate::{
    engine::{
        Event,
        health::traffic::{POLL_INTERVAL, Traffic},
    },
    per_family::PerFamily,
};

/// Time to the next poll after one that found nothing new.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);

/// The counters at the last poll, and the time of the next one.
#[derive(Debug, Default)]
pub(super) struct TrafficPoller {
    counters: BTreeMap<u32, Traffic>,
    networks: BTreeMap<u32, Networks>,
    last: Duration,
    due: Duration,
}

/// Answers by family and network.
type Networks = PerFamily<[u32; NETWORKS]>;

impl TrafficPoller {
    /// Returns the time of the next poll; `wanted` is set if traffic may decide a verdict.
    pub(super) fn due(&self, wanted: bool) -> Duration {
        if wanted { self.due.min(self.last + POLL_INTERVAL) } else { self.due }
    }

    /// Stores the counters, and returns those that changed.
    fn update(
        &mut self,
        counters: BTreeMap<u32, Traffic>,
        now: Duration,
    ) -> BTreeMap<u32, Traffic> {
        let old = |(index, traffic): &(&u32, &Traffic)| self.counters.get(index) == Some(traffic);
        let changed: BTreeMap<_, _> =
            counters.iter().filter(|each| !old(each)).map(|(at, each)| (*at, *each)).collect();
        self.last = now;
        self.due = now + if changed.is_empty() { IDLE_INTERVAL } else { POLL_INTERVAL };
        self.counters = counters;
        changed
    }

    /// Stores the answers by network, and returns as bits those networks that answered since the
    /// last poll. Answers before the first poll are ignored.
    fn update_networks(
        &mut self,
        networks: BTreeMap<u32, Networks>,
    ) -> BTreeMap<u32, PerFamily<u32>> {
        let changed = |(index, new): (&u32, &Networks)| {
            let old = self.networks.get(index)?;
            let bits = PerFamily::from_fn(|family| {
                let pairs = old[family].iter().zip(&new[family]).enumerate();
                pairs.fold(0, |bits, (at, (old, new))| bits | u32::from(old != new) << at)
            });
            (bits != PerFamily::default()).then_some((*index, bits))
        };
        let changed = networks.iter().filter_map(changed).collect();
        self.networks = networks;
        changed
    }
}

impl Daemon {
    /// Returns the time of the next poll.
    pub(super) fn traffic_due(&self) -> Duration {
        self.traffic_poller.due(self.engine.wants_traffic())
    }

    /// Reads the counters, if that is due.
    pub(super) fn poll_traffic(&mut self, now: Duration) {
        if self.traffic_due() > now {
            return;
        }
        let counters = match self.datapath.uplink_counters() {
            Ok(counters) => counters,
            Err(error) => {
                (self.traffic_poller.last, self.traffic_poller.due) = (now, now + IDLE_INTERVAL);
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
                answers_ipv6: counted.answers_ipv6,
            }
        };
        let indexes = self.engine.uplinks().iter().map(|uplink| uplink.index);
        let indexes: Vec<u32> = indexes.collect();
        let networks = indexes
            .iter()
            .map(|index| (*index, PerFamily::from(counters[*index as usize].networks)));
        let networks = self.traffic_poller.update_networks(networks.collect());
        let counters = indexes.iter().map(|index| (*index, of_uplink(*index))).collect();
        let counters = self.traffic_poller.update(counters, now);
        if !counters.is_empty() {
            self.feed(Some(Event::DatapathTraffic { counters, networks }), now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polls_are_frequent_while_something_changes() {
        let mut poller = TrafficPoller::default();
        let traffic = |packets| Traffic { packets, ..Traffic::default() };
        let second = Duration::from_secs(1);
        let counters = BTreeMap::from([(0, traffic(1)), (3, traffic(5))]);
        assert_eq!(poller.update(counters.clone(), second), counters);
        assert_eq!(poller.due(false), second + POLL_INTERVAL);
        let next = BTreeMap::from([(0, traffic(1)), (3, traffic(6))]);
        assert_eq!(poller.update(next.clone(), second), BTreeMap::from([(3, traffic(6))]));
        assert_eq!(poller.update(next, second), BTreeMap::new());
        assert_eq!(poller.due(false), second + IDLE_INTERVAL);
        assert_eq!(poller.due(true), second + POLL_INTERVAL);
    }

    #[test]
    fn networks_are_those_that_answered_since_the_last_poll() {
        let mut poller = TrafficPoller::default();
        let mut networks = Networks::from([[0; NETWORKS]; 2]);
        networks.ipv4[3] = 7;
        assert_eq!(poller.update_networks([(2, networks)].into()), BTreeMap::new());
        networks.ipv4[31] = u32::MAX;
        networks.ipv6[3] = 1;
        let expected = BTreeMap::from([(2, PerFamily { ipv4: 1 << 31, ipv6: 1 << 3 })]);
        assert_eq!(poller.update_networks([(2, networks)].into()), expected);
        // The counters wrap around.
        networks.ipv4[31] = 0;
        assert_eq!(
            poller.update_networks([(2, networks)].into()),
            [(2, PerFamily { ipv4: 1 << 31, ipv6: 0 })].into()
        );
        assert_eq!(poller.update_networks([(2, networks)].into()), BTreeMap::new());
    }
}
