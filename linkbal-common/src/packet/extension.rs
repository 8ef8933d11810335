//! The chain of IPv6 extension headers (RFC 8200 section 4).

use network_types::ip::IpProto;

use crate::{
    packet::{ExtensionHeader, FragmentHeader, Packet},
    path::verdict::SkipReason,
};

/// Maximum number of headers that are followed; no packet needs more, and each costs the verifier.
const MAX_HEADERS: usize = 8;

/// The offset bits of a fragment header, in the machine's byte order.
const FRAGMENT_OFFSET: u16 = 0xfff8;

/// Follows the chain that begins with protocol `first` at `offset`; returns the protocol and the
/// offset of what lies behind it.
///
/// # Errors
///
/// If the chain is cut short, too long, or that of a later fragment.
#[inline(always)]
pub(crate) fn transport<P: Packet>(
    packet: &P,
    first: u8,
    offset: u32,
) -> Result<(u8, u32), SkipReason> {
    if !is_extension(first) {
        return Ok((first, offset));
    }
    let (mut protocol, mut offset) = (first, offset);
    for _ in 0..MAX_HEADERS {
        if is_option_list(protocol) {
            let header: ExtensionHeader = packet.load_cold(offset).ok_or(SkipReason::Malformed)?;
            protocol = header.next_header;
            offset += (u32::from(header.length) + 1) * 8;
        } else if protocol == IpProto::Ipv6Frag as u8 {
            let header: FragmentHeader = packet.load_cold(offset).ok_or(SkipReason::Malformed)?;
            if u16::from_be(header.fragment) & FRAGMENT_OFFSET != 0 {
                return Err(SkipReason::Fragment);
            }
            protocol = header.next_header;
            offset += size_of::<FragmentHeader>() as u32;
        } else {
            let offset = packet.opaque(offset);
            let whole = packet.length() >= offset;
            return if whole { Ok((protocol, offset)) } else { Err(SkipReason::Malformed) };
        }
    }
    Err(SkipReason::HeaderChain)
}

#[inline(always)]
const fn is_option_list(protocol: u8) -> bool {
    protocol == IpProto::HopOpt as u8
        || protocol == IpProto::Ipv6Route as u8
        || protocol == IpProto::Ipv6Opts as u8
}

#[inline(always)]
const fn is_extension(protocol: u8) -> bool {
    is_option_list(protocol) || protocol == IpProto::Ipv6Frag as u8
}
