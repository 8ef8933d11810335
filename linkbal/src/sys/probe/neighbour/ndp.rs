//! Neighbour solicitation and advertisement (RFC 4861 sections 4.3, 4.4 and 7.1.2).

use std::net::Ipv6Addr;

use socket2::SockFilter;

use super::{super::echo::checksum, Ends, Mac};

const IP_HEADER: usize = 40;
/// Length of type, code, checksum, flags and the target's address.
const ICMP_LENGTH: usize = 24;
const OPTION_LENGTH: usize = 8;
const LENGTH: usize = IP_HEADER + ICMP_LENGTH + OPTION_LENGTH;

const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// Hop limit that no forwarded packet has.
const HOP_LIMIT: u8 = 255;
const SOURCE_LINK_ADDRESS: u8 = 1;
/// Flag of an advertisement that answers a solicitation.
const SOLICITED: u8 = 0x40;

/// A socket filter that passes neighbour advertisements only (classic BPF,
/// include/uapi/linux/bpf_common.h): an uplink's traffic must not be copied for a probe.
pub(super) const FILTER: [SockFilter; 6] = [
    SockFilter::new(LOAD_BYTE, 0, 0, 6),
    SockFilter::new(JUMP_IF_EQUAL, 0, 3, ICMPV6 as u32),
    SockFilter::new(LOAD_BYTE, 0, 0, IP_HEADER as u32),
    SockFilter::new(JUMP_IF_EQUAL, 0, 1, ADVERTISEMENT as u32),
    SockFilter::new(RETURN, 0, 0, u32::MAX),
    SockFilter::new(RETURN, 0, 0, 0),
];
const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// Builds a solicitation of the neighbour's Ethernet address, to the group of all that could have
/// the address.
pub(super) fn solicitation(ends: &Ends<Ipv6Addr>) -> [u8; LENGTH] {
    let mut icmp = [0; ICMP_LENGTH + OPTION_LENGTH];
    icmp[0] = SOLICITATION;
    icmp[8..24].copy_from_slice(&ends.neighbour.octets());
    icmp[24] = SOURCE_LINK_ADDRESS;
    // Its length in units of eight bytes.
    icmp[25] = 1;
    icmp[26..].copy_from_slice(&ends.own_mac);
    packet(ends.own, group(ends.neighbour), icmp)
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
pub(super) fn is_advertisement(bytes: &[u8], ends: &Ends<Ipv6Addr>) -> bool {
    let Some((header, rest)) = bytes.split_first_chunk::<IP_HEADER>() else { return false };
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    // Ethernet pads short packets.
    let Some(icmp) = rest.get(..length).filter(|icmp| icmp.len() >= ICMP_LENGTH) else {
        return false;
    };
    header[0] >> 4 == 6
        && header[6] == ICMPV6
        && header[7] == HOP_LIMIT
        && header[24..40] == ends.own.octets()
        && icmp[0] == ADVERTISEMENT
        && icmp[1] == 0
        && icmp[4] & SOLICITED != 0
        && icmp[8..24] == ends.neighbour.octets()
        && checksum(&covered(header, icmp)) == 0
}

/// Builds an ICMPv6 packet with its checksum.
fn packet<const N: usize, const M: usize>(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    icmp: [u8; N],
) -> [u8; M] {
    let mut packet = [0; M];
    packet[0] = 6 << 4;
    packet[4..6].copy_from_slice(&(N as u16).to_be_bytes());
    packet[6] = ICMPV6;
    packet[7] = HOP_LIMIT;
    packet[8..24].copy_from_slice(&source.octets());
    packet[24..40].copy_from_slice(&destination.octets());
    packet[IP_HEADER..].copy_from_slice(&icmp);
    let sum = checksum(&covered(&packet[..IP_HEADER], &icmp));
    packet[IP_HEADER + 2..][..2].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// Returns the bytes that the checksum covers: addresses, length and protocol, then the message
/// (RFC 8200 section 8.1).
fn covered(header: &[u8], icmp: &[u8]) -> Vec<u8> {
    let length = (icmp.len() as u32).to_be_bytes();
    [&header[8..40], &length, &[0, 0, 0, ICMPV6], icmp].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ends() -> impl Strategy<Value = Ends<Ipv6Addr>> {
        any::<(Mac, Ipv6Addr, Ipv6Addr)>().prop_map(|(own_mac, own, neighbour)| Ends {
            own_mac,
            own,
            neighbour,
        })
    }

    /// Returns the answer of an honest neighbour, with the option that it adds.
    fn advertisement(ends: &Ends<Ipv6Addr>, flags: u8) -> [u8; LENGTH] {
        let mut icmp = [0; ICMP_LENGTH + OPTION_LENGTH];
        icmp[0] = ADVERTISEMENT;
        icmp[4] = flags;
        icmp[8..24].copy_from_slice(&ends.neighbour.octets());
        icmp[24..26].copy_from_slice(&[2, 1]);
        packet(ends.neighbour, ends.own, icmp)
    }

    proptest! {
        #[test]
        fn only_the_advertisement_counts_and_any_change_of_it_is_noticed(
            ends in ends(), router: bool, padding: Vec<u8>, at in IP_HEADER..LENGTH, flip in 1u8..,
        ) {
            let flags = SOLICITED | if router { 0x80 } else { 0 };
            let honest = advertisement(&ends, flags);
            let mut padded = [&honest[..], &padding].concat();
            prop_assert!(is_advertisement(&padded, &ends));
            prop_assert!(!is_advertisement(&advertisement(&ends, 0), &ends));
            prop_assert!(!is_advertisement(&solicitation(&ends), &ends));
            prop_assert!(!is_advertisement(&honest[..at], &ends));
            padded[7] -= 1;
            prop_assert!(!is_advertisement(&padded, &ends));
            padded[7] += 1;
            padded[at] ^= flip;
            prop_assert!(!is_advertisement(&padded, &ends));
        }

        #[test]
        fn hostile_packets_are_harmless(bytes: Vec<u8>, cut in 0usize..LENGTH, ends in ends()) {
            let honest = advertisement(&ends, SOLICITED);
            prop_assert!(!is_advertisement(&bytes, &ends));
            prop_assert!(!is_advertisement(&[&honest[..cut], &bytes].concat(), &ends)
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
