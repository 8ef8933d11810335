//! The packet that a question is about, as a host would send it.

use std::net::IpAddr;

use etherparse::{EtherType, icmpv4, icmpv6};
use linkbal_common::parse::Tcp;

use crate::{api::explain::FlowQuestion, protocol};

/// Returns whether packets of a protocol have a source port, or an identifier that a host chooses.
pub(super) const fn has_source_port(protocol: u8) -> bool {
    protocol::has_ports(protocol) || protocol::has_identifier(protocol)
}

/// Returns the packet of a question, with an Ethernet header if its interface has them; it is the first
/// one of a TCP connection if it `opens` it. The source port is 0 if it is not known.
pub(super) fn frame(question: &FlowQuestion, ethernet: bool, opens: bool) -> Vec<u8> {
    let payload = payload(question, opens);
    let dscp = question.dscp.unwrap_or(0) & 0x3f;
    let length = payload.len() as u16;
    let mut packet = Vec::new();
    if ethernet {
        packet.extend([2; 6]);
        packet.extend(mac(question).unwrap_or_default());
        packet.extend(ether_type(question.destination).to_be_bytes());
    }
    match (question.source, question.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let [high, low] = length.saturating_add(20).to_be_bytes();
            packet.extend([0x45, dscp << 2, high, low, 0, 0, 0, 0, 64, question.protocol, 0, 0]);
            packet.extend(source.octets());
            packet.extend(destination.octets());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let [high, low] = length.to_be_bytes();
            packet.extend([0x60 | dscp >> 2, dscp << 6, 0, 0, high, low, question.protocol, 64]);
            packet.extend(source.octets());
            packet.extend(destination.octets());
        }
        _ => {}
    }
    packet.extend(payload);
    packet
}

/// Returns the EtherType of packets to an address.
pub(super) const fn ether_type(destination: IpAddr) -> u16 {
    if destination.is_ipv4() { EtherType::IPV4.0 } else { EtherType::IPV6.0 }
}

fn payload(question: &FlowQuestion, opens: bool) -> Vec<u8> {
    let source = question.source_port.unwrap_or(0).to_be_bytes();
    let destination = question.destination_port.unwrap_or(0).to_be_bytes();
    let ports = [source, destination].concat();
    match question.protocol {
        protocol::TCP => {
            let flags = if opens { Tcp::SYN } else { Tcp::ACK };
            let rest = [0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0];
            [ports, rest.into()].concat()
        }
        protocol::UDP => [ports, vec![0, 8, 0, 0]].concat(),
        protocol::SCTP => [ports, vec![0; 8]].concat(),
        protocol::ICMP => {
            [vec![icmpv4::TYPE_ECHO_REQUEST, 0, 0, 0], source.into(), vec![0, 1]].concat()
        }
        protocol::ICMPV6 => {
            [vec![icmpv6::TYPE_ECHO_REQUEST, 0, 0, 0], source.into(), vec![0, 1]].concat()
        }
        _ => vec![0; 8],
    }
}

/// Returns the MAC address of a question.
fn mac(question: &FlowQuestion) -> Option<[u8; 6]> {
    crate::mac::parse(question.mac.as_ref()?)
}

#[cfg(test)]
mod tests {
    use linkbal_common::{flow::FlowKey, packet::model::ModelPacket, parse::parse};

    use super::*;

    #[test]
    fn the_packet_is_read_as_the_flow_that_is_asked_about() {
        let ends = [("10.0.0.1", "198.51.100.7", 1), ("fd77::1", "2001:db8::7", 58)];
        for (source, destination, icmp) in ends {
            for protocol in [icmp, 6, 17, 132, 47] {
                for ethernet in [true, false] {
                    let question = FlowQuestion {
                        source: source.parse().expect("an address"),
                        source_port: Some(40_000),
                        destination: destination.parse().expect("an address"),
                        destination_port: Some(443),
                        protocol,
                        interface: None,
                        mac: Some("02:00:00:00:00:09".into()),
                        vlan: None,
                        dscp: Some(46),
                        from_gateway: false,
                    };
                    let bytes = frame(&question, ethernet, true);
                    let ether_type = ether_type(question.destination);
                    let l3_ether_type = (!ethernet).then_some(ether_type.to_be());
                    let packet = ModelPacket { l3_ether_type, ..ModelPacket::frame(&bytes) };
                    let mut key = FlowKey::default();
                    assert!(parse(&packet, &mut key).is_ok(), "{question:?}");
                    let port = if has_source_port(protocol) { 40_000u16.to_be() } else { 0 };
                    assert_eq!((key.protocol, key.source_port), (protocol, port));
                    assert_eq!(bytes[6..12] == [2, 0, 0, 0, 0, 9], ethernet);
                }
            }
        }
    }
}
