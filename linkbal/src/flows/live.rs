//! Liveness of flows: an entry of the flow table outlives its connection, since nobody removes it.

use linkbal_common::{
    continuity::goes_on,
    flow::{Flow, FlowKey, tcp_state},
    settings::Settings,
    uplink::{FAMILY_SLOTS, MAX_UPLINKS, UpMask, family_slot},
};

use crate::protocol::{ICMP, ICMPV6, TCP, UDP};

/// Seconds of silence after which a flow is over, counted from the last packet of the LAN host. They
/// are those after which connection tracking has forgotten it, by its defaults; but for established TCP
/// connections, for which it waits five days: RFC 5382 (REQ-5) has them live for 2 hours and 4 minutes.
const TCP_ESTABLISHED_S: u32 = 7440;
const TCP_OPENING_S: u32 = 120;
const TCP_CLOSING_S: u32 = 10;
const UDP_S: u32 = 120;
const ICMP_S: u32 = 30;
const OTHERS_S: u32 = 600;

/// The state of the datapath that says which entries are of live flows, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Situation {
    /// The usable uplinks.
    pub up: UpMask,
    /// The epochs, by [`family_slot`].
    pub epochs: [u32; FAMILY_SLOTS],
    /// The settings, of which those count that say what becomes of flows when an uplink goes down.
    pub settings: Settings,
    /// Time since boot, in milliseconds.
    pub now_ms: u64,
}

impl Situation {
    /// Returns whether an entry is of a live flow: its uplink still has it, and its LAN host was not
    /// silent for too long.
    pub fn is_live(&self, key: &FlowKey, flow: &Flow) -> bool {
        self.idle_s(flow) <= longest_silence(key, flow) && self.is_on_uplink(key, flow)
    }

    /// Returns the seconds since the last packet of the LAN host.
    pub const fn idle_s(&self, flow: &Flow) -> u32 {
        // A packet may have come after the clock was read.
        self.now_s().saturating_sub(flow.last_seen_s)
    }

    /// Returns the seconds since boot.
    const fn now_s(&self) -> u32 {
        (self.now_ms / 1000) as u32
    }

    /// Returns the seconds since the first packet; modulo 50 days.
    pub const fn age_s(&self, flow: &Flow) -> u32 {
        let age_ms = (self.now_ms as u32).wrapping_sub(flow.first_seen_ms);
        // The flow may have begun after the clock was read.
        if age_ms > u32::MAX - 60_000 { 0 } else { age_ms / 1000 }
    }

    /// Returns whether the next packet of the flow leaves by the uplink of the entry, as the packet
    /// path decides.
    fn is_on_uplink(&self, key: &FlowKey, flow: &Flow) -> bool {
        let (uplink, family) = (flow.uplink, key.family());
        if uplink >= MAX_UPLINKS as u32 {
            return false;
        }
        let epoch = self.epochs.get(family_slot(uplink, family) as usize);
        let is_current = || epoch == Some(&flow.epoch);
        // Without a usable uplink, flows stay where they are.
        self.up.family(family) == 0
            || goes_on(flow, family, self.now_s(), &self.settings, self.up, is_current).is_some()
    }
}

/// Returns the seconds for which the LAN host of a live flow may be silent.
const fn longest_silence(key: &FlowKey, flow: &Flow) -> u32 {
    match key.protocol {
        TCP => match flow.tcp_state {
            tcp_state::CLOSING => TCP_CLOSING_S,
            // A connection that was begun from outside, or taken over, is not seen to open.
            tcp_state::OPENING if flow.tcp_ack == 0 => TCP_OPENING_S,
            _ => TCP_ESTABLISHED_S,
        },
        UDP => UDP_S,
        ICMP | ICMPV6 => ICMP_S,
        _ => OTHERS_S,
    }
}

#[cfg(test)]
mod tests {
    use linkbal_common::{flow::INBOUND, uplink::Family};
    use proptest::prelude::*;

    use super::*;

    const NOW_S: u32 = 100_000;

    fn situation(up: UpMask) -> Situation {
        let settings = Settings::default();
        Situation { up, epochs: [3; FAMILY_SLOTS], settings, now_ms: u64::from(NOW_S) * 1000 }
    }

