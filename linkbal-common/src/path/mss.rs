//! The MSS that both ends of a TCP connection announce, which is clamped to the MTU of its uplink:
//! RFC 9293 section 3.7.1. Both announce it in a SYN.

use crate::{
    maps::uplink::Family,
    packet::{
        Header, Packet, Ports, TcpHeader,
        parse::{Tcp, segment},
    },
    path::tables::Tables,
};

/// Maximum number of TCP options that are looked at. There is room for 40 of one byte, but programs
/// send the MSS first, and fill up with no more than three.
const OPTIONS: u32 = 16;
/// Kinds of TCP options (RFC 9293 section 3.2).
const END_OF_LIST: u8 = 0;
const NO_OPERATION: u8 = 1;
const MAXIMUM_SEGMENT_SIZE: u8 = 2;
/// Length of the option of the MSS, in bytes.
const MSS_LENGTH: u8 = 4;
/// Offset of the checksum in a TCP header, in bytes.
const CHECKSUM: u32 = 16;
/// Length of a TCP header without options, in bytes.
const HEADER: u32 = 20;

/// The start of a TCP option, as long as the one of the MSS.
#[derive(Clone, Copy)]
#[repr(C)]
struct TcpOption {
    kind: u8,
    /// Length of the whole option, in bytes.
    length: u8,
    /// The MSS, in network byte order.
    mss: [u8; 2],
}
// SAFETY: `repr(C)`, integers only, no padding.
unsafe impl Header for TcpOption {}

/// A change to the MSS that a packet announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MssChange {
    /// Offset of the MSS in the packet, in bytes.
    pub offset: u32,
    /// Offset of the TCP checksum in the packet, in bytes.
    pub checksum: u32,
    /// The MSS, before and after, as it is in the packet.
    pub mss: [[u8; 2]; 2],
    /// The words of the checksum's sum that this changes, before and after, as they are in the
    /// packet: they have the bytes of the MSS the other way round if it is at an odd offset of the
    /// header.
    pub words: [[u8; 2]; 2],
}

/// Returns the change that makes the MSS fit the MTU of an uplink, if the packet is a SYN and its
/// MSS does not.
///
/// A function of its own, whose stack is free when the flow is learned.
#[inline(never)]
pub(crate) fn clamp<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    uplink: u32,
) -> Option<MssChange> {
    let (family, start) = segment(packet)?;
    let header: TcpHeader = packet.load(start + size_of::<Ports>() as u32)?;
    if !(Tcp { flags: header.flags, ack: 0, end: 0 }).is_syn() {
        return None;
    }
    let headers = match family {
        Family::Ipv4 => 40,
        Family::Ipv6 => 60,
    };
    // Without an MTU there is no limit.
    let limit = tables.uplink_mtu(uplink, family).checked_sub(headers)?;
    let end = start + u32::from(header.length >> 4) * 4;
    let mut offset = start + HEADER;
    for _ in 0..OPTIONS {
        if offset + u32::from(MSS_LENGTH) > end {
            return None;
        }
        let option: TcpOption = packet.load_cold(offset)?;
        match option.kind {
            END_OF_LIST => return None,
            NO_OPERATION => offset += 1,
            MAXIMUM_SEGMENT_SIZE if option.length == MSS_LENGTH => {
                if u32::from(u16::from_be_bytes(option.mss)) <= limit {
                    return None;
                }
                let mss = [option.mss, (limit as u16).to_be_bytes()];
                let swapped = !(offset - start).is_multiple_of(2);
                let words = if swapped { mss.map(|[a, b]| [b, a]) } else { mss };
                return Some(MssChange {
                    offset: offset + 2,
                    checksum: start + CHECKSUM,
                    mss,
                    words,
                });
            }
            // The kind and the length are part of an option.
            _ if option.length < 2 => return None,
            _ => offset += u32::from(option.length),
        }
        offset = packet.opaque(offset);
    }
    None
}

#[cfg(test)]
mod tests;
