//! Records of flows, as `linkbal flows --json` prints them.

use std::{
    borrow::Cow,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use linkbal_common::{
    flow::{Address, Flow, FlowKey, INBOUND, reason, tcp_state},
    rule::NO_RULE,
    uplink::Family,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::live::Situation;
use crate::protocol::{self, TCP};

/// Bytes of a connection each way, as connection tracking counts them: IP packets with their headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Bytes {
    /// Bytes from the LAN.
    pub up: u64,
    /// Bytes to the LAN.
    pub down: u64,
}

impl Bytes {
    /// Returns the bytes of both ways together.
    pub const fn total(self) -> u64 {
        self.up.saturating_add(self.down)
    }

    /// Returns the bytes of two connections.
    #[must_use]
    pub const fn plus(self, other: Bytes) -> Bytes {
        Bytes { up: self.up.saturating_add(other.up), down: self.down.saturating_add(other.down) }
    }
}

/// An entry of the flow table, with the bytes of its connection if they are known.
#[derive(Clone, Copy, Debug, Default)]
pub struct FlowEntry {
    /// The tuple.
    pub key: FlowKey,
    /// The entry.
    pub flow: Flow,
    /// The bytes; `None` if they are not counted.
    pub bytes: Option<Bytes>,
}

impl FlowEntry {
    /// Returns the address of the host in the LAN; unspecified for datagrams of the gateway itself.
    pub fn client(&self) -> IpAddr {
        ip(self.key.family(), &self.key.source)
    }

    /// Returns the address of the other end.
    pub fn destination(&self) -> IpAddr {
        ip(self.key.family(), &self.key.destination)
    }

    /// Returns whether the connection was begun from outside.
    pub const fn is_inbound(&self) -> bool {
        self.flow.sticky_class == INBOUND
    }

    /// Returns the port of the end that was connected to, in the machine's byte order.
    pub const fn server_port(&self) -> u16 {
        let key = &self.key;
        u16::from_be(if self.is_inbound() { key.source_port } else { key.destination_port })
    }
}

/// Returns an address of a map.
pub fn ip(family: Family, address: &Address) -> IpAddr {
    let words = address.map(u32::to_ne_bytes);
    match family {
        Family::Ipv4 => Ipv4Addr::from(words[0]).into(),
        Family::Ipv6 => {
            let mut octets = [0; 16];
            octets.chunks_exact_mut(4).zip(&words).for_each(|(to, word)| to.copy_from_slice(word));
            Ipv6Addr::from(octets).into()
        }
    }
}

/// A live flow.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct FlowRecord<'a> {
    /// Protocol: `tcp`, `udp`, `icmp`, `icmpv6` or another one's number.
    #[serde(borrow)]
    pub protocol: Cow<'a, str>,
    /// Address of the host in the LAN; unspecified for datagrams of the gateway itself.
    #[schema(value_type = String)]
    pub client: IpAddr,
    /// Port of that host, or the identifier of an ICMP echo; null if the protocol has none.
    pub client_port: Option<u16>,
    /// Address of the other end.
    #[schema(value_type = String)]
    pub destination: IpAddr,
    /// Port of the other end; null if the protocol has none.
    pub destination_port: Option<u16>,
    /// Name of the uplink.
    #[serde(borrow)]
    pub uplink: Cow<'a, str>,
    /// Side that began: `lan`, `internet` or `gateway`.
    #[serde(borrow)]
    pub from: Cow<'a, str>,
    /// State: `opening`, `established` or `closing` for TCP, `unanswered` or `answered` for others.
    #[serde(borrow)]
    pub state: Cow<'a, str>,
    /// Seconds since the first packet.
    pub age_s: u32,
    /// Seconds since the last packet from the LAN.
    pub idle_s: u32,
    /// Reason for the uplink when it was chosen: `source` (the address belongs to it), `session-new`,
    /// `session`, `related` (the session of connections that agreed on the flow), `bucket` (none of
    /// these), `connection` (it had the uplink already), `inbound` or `unknown`.
    #[serde(borrow)]
    pub reason: Cow<'a, str>,
    /// Number of the rule that the flow matched, from 1 on; null without one.
    pub rule: Option<u8>,
    /// Name of the uplink that ended under the flow; null if none did.
    #[serde(borrow)]
    pub moved_from: Option<Cow<'a, str>>,
    /// Bytes from the LAN; null if they are not counted.
    pub bytes_up: Option<u64>,
    /// Bytes to the LAN; null if they are not counted.
    pub bytes_down: Option<u64>,
}

impl<'a> FlowRecord<'a> {
    /// Creates the record of an entry; `name` names an uplink by its index.
    pub fn new(
        entry: &FlowEntry,
        name: impl Fn(u32) -> &'a str,
        situation: &Situation,
    ) -> FlowRecord<'a> {
        let FlowEntry { key, flow, bytes } = entry;
        let ports = protocol::has_ports(key.protocol);
        let port = |port: u16| ports.then_some(u16::from_be(port));
        let is_echo = protocol::has_identifier(key.protocol);
        FlowRecord {
            protocol: protocol::name(key.protocol),
            client: entry.client(),
            client_port: port(key.source_port)
                .or_else(|| is_echo.then_some(u16::from_be(key.source_port))),
            destination: entry.destination(),
            destination_port: port(key.destination_port),
            uplink: Cow::Borrowed(name(flow.uplink)),
            from: Cow::Borrowed(from(entry)),
            state: Cow::Borrowed(state(key, flow)),
            age_s: situation.age_s(flow),
            // Both are rounded.
            idle_s: situation.idle_s(flow).min(situation.age_s(flow)),
            reason: Cow::Borrowed(reason::name(flow.reason.kind)),
            rule: rule_number(flow),
            moved_from: flow
                .moved_from
                .checked_sub(1)
                .map(|index| Cow::Borrowed(name(index.into()))),
            bytes_up: bytes.map(|bytes| bytes.up),
            bytes_down: bytes.map(|bytes| bytes.down),
        }
    }
}