    fn both() -> UpMask {
        UpMask(0b11 | 0b11 << 16)
    }

    fn key(protocol: u8) -> FlowKey {
        FlowKey { protocol, family: Family::Ipv4 as u8, ..FlowKey::default() }
    }

    fn flow(silent_s: u32) -> Flow {
        Flow { uplink: 1, epoch: 3, last_seen_s: NOW_S - silent_s, ..Flow::default() }
    }

    #[test]
    fn each_kind_of_flow_may_be_silent_for_its_time() {
        let established = |silent| Flow { tcp_state: tcp_state::ANSWERED, ..flow(silent) };
        let closing = |silent| Flow { tcp_state: tcp_state::CLOSING, ..flow(silent) };
        let inbound = |silent| Flow { tcp_ack: 7, ..flow(silent) };
        let kinds: [(u8, Flow, u32); 8] = [
            (TCP, flow(0), 120),
            (TCP, established(0), 7440),
            (TCP, inbound(0), 7440),
            (TCP, closing(0), 10),
            (UDP, flow(0), 120),
            (ICMP, flow(0), 30),
            (ICMPV6, flow(0), 30),
            (47, flow(0), 600),
        ];
        for (protocol, flow, longest) in kinds {
            let live = |silent| {
                let flow = Flow { last_seen_s: NOW_S - silent, ..flow };
                situation(both()).is_live(&key(protocol), &flow)
            };
            assert!(live(0) && live(longest) && !live(longest + 1), "{protocol} {longest}");
        }
    }

    #[test]
    fn a_flow_ends_with_its_epoch_but_for_connections_from_outside() {
        let ended = Flow { epoch: 2, ..flow(5) };
        assert!(!situation(both()).is_live(&key(UDP), &ended));
        let inbound = Flow { sticky_class: INBOUND, ..ended };
        assert!(situation(both()).is_live(&key(UDP), &inbound));
    }

    #[test]
    fn flows_leave_an_uplink_that_is_down_while_they_can() {
        let only_first = UpMask(0b01 | 0b11 << 16);
        assert!(!situation(only_first).is_live(&key(UDP), &flow(5)));
        let settings = Settings { on_down: 1 << 17, ..Settings::default() };
        let keeping = Situation { settings, ..situation(only_first) };
        assert!(keeping.is_live(&key(UDP), &flow(5)));
        assert!(situation(UpMask(0b11 << 16)).is_live(&key(UDP), &flow(5)), "all are down");
    }

    #[test]
    fn ages_survive_the_wrap_of_the_clock_and_packets_after_it_was_read() {
        let at = |now_ms| Situation { now_ms, ..situation(both()) };
        let begun = |first_seen_ms| Flow { first_seen_ms, ..Flow::default() };
        assert_eq!(at(5_000).age_s(&begun(2_000)), 3);
        assert_eq!(at((1 << 32) + 4_000).age_s(&begun(u32::MAX - 1_000)), 5);
        assert_eq!(at(5_000).age_s(&begun(5_900)), 0);
        assert_eq!(at(5_000).idle_s(&Flow { last_seen_s: 6, ..Flow::default() }), 0);
    }

    proptest! {
        #[test]
        fn a_flow_that_is_live_was_live_before(
            protocol: u8, uplink in 0u32..20, epoch in 2u32..4, silent in 0u32..9000, ago in 0u32..9000,
            sticky_class: u32, state in 0u32..3, ack in 0u32..2, up: u32, on_down: u32,
        ) {
            let settings = Settings { on_down, ..Settings::default() };
            let situation = Situation { settings, ..situation(UpMask(up)) };
            let flow = |silent| Flow {
                uplink, epoch, sticky_class, tcp_state: state, tcp_ack: ack, ..flow(silent)
            };
            let live = |silent| situation.is_live(&key(protocol), &flow(silent));
            prop_assert!(!live(silent.max(ago)) || live(silent.min(ago)));
            prop_assert!(!live(silent) || uplink < MAX_UPLINKS as u32);
        }
    }
}
