//! Conclusions from the traffic of uplinks.
//!
//! Packets to uplinks are not counted by family: those without an answer bring both families under
//! suspicion, and their own probes settle it. Answers are counted by family, and speak for their
//! own one. Answers of the other one only show that the line is full, if its probes are lost as
//! well, and count as those of few networks, wherever they come from. So a family that died is not
//! kept alive by the other's answers.
//!
//! Answers speak for no family while new connections get none: a line that only works inwards still
//! brings in what was sent before.

use std::time::Duration;

use linkbal_common::{counter::NETWORKS, uplink::Family};
use serde::{Deserialize, Serialize};

use super::Answers;
use crate::per_family::PerFamily;

/// Counters of one uplink, since the datapath was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Traffic {
    /// Packets to the uplink.
    pub packets: u64,
    /// Packets to the LAN that belong to its flows.
    pub answers: u64,
    /// TCP connections that began.
    pub connects: u64,
    /// TCP connections that were answered.
    pub connects_answered: u64,
    /// Answers of IPv6, which are also part of `answers`.
    #[serde(default)]
    pub answers_ipv6: u64,
}

impl Traffic {
    /// Returns the number of answers of IPv4.
    const fn answers_ipv4(&self) -> u64 {
        self.answers.saturating_sub(self.answers_ipv6)
    }
}

/// Time between two looks of the daemon at the counters, while there is traffic.
pub const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Number of packets without an answer from which on an uplink is suspicious; `CONNECTS` is that of
/// connections.
const PACKETS: u64 = 20;
const CONNECTS: u64 = 3;

/// Time without an answer, beyond twice the latency, after which an uplink is suspicious.
const REPLY_GRACE: Duration = Duration::from_millis(60);

/// Time after a suspicion before the next one, which doubles each time up to `MAX_BACKOFF`:
/// programs that only send, and are never answered, are common.
const BACKOFF: Duration = Duration::from_millis(500);
const MAX_BACKOFF: Duration = Duration::from_secs(10);

/// Number of connections in a row without an answer, over at least `UNANSWERED`, after which answers to
/// other traffic no longer count. Peers that do not exist are common, too.
const UNANSWERED_CONNECTS: u64 = 20;
const UNANSWERED: Duration = Duration::from_secs(10);

/// Number of networks that answer within `RECENT`: more than a provider has near its customers.
const MANY_NETWORKS: usize = 8;
const RECENT: Duration = Duration::from_secs(2);

/// The traffic of one uplink, and the answers to it.
#[derive(Clone, Debug, Default)]
pub(in crate::engine) struct TrafficMonitor {
    /// Counters and time of the last update.
    last: Option<(Traffic, Duration)>,
    /// The counters when something was last answered, or nothing was waiting.
    answered: Traffic,
    /// Time since which packets wait for an answer.
    waiting_since: Option<Duration>,
    /// The counter of connections when one was last answered; `unanswered_since` is the time since which
    /// the next ones wait.
    connected: u64,
    unanswered_since: Option<Duration>,
    /// Time of the last answer of each network, by family.
    networks: PerFamily<[Option<Duration>; NETWORKS]>,
    /// Time before which there is no suspicion; `backoff` is the time by which the next one is put
    /// off.
    backoff_until: Duration,
    backoff: Duration,
}

impl TrafficMonitor {
    /// Looks at the counters, and at the networks that have answered; returns the families for
    /// which answers came that count.
    pub(in crate::engine) fn update(
        &mut self,
        traffic: Traffic,
        networks: PerFamily<u32>,
        now: Duration,
    ) -> PerFamily<bool> {
        let Some((last, polled_at)) = self.last.replace((traffic, now)) else {
            (self.answered, self.connected, self.backoff) = (traffic, traffic.connects, BACKOFF);
            return PerFamily::default();
        };
        for (family, times) in self.networks.iter_mut() {
            let bits = networks[family];
            let answered = |(at, _): &(usize, _)| bits >> at & 1 == 1;
            times.iter_mut().enumerate().filter(answered).for_each(|(_, time)| *time = Some(now));
        }
        // What is new happened at some time since the last update.
        let earliest = polled_at.max(now.saturating_sub(POLL_INTERVAL));
        if traffic.connects_answered != last.connects_answered {
            (self.connected, self.unanswered_since) = (traffic.connects, None);
        } else if traffic.connects != self.connected {
            self.unanswered_since.get_or_insert(earliest);
        }
        if traffic.answers != last.answers {
            (self.answered, self.waiting_since) = (traffic, None);
            (self.backoff, self.backoff_until) = (BACKOFF, now);
            let count = !self.is_unanswered(now);
            return PerFamily {
                ipv4: count && traffic.answers_ipv4() != last.answers_ipv4(),
                ipv6: count && traffic.answers_ipv6 != last.answers_ipv6,
            };
        }
        if traffic.packets != self.answered.packets {
            self.waiting_since.get_or_insert(earliest);
        }
        PerFamily::default()
    }

