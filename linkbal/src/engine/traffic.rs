//! What the traffic of an uplink tells about it.
//!
//! The datapath counts by uplink, not by family. Packets without an answer bring both families under
//! suspicion, and their own probes settle it. Answers speak for a family only as long as they cannot
//! all be of the other one: while that is not up, or loses probes as well, as both do when the line
//! is saturated. So IPv6 that died under a healthy IPv4 is not kept alive by IPv4's answers.
//!
//! Answers speak for nobody while new connections get none: a line that only works inwards still
//! brings in what was sent before.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use linkbal_common::uplink::Family;
use serde::{Deserialize, Serialize};

use super::{
    Engine, UplinkState,
    desired::{self, Nexthop},
    health::{Health, State},
    uplinks::position,
};

/// Counters of one uplink, since the datapath was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Traffic {
    /// Packets to the uplink.
    pub packets: u64,
    /// Packets to the LAN that belong to its flows.
    pub answers: u64,
    /// TCP connections that began.
    pub connects: u64,
    /// Those that were answered.
    pub connects_answered: u64,
}

/// The daemon looks this often while there is traffic.
pub const LOOK: Duration = Duration::from_millis(100);

/// Packets or connections that must be without an answer for suspicion.
const PACKETS: u64 = 20;
const CONNECTS: u64 = 3;

/// They must be waiting for twice the latency and this time.
const PATIENCE: Duration = Duration::from_millis(60);

/// A suspicion that probes refuted is not raised again before this time, which doubles each time up
/// to its ceiling: programs that only send, and are never answered, are common.
const QUIET: Duration = Duration::from_millis(500);
const QUIET_CEILING: Duration = Duration::from_secs(10);

/// Connections in a row without an answer, and for how long, after which answers to other traffic
/// excuse nothing any more. Peers that do not exist are common, too.
const DEAF_CONNECTS: u64 = 20;
const DEAF: Duration = Duration::from_secs(10);

/// Share of lost probes from which the other family is in trouble, too.
const TROUBLE: f64 = 0.1;

/// What is remembered of the traffic of one uplink.
#[derive(Clone, Debug, Default)]
pub(super) struct Watch {
    /// The last look, and when it was.
    last: Option<(Traffic, Duration)>,
    /// The counters when something was last answered, or nothing was waiting.
    answered: Traffic,
    /// Since when packets wait for an answer.
    waiting_since: Option<Duration>,
    /// The counter of connections when one was last answered, and since when the next ones wait.
    connected: u64,
    deaf_since: Option<Duration>,
    /// No suspicion before this time, and for how long the next one is put off.
    quiet_until: Duration,
    quiet: Duration,
}

impl Watch {
    /// Looks at the counters; answers whether answers came that say something.
    pub(super) fn look(&mut self, traffic: Traffic, now: Duration) -> bool {
        let Some((last, looked_at)) = self.last.replace((traffic, now)) else {
            (self.answered, self.connected, self.quiet) = (traffic, traffic.connects, QUIET);
            return false;
        };
        // What is new happened at some time since the last look.
        let earliest = looked_at.max(now.saturating_sub(LOOK));
        if traffic.connects_answered != last.connects_answered {
            (self.connected, self.deaf_since) = (traffic.connects, None);
        } else if traffic.connects != self.connected {
            self.deaf_since.get_or_insert(earliest);
        }
        if traffic.answers != last.answers {
            (self.answered, self.waiting_since) = (traffic, None);
            (self.quiet, self.quiet_until) = (QUIET, now);
            return !self.is_deaf(now);
        }
        if traffic.packets != self.answered.packets {
            self.waiting_since.get_or_insert(earliest);
        }
        false
    }

    /// When packets will have been without an answer for too long at this latency.
    fn suspicion_at(&self, latency: Duration) -> Option<Duration> {
        let (traffic, _) = self.last?;
        let enough = traffic.packets.saturating_sub(self.answered.packets) >= PACKETS
            || traffic.connects.saturating_sub(self.answered.connects) >= CONNECTS;
        let since = self.waiting_since.filter(|_| enough)?;
        Some((since + 2 * latency + PATIENCE).max(self.quiet_until))
    }

    /// Suspicion is raised; the next one is put off.
    fn raise(&mut self, now: Duration) {
        self.quiet_until = now + self.quiet;
        self.quiet = (self.quiet * 2).min(QUIET_CEILING);
    }

    fn is_deaf(&self, now: Duration) -> bool {
        let connects = self.last.map_or(0, |(traffic, _)| traffic.connects);
        let connects = connects.saturating_sub(self.connected);
        connects >= DEAF_CONNECTS && self.deaf_since.is_some_and(|since| since + DEAF <= now)
    }
}

impl UplinkState {
    /// Smoothed latency, of the slower family.
    fn latency(&self) -> Duration {
        let each = self.health.iter().filter_map(|health| health.window().latency());
        each.max().unwrap_or_default()
    }

