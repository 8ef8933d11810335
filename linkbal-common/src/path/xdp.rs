//! Checksums of packets at the driver: those that a device was to finish are not sent out again.

use network_types::ip::IpProto;

/// Returns whether the checksum of a transport header is unfinished: only the sum of the pseudo-header
/// (RFC 9293 section 3.1), to which a device was to add that of the segment. So are packets that were made
/// on this machine, by a container or a virtual machine, which no wire has carried. `length` is that of the
/// segment, `checksum` as in the packet. One of 65536 finished checksums looks like that, too.
#[inline(always)]
pub fn is_unfinished<const WORDS: usize>(
    ends: &[[u32; WORDS]; 2],
    protocol: u8,
    length: u16,
    checksum: u16,
) -> bool {
    let mut sum = u64::from(length.to_be()) + u64::from(u16::from_ne_bytes([0, protocol]));
    for (source, destination) in ends[0].iter().zip(&ends[1]) {
        sum += u64::from(*source) + u64::from(*destination);
    }
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16 == checksum
}

/// Returns the offset of the checksum in a header of TCP or UDP.
#[inline(always)]
pub const fn checksum_offset(protocol: u8) -> usize {
    if protocol == IpProto::Udp as u8 { 6 } else { 16 }
}

#[cfg(test)]
mod tests {
    use etherparse::{Ipv4Header, Ipv6Header, TcpHeader, UdpHeader, ip_number};
    use proptest::prelude::*;

    use super::*;

    /// Returns the sum of words as the kernel leaves it to a device (`tcp_v4_check` and its kin).
    fn pseudo_sum(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for word in bytes.chunks(2) {
            sum += u32::from(u16::from_be_bytes([word[0], word[1]]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        u16::try_from(sum).expect("a folded sum").to_be()
    }

    proptest! {
        #[test]
        fn an_unfinished_checksum_is_found_and_a_finished_one_is_not(
            source: [u8; 4], destination: [u8; 4], payload: [u8; 5],
        ) {
            let length = 20 + payload.len() as u16;
            let mut pseudo = [source, destination].concat();
            pseudo.extend([0, 6]);
            pseudo.extend(length.to_be_bytes());
            let ends = [source, destination].map(|end| [u32::from_ne_bytes(end)]);
            prop_assert!(is_unfinished(&ends, 6, length, pseudo_sum(&pseudo)));
            let ip = Ipv4Header::new(length, 64, ip_number::TCP, source, destination).expect("short");
            let tcp = TcpHeader::new(1, 2, 3, 4);
            let finished = tcp.calc_checksum_ipv4(&ip, &payload).expect("short").to_be();
            prop_assert_eq!(is_unfinished(&ends, 6, length, finished), finished == pseudo_sum(&pseudo));
        }

        #[test]
        fn so_it_is_with_ipv6(source: [u8; 16], destination: [u8; 16], payload: [u8; 5]) {
            let length = 8 + payload.len() as u16;
            let mut pseudo = [source, destination].concat();
            pseudo.extend([0, 17]);
            pseudo.extend(length.to_be_bytes());
            let words = |end: [u8; 16]| -> [u32; 4] {
                std::array::from_fn(|at| {
                    let bytes = &end[4 * at..4 * at + 4];
                    u32::from_ne_bytes(bytes.try_into().expect("four bytes"))
                })
            };
            let ends = [source, destination].map(words);
            prop_assert!(is_unfinished(&ends, 17, length, pseudo_sum(&pseudo)));
            let ip = Ipv6Header { source, destination, ..Ipv6Header::default() };
            let udp = UdpHeader::with_ipv6_checksum(1, 2, &ip, &payload).expect("short");
            let finished = udp.checksum.to_be();
            prop_assert_eq!(is_unfinished(&ends, 17, length, finished), finished == pseudo_sum(&pseudo));
        }
    }
}