    /// Returns how many networks answered recently in a family that has been silent since a time:
    /// earlier answers say nothing.
    pub(in crate::engine) fn answers(
        &self,
        family: Family,
        silent_since: Option<Duration>,
        now: Duration,
    ) -> Answers {
        let Some(silent_since) = silent_since else { return Answers::Few };
        // An update tells of the time up to it.
        let from = (silent_since + POLL_INTERVAL).max(now.saturating_sub(RECENT));
        let recent = self.networks[family].iter().flatten().filter(|at| **at >= from);
        if recent.count() >= MANY_NETWORKS { Answers::Many } else { Answers::Few }
    }

    /// Returns the time at which packets will have been without an answer for too long at this
    /// latency.
    pub(in crate::engine) fn suspicion_at(&self, latency: Duration) -> Option<Duration> {
        let (traffic, _) = self.last?;
        let enough = traffic.packets.saturating_sub(self.answered.packets) >= PACKETS
            || traffic.connects.saturating_sub(self.answered.connects) >= CONNECTS;
        let since = self.waiting_since.filter(|_| enough)?;
        Some((since + 2 * latency + REPLY_GRACE).max(self.backoff_until))
    }

    /// Raises suspicion, and puts the next one off.
    pub(in crate::engine) fn raise(&mut self, now: Duration) {
        self.backoff_until = now + self.backoff;
        self.backoff = (self.backoff * 2).min(MAX_BACKOFF);
    }

    /// Forgets the connections from before the uplink came up: they say nothing.
    pub(in crate::engine) const fn begin(&mut self) {
        if let Some((traffic, _)) = self.last {
            (self.connected, self.unanswered_since) = (traffic.connects, None);
        }
    }

    fn is_unanswered(&self, now: Duration) -> bool {
        let connects = self.last.map_or(0, |(traffic, _)| traffic.connects);
        let connects = connects.saturating_sub(self.connected);
        connects >= UNANSWERED_CONNECTS
            && self.unanswered_since.is_some_and(|since| since + UNANSWERED <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn traffic(packets: u64, answers: u64, connects: u64, connects_answered: u64) -> Traffic {
        Traffic { packets, answers, connects, connects_answered, answers_ipv6: 0 }
    }

    /// Returns a watch that looked at the first counters at 0, and at the others every 100 ms.
    fn watch(looks: &[Traffic]) -> TrafficMonitor {
        let mut watch = TrafficMonitor::default();
        for (at, update) in (0..).zip(looks) {
            watch.update(*update, PerFamily::default(), ms(100 * at));
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
        // What was sent before the first update, or an answer, is not waited for.
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
        watch.update(traffic(30, 1, 0, 0), PerFamily::default(), ms(60_000));
        watch.update(traffic(60, 1, 0, 0), PerFamily::default(), ms(60_100));
        assert_eq!(watch.suspicion_at(ms(0)), Some(ms(60_060)));
    }

    #[test]
    fn answers_say_nothing_while_no_connection_is_answered() {
        let mut watch = watch(&[traffic(0, 0, 0, 0)]);
        let looks =
            (1..=150).map(|n| watch.update(traffic(n, n, n, 0), PerFamily::default(), ms(100 * n)));
        let speaking =
            looks.filter(|speaks| *speaks == PerFamily { ipv4: true, ipv6: false }).count();
        assert_eq!(speaking, 99, "for ten seconds");
        assert!(watch.update(traffic(151, 151, 151, 1), PerFamily::default(), ms(15_100)).ipv4);
    }

    #[test]
    fn an_uplink_that_comes_up_is_not_deaf_for_what_was_tried_before() {
        let mut watch = watch(&[traffic(0, 0, 0, 0)]);
        for n in 1..=150 {
            watch.update(traffic(n, n, n, 0), PerFamily::default(), ms(100 * n));
        }
        assert!(watch.is_unanswered(ms(15_000)));
        watch.begin();
        assert_eq!(
            watch.update(traffic(151, 151, 151, 0), PerFamily::default(), ms(15_100)),
            PerFamily { ipv4: true, ipv6: false }
        );
    }
}
