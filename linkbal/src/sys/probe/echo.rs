//! ICMP and ICMPv6 echo messages as raw sockets send and receive them.

use std::{io, os::fd::AsRawFd as _};

use linkbal_common::uplink::Family;
use socket2::Socket;

/// Length of the header of an echo message (RFC 792, RFC 4443 section 4), and of the message, whose
/// header is followed by a token.
const HEADER: usize = 8;
const LENGTH: usize = HEADER + size_of::<u64>();

const REQUEST_V4: u8 = 8;
const REPLY_V4: u8 = 0;
const REQUEST_V6: u8 = 128;
const REPLY_V6: u8 = 129;

/// Filters of raw sockets (include/uapi/linux/icmp.h and icmpv6.h): a bit set blocks its type.
const ICMP_FILTER: i32 = 1;
const ICMPV6_FILTER: i32 = 1;

/// Builds an echo request. The kernel fills in the checksum for IPv6.
pub(super) fn request(family: Family, id: u16, sequence: u16, token: u64) -> [u8; LENGTH] {
    let mut message = [0; LENGTH];
    message[0] = if family == Family::Ipv4 { REQUEST_V4 } else { REQUEST_V6 };
    message[4..6].copy_from_slice(&id.to_be_bytes());
    message[6..8].copy_from_slice(&sequence.to_be_bytes());
    message[HEADER..].copy_from_slice(&token.to_be_bytes());
    if family == Family::Ipv4 {
        let checksum = checksum(&message);
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
    }
    message
}

/// Returns the token of an echo reply with identifier `id`. An IPv4 message begins with the IP
/// header, an IPv6 one does not; its checksum was verified by the kernel.
pub(super) fn reply_token(family: Family, message: &[u8], id: u16) -> Option<u64> {
    let (message, reply) = match family {
        Family::Ipv4 => {
            let header_length = usize::from(message.first()? & 0xf) * 4;
            (message.get(header_length..)?, REPLY_V4)
        }
        Family::Ipv6 => (message, REPLY_V6),
    };
    if message.len() != LENGTH || message[0] != reply || message[4..6] != id.to_be_bytes() {
        return None;
    }
    if family == Family::Ipv4 && checksum(message) != 0 {
        return None;
    }
    Some(u64::from_be_bytes(message[HEADER..].try_into().ok()?))
}

/// Makes a raw socket receive echo replies only.
///
/// # Errors
///
/// If the kernel refuses.
pub(super) fn hear_only_replies(socket: &Socket, family: Family) -> io::Result<()> {
    let (level, option, filter) = match family {
        Family::Ipv4 => (libc::SOL_RAW, ICMP_FILTER, vec![!(1u32 << REPLY_V4)]),
        Family::Ipv6 => {
            let mut filter = vec![u32::MAX; 8];
            filter[usize::from(REPLY_V6) / 32] &= !(1 << (REPLY_V6 % 32));
            (libc::SOL_ICMPV6, ICMPV6_FILTER, filter)
        }
    };
    // SAFETY: the kernel reads as many bytes as the vector has.
    let status = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            filter.as_ptr().cast(),
            size_of_val(&filter[..]) as libc::socklen_t,
        )
    };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Returns the internet checksum (RFC 1071); 0 for a message that carries a right one.
pub(super) fn checksum(message: &[u8]) -> u16 {
    let words = message
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or_default()));
    let sum: u32 = words.sum();
    let fold = |sum: u32| (sum & 0xffff).saturating_add(sum >> 16);
    !fold(fold(sum)) as u16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns the reply of an honest target to a request, as a raw socket delivers it.
    fn reply(family: Family, request: &[u8]) -> Vec<u8> {
        let mut reply = request.to_vec();
        match family {
            Family::Ipv6 => reply[0] = REPLY_V6,
            Family::Ipv4 => {
                reply[0] = REPLY_V4;
                reply[2..4].fill(0);
                let checksum = checksum(&reply);
                reply[2..4].copy_from_slice(&checksum.to_be_bytes());
                let mut header = vec![0x46; 24];
                header.append(&mut reply);
                return header;
            }
        }
        reply
    }

    proptest! {
        #[test]
        fn a_reply_carries_its_token_and_any_change_is_noticed(
            id: u16, sequence: u16, token: u64, at in 0usize..16, flip in 1u8..,
        ) {
            for family in Family::ALL {
                let mut message = reply(family, &request(family, id, sequence, token));
                prop_assert_eq!(reply_token(family, &message, id), Some(token));
                prop_assert_eq!(reply_token(family, &message, !id), None);
                let front = message.len() - LENGTH;
                message[front + at] ^= flip;
                if family == Family::Ipv4 {
                    prop_assert_eq!(reply_token(family, &message, id), None);
                } else if at >= HEADER {
                    prop_assert_ne!(reply_token(family, &message, id), Some(token));
                }
            }
        }

        #[test]
        fn hostile_messages_are_harmless(message: Vec<u8>, id: u16) {
            for family in Family::ALL {
                let _ = reply_token(family, &message, id);
            }
        }
    }

    #[test]
    fn a_request_has_the_checksum_of_rfc_1071() {
        assert_eq!(checksum(&request(Family::Ipv4, 0x1234, 7, 0x0102_0304_0506_0708)), 0);
    }
}
