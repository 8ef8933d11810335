//! The layouts of maps that flows can be carried over from: this version's and earlier ones.
//!
//! A layout that is left behind gets an entry here when [`LAYOUT`] is raised, with its structs as
//! they were as far as they differ.

use aya::Pod;
use linkbal_common::{
    flow::{Flow, FlowKey, Reason, Session, SessionKey, tcp_state},
    maps::{self, Lifetime, MAPS},
    settings::LAYOUT,
};

use super::batch::from_bytes;

/// A conversion of an entry's bytes in another version to an entry of this one.
type Convert<K, V> = fn(&[u8], &[u8]) -> Option<(K, V)>;

/// A layout, with what it takes to read its tables.
#[derive(Debug)]
pub(super) struct Layout {
    /// Number of the layout.
    pub(super) number: u32,
    /// Maps, besides the policy and the tables, that this version makes differently.
    changed: &'static [&'static str],
    /// Conversion of a flow.
    pub(super) flow: Convert<FlowKey, Flow>,
    /// Conversion of a session.
    pub(super) session: Convert<SessionKey, Session>,
}

/// Maps that differ in layouts 3 to 5.
const COUNTED_LESS: [&str; 3] =
    [maps::COUNTERS::NAME, maps::UPLINK_COUNTERS::NAME, maps::QUERIES::NAME];

static LAYOUTS: [Layout; 5] = [
    Layout { number: LAYOUT, changed: &[], flow: pair, session: pair },
    Layout { number: 6, changed: &[], flow: flow_of_6, session: pair },
    Layout { number: 5, changed: &COUNTED_LESS, flow: flow_of_5, session: pair },
    Layout { number: 4, changed: &COUNTED_LESS, flow: flow_of_5, session: pair },
    Layout { number: 3, changed: &COUNTED_LESS, flow: flow_of_3, session: session_of_3 },
];

/// Returns the layout with a number, if this version knows it.
pub(super) fn layout(number: u32) -> Option<&'static Layout> {
    LAYOUTS.iter().find(|layout| layout.number == number)
}

impl Layout {
    /// Returns the maps that this version can use as they are: in the present layout, all that are
    /// handed on.
    pub(super) fn shared(&self) -> Vec<&'static str> {
        let handed_on = MAPS.iter().filter(|map| match map.lifetime {
            Lifetime::Shared => true,
            Lifetime::Tables => self.number == LAYOUT,
            Lifetime::Configuration | Lifetime::Unpinned => false,
        });
        handed_on.map(|map| map.name).filter(|name| !self.changed.contains(name)).collect()
    }
}

fn pair<K: Pod, V: Pod>(key: &[u8], value: &[u8]) -> Option<(K, V)> {
    Some((from_bytes(key)?, from_bytes(value)?))
}

/// A flow of layout 6: as that of 7, but without a reason, and whether it was answered is a word.
type Flow6 = [u32; 12];

fn flow_of_6(key: &[u8], value: &[u8]) -> Option<(FlowKey, Flow)> {
    let (_, [.., replied]) = pair::<FlowKey, Flow6>(key, value)?;
    let (key, flow) = pair::<FlowKey, Flow>(key, value)?;
    let replied = u8::from(replied != 0);
    Some((key, Flow { replied, moved_from: 0, reason: Reason::default(), ..flow }))
}

/// A flow of layouts 4 and 5. They do not tell whether it was answered, so that it counts as
/// answered.
type Flow5 = [u32; 11];

fn flow_of_5(key: &[u8], value: &[u8]) -> Option<(FlowKey, Flow)> {
    let (key, words) = pair::<FlowKey, Flow5>(key, value)?;
    let [uplink, sticky_class, first_seen_ms, last_seen_s, epoch, ifindex, rest @ ..] = words;
    let [mac_high, mac_low, tcp_ack, tcp_end, tcp_state] = rest;
    let mut mac = [0; 8];
    let (high, low) = mac.split_at_mut(4);
    high.copy_from_slice(&mac_high.to_ne_bytes());
    low.copy_from_slice(&mac_low.to_ne_bytes());
    let flow = Flow {
        uplink,
        sticky_class,
        first_seen_ms,
        last_seen_s,
        epoch,
        ifindex,
        mac,
        tcp_ack,
        tcp_end,
        tcp_state,
        replied: 1,
        ..Flow::default()
    };
    Some((key, flow))
}