/// Returns the number of the rule that a flow matched, from 1 on.
pub fn rule_number(flow: &Flow) -> Option<u8> {
    let rule = flow.reason.rule;
    // A flow without a reason has no rule either.
    let known = flow.reason.kind != reason::UNKNOWN && u32::from(rule) < NO_RULE;
    known.then(|| rule.saturating_add(1))
}

const fn from(entry: &FlowEntry) -> &'static str {
    if entry.is_inbound() {
        "internet"
    } else if entry.flow.ifindex == 0 {
        "gateway"
    } else {
        "lan"
    }
}

const fn state(key: &FlowKey, flow: &Flow) -> &'static str {
    match (key.protocol, flow.tcp_state) {
        (TCP, tcp_state::CLOSING) => "closing",
        (TCP, tcp_state::OPENING) if flow.tcp_ack == 0 => "opening",
        (TCP, _) => "established",
        _ if flow.replied == 0 => "unanswered",
        _ => "answered",
    }
}

#[cfg(test)]
mod tests {
    use linkbal_common::{
        flow::Reason,
        settings::Settings,
        uplink::{FAMILY_SLOTS, UpMask},
    };
    use proptest::prelude::*;

    use super::*;

    fn situation() -> Situation {
        let settings = Settings::default();
        Situation { up: UpMask(1), epochs: [0; FAMILY_SLOTS], settings, now_ms: 70_000 }
    }

    #[test]
    fn a_record_has_the_ends_as_the_lan_host_sees_them() {
        let key = FlowKey {
            source: [u32::from_ne_bytes([10, 77, 0, 9]), 0, 0, 0],
            destination: [u32::from_ne_bytes([198, 51, 100, 1]), 0, 0, 0],
            source_port: 40_000_u16.to_be(),
            destination_port: 443_u16.to_be(),
            protocol: TCP,
            family: Family::Ipv4 as u8,
            reserved: 0,
        };
        let flow = Flow {
            first_seen_ms: 10_000,
            last_seen_s: 65,
            tcp_state: tcp_state::ANSWERED,
            ifindex: 3,
            moved_from: 1,
            reason: Reason { kind: reason::SESSION, rule: 2 },
            ..Flow::default()
        };
        let entry = FlowEntry { key, flow, bytes: Some(Bytes { up: 7, down: 9 }) };
        let json = serde_json::to_value(FlowRecord::new(&entry, |_| "isp-a", &situation()));
        let expected = serde_json::json!({
            "protocol": "tcp", "client": "10.77.0.9", "client_port": 40_000,
            "destination": "198.51.100.1", "destination_port": 443, "uplink": "isp-a",
            "from": "lan", "state": "established", "age_s": 60, "idle_s": 5,
            "reason": "session", "rule": 3, "moved_from": "isp-a",
            "bytes_up": 7, "bytes_down": 9,
        });
        assert_eq!(json.expect("JSON"), expected);
    }

    #[test]
    fn a_flow_without_a_rule_has_no_number() {
        let with =
            |kind, rule| rule_number(&Flow { reason: Reason { kind, rule }, ..Flow::default() });
        assert_eq!(with(reason::BUCKET, 0), Some(1));
        assert_eq!(with(reason::BUCKET, NO_RULE as u8), None);
        assert_eq!(with(reason::SOURCE, reason::NO_LOOKUP), None);
        assert_eq!(with(reason::UNKNOWN, 0), None);
    }

    proptest! {
        #[test]
        fn a_record_is_read_as_it_was_written(
            source: [u32; 4], destination: [u32; 4], ports: [u16; 2], protocol: u8, v6: bool,
            counts: Option<(u64, u64)>, sticky_class: u32, state in 0u32..3, first: u32, because: [u8; 3],
        ) {
            let family = if v6 { Family::Ipv6 } else { Family::Ipv4 } as u8;
            let [source_port, destination_port] = ports;
            let key = FlowKey {
                source, destination, source_port, destination_port, protocol, family, reserved: 0,
            };
            let [kind, rule, moved_from] = because;
            let flow = Flow {
                sticky_class, tcp_state: state, first_seen_ms: first, moved_from,
                reason: Reason { kind, rule }, ..Flow::default()
            };
            let entry = FlowEntry { key, flow, bytes: counts.map(|(up, down)| Bytes { up, down }) };
            let record = FlowRecord::new(&entry, |_| "a \"b\"", &situation());
            let text = serde_json::to_string(&record).expect("JSON");
            let read: FlowRecord<'_> = serde_json::from_str(&text).expect("the same");
            prop_assert_eq!(read, record);
        }
    }
}
