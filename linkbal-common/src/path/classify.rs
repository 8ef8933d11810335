//! Classification of a flow: the rule that it matches, and its sticky class.

use network_types::ip::IpProto;

pub use crate::maps::key::{MacKey, PortKey, RELATED, port_key};
use crate::{
    maps::{
        domain::{NAMES, NO_NAME},
        flow::FlowKey,
        key::HostKey,
        rule::{NO_RULE, RuleSet, dimension},
        settings::Settings,
    },
    packet::{EthernetHeader, Packet, has_ports, parse::Extra},
    path::tables::{Dimension, Tables},
};

/// Lowest port that two programs may agree on; ports below are assigned (RFC 6335).
const FIRST_AGREED: u16 = 1024;

/// Returns the sticky class of a destination port. Only TCP and UDP ports can be sticky.
#[inline(always)]
pub fn port_class<T: Tables>(tables: &T, key: &FlowKey) -> Option<u32> {
    if key.protocol != IpProto::Tcp as u8 && key.protocol != IpProto::Udp as u8
        || key.destination_port == RELATED
    {
        return None;
    }
    tables.sticky_port(key.protocol, key.destination_port)
}

/// Returns the sticky class whose sessions a flow joins without a port of that class. Other
/// connections of the same ends have agreed on such a flow, which is known by its protocol alone.
#[inline(always)]
pub fn related_class<T: Tables>(tables: &T, key: &FlowKey) -> Option<u32> {
    if has_ports(key.protocol) && u16::from_be(key.destination_port) < FIRST_AGREED {
        return None;
    }
    tables.sticky_port(key.protocol, RELATED)
}

/// Properties of a flow's origin that rules may match, beside its key.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// Index of the interface that the packet comes in by, or 0.
    pub ifindex: u32,
    /// Source MAC address, or zero.
    pub mac: MacKey,
    /// VLAN and DSCP.
    pub extra: Extra,
}

impl Origin {
    /// The gateway itself.
    pub const LOCAL: Origin = Origin { ifindex: 0, mac: [0; 8], extra: Extra { vlan: 0, dscp: 0 } };

    /// Returns the origin of a packet from a LAN host.
    #[inline(always)]
    pub fn of<P: Packet>(packet: &P, extra: Extra) -> Origin {
        Origin { ifindex: packet.ifindex(), mac: source_mac(packet), extra }
    }
}

/// Returns the first rule that a flow matches, or [`NO_RULE`].
#[inline(always)]
pub fn first_rule<T: Tables>(
    tables: &T,
    settings: &Settings,
    key: &FlowKey,
    origin: &Origin,
) -> u32 {
    if settings.rules == 0 {
        return NO_RULE;
    }
    let (source_port, destination_port) = if has_ports(key.protocol) {
        (u16::from_be(key.source_port), u16::from_be(key.destination_port))
    } else {
        (0, 0)
    };
    let rules = |asked: u32, dimension: Dimension<'_>| {
        if settings.dimensions & asked == 0 { RuleSet::ALL } else { tables.rules(dimension) }
    };
    let matching = rules(dimension::SOURCE, Dimension::Source(key.family(), &key.source))
        .and(rules(dimension::DESTINATION, Dimension::Destination(key.family(), &key.destination)))
        .and(rules(dimension::PROTOCOL, Dimension::Protocol(key.protocol)))
        .and(rules(dimension::SOURCE_PORT, Dimension::SourcePort(source_port)))
        .and(rules(dimension::DESTINATION_PORT, Dimension::DestinationPort(destination_port)))
        .and(rules(dimension::DSCP, Dimension::Dscp(origin.extra.dscp)))
        .and(rules(dimension::INTERFACE, Dimension::Interface(origin.ifindex)))
        .and(rules(dimension::VLAN, Dimension::Vlan(origin.extra.vlan)))
        .and(rules(dimension::MAC, Dimension::Mac(origin.mac)))
        .and(domain_rules(tables, settings, key));
    matching.first().unwrap_or(NO_RULE)
}

/// Returns the rules that the names of a flow's destination satisfy; all rules if none names a
/// domain.
#[inline(always)]
fn domain_rules<T: Tables>(tables: &T, settings: &Settings, key: &FlowKey) -> RuleSet {
    if settings.domains == 0 {
        return RuleSet::ALL;
    }
    let mut rules = tables.domain_rules(NO_NAME).unwrap_or(RuleSet::NONE);
    if let Some(domain) = tables.domain(&HostKey::new(key.family(), &key.destination)) {
        let now_s = tables.now_s();
        for slot in 0..NAMES {
            if domain.expires_s[slot] > now_s
                && let Some(more) = tables.domain_rules(domain.names[slot])
            {
                rules = rules.or(more);
            }
        }
    }
    rules
}

/// Returns the source MAC address; zero on interfaces without Ethernet headers.
#[inline(always)]
pub(crate) fn source_mac<P: Packet>(packet: &P) -> MacKey {
    mac::<P, 3>(packet)
}

/// Returns the destination MAC address; zero on interfaces without Ethernet headers.
#[inline(always)]
pub(crate) fn destination_mac<P: Packet>(packet: &P) -> MacKey {
    mac::<P, 0>(packet)
}

/// Returns the MAC address that begins at word `WORD` of the header.
#[inline(always)]
fn mac<P: Packet, const WORD: usize>(packet: &P) -> MacKey {
    if packet.l3_ether_type().is_some() {
        return [0; 8];
    }
    let Some(EthernetHeader { addresses, .. }) = packet.load_cold(0) else { return [0; 8] };
    let [a, b] = addresses[WORD].to_ne_bytes();
    let [c, d] = addresses[WORD + 1].to_ne_bytes();
    let [e, f] = addresses[WORD + 2].to_ne_bytes();
    [a, b, c, d, e, f, 0, 0]
}