/// A flow of layout 3: uplink, sticky class, and in seconds since boot its first and its last
/// packet.
type Flow3 = [u32; 4];

fn flow_of_3(key: &[u8], value: &[u8]) -> Option<(FlowKey, Flow)> {
    let (key, [uplink, sticky_class, first_seen_s, last_seen_s]) =
        pair::<FlowKey, Flow3>(key, value)?;
    let flow = Flow {
        uplink,
        sticky_class,
        first_seen_ms: first_seen_s.wrapping_mul(1000),
        last_seen_s,
        // The time to its first answer was not measured.
        tcp_state: tcp_state::ANSWERED,
        replied: 1,
        ..Flow::default()
    };
    Some((key, flow))
}

fn session_of_3(key: &[u8], value: &[u8]) -> Option<(SessionKey, Session)> {
    let (key, [uplink, last_seen_s]) = pair::<SessionKey, [u32; 2]>(key, value)?;
    Some((key, Session { uplink, last_seen_s, epoch: 0 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    #[test]
    fn a_flow_of_layout_3_keeps_its_uplink_and_times() {
        let key = [1, 0, 0, 0, 2, 0, 0, 0, 3, 4];
        let layout = layout(3).expect("a known layout");
        let (key_now, flow) =
            (layout.flow)(&bytes(&key), &bytes(&[5, 0x80_0000, 70, 90])).expect("a flow");
        assert_eq!((key_now.source[0], key_now.destination[0]), (1, 2));
        assert_eq!((flow.uplink, flow.sticky_class), (5, 0x80_0000));
        assert_eq!((flow.first_seen_ms, flow.last_seen_s, flow.epoch), (70_000, 90, 0));
        let (_, session) = (layout.session)(&bytes(&key), &bytes(&[5, 90])).expect("a session");
        assert_eq!((session.uplink, session.last_seen_s, session.epoch), (5, 90, 0));
    }

    #[test]
    fn a_flow_of_layout_6_has_no_reason() {
        let key = [1, 0, 0, 0, 2, 0, 0, 0, 3, 4];
        let layout = layout(6).expect("a known layout");
        for replied in [0, 1] {
            let value = [5, 6, 70, 90, 3, 2, 0x0a, 0x0b, 7, 8, tcp_state::CLOSING, replied];
            let (_, flow) = (layout.flow)(&bytes(&key), &bytes(&value)).expect("a flow");
            assert_eq!((flow.uplink, flow.tcp_state), (5, tcp_state::CLOSING));
            assert_eq!(u32::from(flow.replied), replied);
            assert_eq!((flow.moved_from, flow.reason), (0, Reason::default()));
        }
    }

    #[test]
    fn entries_of_another_size_are_none() {
        for number in [3, 4, 5, 6, LAYOUT] {
            let layout = layout(number).expect("a known layout");
            assert_eq!((layout.flow)(&bytes(&[0; 10]), &bytes(&[0; 5])), None, "{number}");
            assert_eq!((layout.session)(&bytes(&[0; 9]), &bytes(&[0; 3])), None, "{number}");
        }
        assert!(layout(LAYOUT + 1).is_none());
    }

    #[test]
    fn what_a_configuration_says_is_never_shared() {
        for layout in &LAYOUTS {
            let shared = layout.shared();
            assert!(shared.contains(&maps::UP_MASK::NAME), "flows would have nowhere to go");
            assert!(!maps::of_configuration().any(|name| shared.contains(&name)));
        }
        assert!(!layout(3).expect("a known layout").shared().contains(&maps::FLOWS::NAME));
    }
}
