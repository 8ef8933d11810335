//! Neighbour solicitation and advertisement (RFC 4861 sections 4.3, 4.4 and 7.1.2).

use std::net::Ipv6Addr;

use etherparse::{
    Icmpv6Slice, Icmpv6Type, IpNumber, Ipv6Header, Ipv6HeaderSlice, PacketBuilder, icmpv6,
};
use socket2::SockFilter;

use super::{Mac, Pair};

/// Hop limit that no forwarded packet has.
const HOP_LIMIT: u8 = 255;
/// Type of the option with the sender's link-layer address.
const SOURCE_LINK_ADDRESS: u8 = 1;

/// A socket filter that passes neighbour advertisements only (classic BPF,
/// include/uapi/linux/bpf_common.h): an uplink's traffic must not be copied for a probe.
pub(super) const FILTER: [SockFilter; 6] = [
    SockFilter::new(LOAD_BYTE, 0, 0, 6),
    SockFilter::new(JUMP_IF_EQUAL, 0, 3, IpNumber::IPV6_ICMP.0 as u32),
    SockFilter::new(LOAD_BYTE, 0, 0, Ipv6Header::LEN as u32),
    SockFilter::new(JUMP_IF_EQUAL, 0, 1, icmpv6::TYPE_NEIGHBOR_ADVERTISEMENT as u32),
    SockFilter::new(RETURN, 0, 0, u32::MAX),
    SockFilter::new(RETURN, 0, 0, 0),
];
const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// Builds a solicitation of the neighbour's Ethernet address, to the group of all that could have
/// the address.
pub(super) fn solicitation(pair: &Pair<Ipv6Addr>) -> Vec<u8> {
    // The option's length is in units of eight bytes.
    let option = [&[SOURCE_LINK_ADDRESS, 1][..], &pair.local_mac].concat();
    let payload = [&pair.neighbour.octets()[..], &option].concat();
    packet(pair.local, group(pair.neighbour), Icmpv6Type::NeighborSolicitation, &payload)
}

/// Returns the group of all addresses that end like this one (RFC 4291 section 2.7.1).
fn group(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    let last = u16::from_be_bytes([b, c]);
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), last)
}

/// Returns the Ethernet address of that group (RFC 2464 section 7).
pub(super) fn group_mac(address: Ipv6Addr) -> Mac {
    let [.., a, b, c] = address.octets();
    [0x33, 0x33, 0xff, a, b, c]
}

/// Returns whether a packet is the neighbour's answer to this machine.
pub(super) fn is_advertisement(bytes: &[u8], pair: &Pair<Ipv6Addr>) -> bool {
    let Ok(header) = Ipv6HeaderSlice::from_slice(bytes) else { return false };
    // Ethernet pads short packets.
    let payload = bytes[Ipv6Header::LEN..].get(..usize::from(header.payload_length()));
    let Some(icmp) = payload.and_then(|payload| Icmpv6Slice::from_slice(payload).ok()) else {
        return false;
    };
    let Icmpv6Type::NeighborAdvertisement(flags) = icmp.icmp_type() else { return false };
    header.next_header() == IpNumber::IPV6_ICMP
        && header.hop_limit() == HOP_LIMIT
        && header.destination_addr() == pair.local
        && flags.solicited
        && icmp.payload().starts_with(&pair.neighbour.octets())
        && icmp.is_checksum_valid(header.source(), header.destination())
}

/// Builds an ICMPv6 packet with its checksum, from the IP header on.
fn packet(source: Ipv6Addr, destination: Ipv6Addr, kind: Icmpv6Type, payload: &[u8]) -> Vec<u8> {
    let ip = PacketBuilder::ipv6(source.octets(), destination.octets(), HOP_LIMIT);
    let mut packet = Vec::new();
    ip.icmpv6(kind).write(&mut packet, payload).expect("a vector takes all");
    packet
}

#[cfg(test)]
mod tests {
    use etherparse::icmpv6::NeighborAdvertisementHeader;
    use proptest::prelude::*;

    use super::*;

    /// Length of a packet with the option.
    const LENGTH: usize = Ipv6Header::LEN + 32;

    fn pair() -> impl Strategy<Value = Pair<Ipv6Addr>> {
        any::<(Mac, Ipv6Addr, Ipv6Addr)>().prop_map(|(local_mac, local, neighbour)| Pair {
            local_mac,
            local,
            neighbour,
        })
    }

    /// Returns the answer of an honest neighbour, with the option that it adds.
    fn advertisement(pair: &Pair<Ipv6Addr>, solicited: bool, router: bool) -> Vec<u8> {
        let kind = NeighborAdvertisementHeader { router, solicited, r#override: false };
        let payload = [&pair.neighbour.octets()[..], &[2, 1], &[0; 6]].concat();
        packet(pair.neighbour, pair.local, Icmpv6Type::NeighborAdvertisement(kind), &payload)
    }

    proptest! {
        #[test]
        fn only_the_advertisement_counts_and_any_change_of_it_is_noticed(
            pair in pair(), router: bool, padding: Vec<u8>, at in Ipv6Header::LEN..LENGTH, flip in 1u8..,
        ) {
            let honest = advertisement(&pair, true, router);
            let mut padded = [&honest[..], &padding].concat();
            prop_assert!(is_advertisement(&padded, &pair));
            prop_assert!(!is_advertisement(&advertisement(&pair, false, router), &pair));
            prop_assert!(!is_advertisement(&solicitation(&pair), &pair));
            prop_assert!(!is_advertisement(&honest[..at], &pair));
            padded[7] -= 1;
            prop_assert!(!is_advertisement(&padded, &pair));
            padded[7] += 1;
            padded[at] ^= flip;
            prop_assert!(!is_advertisement(&padded, &pair));
        }

        #[test]
        fn hostile_packets_are_harmless(bytes: Vec<u8>, cut in 0usize..LENGTH, pair in pair()) {
            let honest = advertisement(&pair, true, false);
            prop_assert!(!is_advertisement(&bytes, &pair));
            prop_assert!(!is_advertisement(&[&honest[..cut], &bytes].concat(), &pair)
                || bytes.starts_with(&honest[cut..]));
        }
    }

    #[test]
    fn the_group_of_an_address() {
        let address: Ipv6Addr = "2001:db8::12:3456".parse().expect("an address");
        assert_eq!(group(address).to_string(), "ff02::1:ff12:3456");
        assert_eq!(group_mac(address), [0x33, 0x33, 0xff, 0x12, 0x34, 0x56]);
    }
}
