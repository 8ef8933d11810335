//! Segments to a client, as its server would send them.

use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::PacketBuilder;
use linkbal_common::{
    flow::{Address, Flow, FlowKey},
    uplink::Family,
};

/// Time to live of a segment: the client is on the same link.
const HOPS: u8 = 64;

/// Returns a reset at the client's last position, and a segment just before that, which it must
/// answer: both from the IP header on.
pub(super) fn reset_and_probe(key: &FlowKey, flow: &Flow) -> [Vec<u8>; 2] {
    let (server, client) = (u16::from_be(key.destination_port), u16::from_be(key.source_port));
    let before = flow.tcp_ack.wrapping_sub(1);
    let mut segments = [Vec::new(), Vec::new()];
    let reset = ip(key).tcp(server, client, flow.tcp_ack, 0).rst();
    reset.write(&mut segments[0], &[]).expect("a vector takes all");
    let probe = ip(key).tcp(server, client, before, 0).ack(flow.tcp_end);
    probe.write(&mut segments[1], &[]).expect("a vector takes all");
    segments
}

fn ip(key: &FlowKey) -> etherparse::PacketBuilderStep<etherparse::IpHeaders> {
    match key.family() {
        Family::Ipv4 => PacketBuilder::ipv4(ipv4(&key.destination), ipv4(&key.source), HOPS),
        Family::Ipv6 => PacketBuilder::ipv6(ipv6(&key.destination), ipv6(&key.source), HOPS),
    }
}

fn ipv4(address: &Address) -> [u8; 4] {
    Ipv4Addr::from_bits(u32::from_be(address[0])).octets()
}

fn ipv6(address: &Address) -> [u8; 16] {
    let number =
        address.iter().fold(0, |number, word| number << 32 | u128::from(u32::from_be(*word)));
    Ipv6Addr::from_bits(number).octets()
}

#[cfg(test)]
mod tests {
    use etherparse::{PacketHeaders, TransportHeader};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn both_come_from_the_server_and_are_where_the_client_is(
            addresses: [[u32; 4]; 2], ports: (u16, u16), ipv6: bool, ack: u32, end: u32,
        ) {
            let [source, destination] =
                addresses.map(|words| if ipv6 { words } else { [words[0], 0, 0, 0] });
            let key = FlowKey {
                source,
                destination,
                source_port: ports.0,
                destination_port: ports.1,
                protocol: 6,
                family: if ipv6 { 6 } else { 4 },
                ..FlowKey::default()
            };
            let flow = Flow { tcp_ack: ack, tcp_end: end, ..Flow::default() };
            for (number, bytes) in reset_and_probe(&key, &flow).iter().enumerate() {
                let packet = PacketHeaders::from_ip_slice(bytes).expect("a packet");
                let Some(TransportHeader::Tcp(tcp)) = packet.transport else {
                    return Err(TestCaseError::fail("no TCP"));
                };
                let sum = match packet.net.expect("an IP header") {
                    etherparse::NetHeaders::Ipv4(ip, _) => {
                        prop_assert_eq!(ip.destination, ipv4(&source).map(|byte| byte));
                        prop_assert_eq!(ip.header_checksum, ip.calc_header_checksum());
                        tcp.calc_checksum_ipv4(&ip, &[]).expect("a sum")
                    }
                    etherparse::NetHeaders::Ipv6(ip, _) => {
                        prop_assert_eq!(ip.source, self::ipv6(&destination));
                        tcp.calc_checksum_ipv6(&ip, &[]).expect("a sum")
                    }
                    etherparse::NetHeaders::Arp(_) => return Err(TestCaseError::fail("ARP")),
                };
                prop_assert_eq!(tcp.checksum, sum);
                prop_assert_eq!(tcp.source_port.to_be(), ports.1);
                prop_assert_eq!(tcp.destination_port.to_be(), ports.0);
                if number == 0 {
                    prop_assert!(tcp.rst && !tcp.ack && tcp.sequence_number == ack);
                } else {
                    prop_assert!(!tcp.rst && tcp.ack && tcp.acknowledgment_number == end);
                    prop_assert_eq!(tcp.sequence_number.wrapping_add(1), ack);
                }
            }
        }
    }
}