    /// When its traffic becomes suspicious; `None` while nothing would come of that.
    pub(super) fn suspicion_at(&self) -> Option<Duration> {
        let of_use = |health: &Health| health.state() == State::Up && !health.is_suspected();
        let any = self.health.iter().any(of_use);
        self.watch.suspicion_at(self.latency()).filter(|_| any)
    }

    /// Tells the families that answers speak for.
    fn answered(&mut self, now: Duration) {
        let cannot_be_of = |other: &Health| {
            other.state() != State::Up || !other.is_asked() || other.window().loss() >= TROUBLE
        };
        let [ipv4, ipv6] = &self.health;
        let speaks = [cannot_be_of(ipv6), cannot_be_of(ipv4)];
        for (health, _) in self.health.iter_mut().zip(speaks).filter(|(_, speaks)| *speaks) {
            health.traffic_answered(now);
        }
    }
}

impl Engine {
    /// Takes in the counters of uplinks, by index; those that did not change may be left out.
    pub(super) fn traffic(&mut self, counters: &BTreeMap<u32, Traffic>, now: Duration) {
        for uplink in &mut self.uplinks {
            let traffic = counters.get(&uplink.indexed.index);
            if traffic.is_some_and(|traffic| uplink.watch.look(*traffic, now)) {
                uplink.answered(now);
            }
        }
        self.suspect(now);
        self.start_rounds(now);
    }

    /// Takes in that a neighbour cannot be reached, which may be a gateway.
    pub(super) fn neighbour_failed(&mut self, ifindex: u32, address: IpAddr, now: Duration) {
        let Some(snapshot) = &self.snapshot else { return };
        let family = if address.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 };
        let gone = Some(Nexthop { ifindex, gateway: Some(address) });
        let by_it = |(_, uplink): &(usize, &mut UplinkState)| {
            desired::nexthop(snapshot, &uplink.indexed.uplink, family).ok() == gone
        };
        let uplinks = self.uplinks.iter_mut().enumerate().filter(by_it);
        let transitions = uplinks.filter_map(|(at, uplink)| {
            let health = &mut uplink.health[position(family)];
            health.gateway_failed(address, now).map(|transition| (at, family, transition))
        });
        let transitions = transitions.collect();
        self.follow_verdicts(transitions, now);
        self.start_rounds(now);
    }

    /// Has uplinks asked fast whose traffic is not answered.
    pub(super) fn suspect(&mut self, now: Duration) {
        for uplink in &mut self.uplinks {
            if uplink.suspicion_at().is_some_and(|at| at <= now) {
                uplink.watch.raise(now);
                uplink.health.iter_mut().for_each(|health| health.suspect(now));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn traffic(packets: u64, answers: u64, connects: u64, connects_answered: u64) -> Traffic {
        Traffic { packets, answers, connects, connects_answered }
    }

    /// A watch that looked at `first` at 0, and at each of the others every 100 ms after that.
    fn watch(looks: &[Traffic]) -> Watch {
        let mut watch = Watch::default();
        for (at, look) in (0..).zip(looks) {
            watch.look(*look, ms(100 * at));
        }
        watch
    }

    #[test]
    fn packets_without_an_answer_become_suspicious_when_there_are_enough() {
        let start = traffic(1000, 900, 5, 5);
        let after = |packets, connects| {
            watch(&[start, traffic(packets, 900, connects, 5)]).suspicion_at(ms(40))
        };
        assert_eq!(after(1019, 7), None);
        assert_eq!(after(1020, 5), Some(ms(140)));
        assert_eq!(after(1003, 8), Some(ms(140)));
        // What was sent before the first look, or an answer, is not waited for.
        assert_eq!(watch(&[start]).suspicion_at(ms(40)), None);
        let answered = watch(&[start, traffic(1100, 900, 5, 5), traffic(1150, 901, 5, 5)]);
        assert_eq!(answered.suspicion_at(ms(40)), None);
    }

    #[test]
    fn a_program_that_only_sends_is_suspected_ever_less_often() {
        let mut watch = watch(&[traffic(0, 0, 0, 0), traffic(20, 0, 0, 0)]);
        let mut raised = Vec::new();
        for _ in 0..8 {
            let at = watch.suspicion_at(ms(0)).expect("never answered");
            watch.raise(at);
            raised.push(at);
        }
        let gaps: Vec<_> = raised.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect();
        assert_eq!(gaps, [500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
        watch.look(traffic(30, 1, 0, 0), ms(60_000));
        watch.look(traffic(60, 1, 0, 0), ms(60_100));
        assert_eq!(watch.suspicion_at(ms(0)), Some(ms(60_060)));
    }

    #[test]
    fn answers_say_nothing_while_no_connection_is_answered() {
        let mut watch = watch(&[traffic(0, 0, 0, 0)]);
        let looks = (1..=150).map(|n| watch.look(traffic(n, n, n, 0), ms(100 * n)));
        let speaking = looks.filter(|speaks| *speaks).count();
        assert_eq!(speaking, 99, "for ten seconds");
        assert!(watch.look(traffic(151, 151, 151, 1), ms(15_100)));
    }
}
