//! ICMP and ICMPv6 echo messages as raw sockets send and receive them.

use std::{io, os::fd::AsRawFd as _};

use etherparse::{
    IcmpEchoHeader, Icmpv4Header, Icmpv4Slice, Icmpv4Type, Icmpv6Header, Icmpv6Slice, Icmpv6Type,
    Ipv4Header, Ipv6Header, checksum::Sum16BitWords, icmpv4, icmpv6,
};
use linkbal_common::uplink::Family;
use socket2::Socket;

/// Filters of raw sockets (include/uapi/linux/icmp.h and icmpv6.h): a bit set blocks its type.
const ICMP_FILTER: i32 = 1;
const ICMPV6_FILTER: i32 = 1;

/// Builds an echo request. The kernel fills in the checksum for IPv6.
pub(super) fn request(family: Family, id: u16, sequence: u16, token: u64) -> Vec<u8> {
    message(family, id, sequence, &token.to_be_bytes())
}

/// Builds an echo request that makes an IP packet of `size` bytes; at least the token fits.
pub(super) fn sized_request(family: Family, id: u16, token: u64, size: u32) -> Vec<u8> {
    /// Length of the headers of IPv4 or IPv6 and of ICMP.
    const IPV4: usize = Ipv4Header::MIN_LEN + 8;
    const IPV6: usize = Ipv6Header::LEN + 8;
    let headers = if family == Family::Ipv4 { IPV4 } else { IPV6 };
    let mut payload = token.to_be_bytes().to_vec();
    let length = usize::try_from(size).unwrap_or_default().saturating_sub(headers);
    payload.resize(length.max(payload.len()), 0);
    message(family, id, 1, &payload)
}

fn message(family: Family, id: u16, sequence: u16, payload: &[u8]) -> Vec<u8> {
    let echo = IcmpEchoHeader { id, seq: sequence };
    let header = match family {
        Family::Ipv4 => {
            Icmpv4Header::with_checksum(Icmpv4Type::EchoRequest(echo), payload).to_bytes().to_vec()
        }
        Family::Ipv6 => Icmpv6Header::new(Icmpv6Type::EchoRequest(echo)).to_bytes().to_vec(),
    };
    [&header, payload].concat()
}

/// Returns the token of an echo reply with identifier `id`. An IPv4 message begins with the IP
/// header, an IPv6 one does not; its checksum was verified by the kernel.
pub(super) fn reply_token(family: Family, message: &[u8], id: u16) -> Option<u64> {
    Some(u64::from_be_bytes(reply_payload(family, message, id)?.try_into().ok()?))
}

/// Returns the payload of an echo reply with identifier `id`, as [`reply_token`].
pub(super) fn reply_payload(family: Family, message: &[u8], id: u16) -> Option<&[u8]> {
    let (is_reply, [a, b, ..], payload) = match family {
        Family::Ipv4 => {
            let header_length = usize::from(message.first()? & 0xf) * 4;
            let message = message.get(header_length..)?;
            let echo = Icmpv4Slice::from_slice(message).ok()?;
            let intact = Sum16BitWords::new().add_slice(message).ones_complement() == 0;
            let is_reply = echo.type_u8() == icmpv4::TYPE_ECHO_REPLY && intact;
            (is_reply, echo.bytes5to8(), echo.payload())
        }
        Family::Ipv6 => {
            let echo = Icmpv6Slice::from_slice(message).ok()?;
            (echo.type_u8() == icmpv6::TYPE_ECHO_REPLY, echo.bytes5to8(), echo.payload())
        }
    };
    let ours = is_reply && u16::from_be_bytes([a, b]) == id;
    ours.then_some(payload)
}

/// Makes a raw socket receive echo replies only.
///
/// # Errors
///
/// If the kernel refuses.
pub(super) fn receive_only_replies(socket: &Socket, family: Family) -> io::Result<()> {
    let (level, option, filter) = match family {
        Family::Ipv4 => (libc::SOL_RAW, ICMP_FILTER, vec![!(1u32 << icmpv4::TYPE_ECHO_REPLY)]),
        Family::Ipv6 => {
            let mut filter = vec![u32::MAX; 8];
            filter[usize::from(icmpv6::TYPE_ECHO_REPLY) / 32] &=
                !(1 << (icmpv6::TYPE_ECHO_REPLY % 32));
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Lengths of an echo header, and of a message with a token.
    const HEADER: usize = 8;
    const LENGTH: usize = 16;

    /// Returns the reply of an honest target to a request, as a raw socket delivers it.
    fn reply(family: Family, id: u16, seq: u16, token: u64) -> Vec<u8> {
        let (echo, token) = (IcmpEchoHeader { id, seq }, token.to_be_bytes());
        match family {
            Family::Ipv6 => {
                let header = Icmpv6Header::new(Icmpv6Type::EchoReply(echo)).to_bytes();
                [&header[..], &token].concat()
            }
            Family::Ipv4 => {
                let header = Icmpv4Header::with_checksum(Icmpv4Type::EchoReply(echo), &token);
                [&[0x46; 24][..], &header.to_bytes(), &token].concat()
            }
        }
    }

    proptest! {
        #[test]
        fn a_reply_carries_its_token_and_any_change_is_noticed(
            id: u16, sequence: u16, token: u64, at in 0usize..16, flip in 1u8..,
        ) {
            for family in Family::ALL {
                let mut message = reply(family, id, sequence, token);
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
        let request = request(Family::Ipv4, 0x1234, 7, 0x0102_0304_0506_0708);
        assert_eq!(request[..8], [8, 0, 0xd5, 0xb0, 0x12, 0x34, 0, 7]);
        assert_eq!(Sum16BitWords::new().add_slice(&request).ones_complement(), 0);
    }
}
