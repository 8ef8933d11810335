//! How the packet path sees a packet, and the headers it reads.

/// A header that can be read from any bytes.
///
/// # Safety
///
/// Implementors are `repr(C)` structs of integers without padding.
pub unsafe trait Header: Copy {
    /// Reads the header from the front of `bytes`, if they suffice.
    fn read(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..size_of::<Self>())?;
        // SAFETY: the slice is as long as the type, which is valid for any bit pattern.
        Some(unsafe { bytes.as_ptr().cast::<Self>().read_unaligned() })
    }
}

/// Largest offset that [`Packet::load`] serves; beyond it every packet counts as cut short.
pub const MAX_OFFSET: u32 = 0x3ff;

/// A packet, from its Ethernet header on.
pub trait Packet {
    /// Copies a header at `offset` bytes, at most [`MAX_OFFSET`]; `None` past the end.
    fn load<T: Header>(&self, offset: u32) -> Option<T>;
    /// Length in bytes.
    fn length(&self) -> u32;
    /// The fwmark it carries.
    fn fwmark(&self) -> u32;
}

/// Ethernet II header without the preamble (IEEE 802.3 clause 3).
#[derive(Clone, Copy)]
#[repr(C)]
pub struct EthernetHeader {
    /// Destination and source addresses, not read.
    pub addresses: [u16; 6],
    /// EtherType in network byte order.
    pub ether_type: u16,
}
// SAFETY: `repr(C)`, integers only, no padding.
unsafe impl Header for EthernetHeader {}

/// IPv4 header without options (RFC 791 section 3.1).
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Ipv4Header {
    /// Version in the high, header length in 32-bit words in the low four bits.
    pub version_ihl: u8,
    /// DSCP and ECN.
    pub tos: u8,
    /// Length of header and payload, network byte order.
    pub total_length: u16,
    /// Identification of fragments.
    pub id: u16,
    /// Flags and fragment offset, network byte order.
    pub fragment: u16,
    /// Time to live.
    pub ttl: u8,
    /// Protocol number.
    pub protocol: u8,
    /// Header checksum.
    pub checksum: u16,
    /// Source address, network byte order.
    pub source: u32,
    /// Destination address, network byte order.
    pub destination: u32,
}
// SAFETY: as above.
unsafe impl Header for Ipv4Header {}

/// IPv6 header (RFC 8200 section 3).
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Ipv6Header {
    /// Version, traffic class and flow label, network byte order.
    pub version_class_label: u32,
    /// Length of what follows this header, network byte order.
    pub payload_length: u16,
    /// Protocol number of what follows.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address, network byte order.
    pub source: [u32; 4],
    /// Destination address, network byte order.
    pub destination: [u32; 4],
}
// SAFETY: as above.
unsafe impl Header for Ipv6Header {}

/// The first four bytes of TCP (RFC 9293) and UDP (RFC 768).
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Ports {
    /// Source port, network byte order.
    pub source: u16,
    /// Destination port, network byte order.
    pub destination: u16,
}
// SAFETY: as above.
unsafe impl Header for Ports {}

/// An ICMP or ICMPv6 echo message (RFC 792, RFC 4443 section 4).
#[derive(Clone, Copy)]
#[repr(C)]
pub struct EchoHeader {
    /// Type of the message.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Checksum.
    pub checksum: u16,
    /// Identifier, network byte order.
    pub id: u16,
}
// SAFETY: as above.
unsafe impl Header for EchoHeader {}
