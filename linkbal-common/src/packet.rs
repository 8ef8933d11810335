//! A packet as the packet path sees it, and the headers that are read.

mod extension;
mod icmp;
#[cfg(any(test, feature = "model", feature = "user"))]
pub mod model;
pub mod parse;

use network_types::ip::IpProto;

use crate::maps::buffer::ReplyBytes;

/// A header that can be read from any bytes.
///
/// # Safety
///
/// Implementors are `repr(C)` structs of integers without padding.
pub unsafe trait Header: Copy {
    /// Reads the header from the front of `bytes`, if they are enough.
    fn read(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..size_of::<Self>())?;
        // SAFETY: the slice is as long as the type, which is valid for any bit pattern.
        Some(unsafe { bytes.as_ptr().cast::<Self>().read_unaligned() })
    }
}

/// Largest offset that [`Packet::load`] serves; beyond it every packet counts as cut short.
pub const MAX_OFFSET: u32 = 0x3ff;

/// A packet, from its link-layer header on.
pub trait Packet {
    /// Copies a header at `offset` bytes, at most [`MAX_OFFSET`]; returns `None` past the end.
    fn load<T: Header>(&self, offset: u32) -> Option<T>;
    /// Copies a header at an `offset` that the compiler knows, if it is in the linear part of the packet.
    fn load_linear<T: Header>(&self, offset: u32) -> Option<T>;
    /// Copies a header that few packets have: slower to run than [`Self::load`], but quicker to
    /// verify.
    fn load_cold<T: Header>(&self, offset: u32) -> Option<T>;
    /// Copies what begins at `offset` to the front of `to`, at most [`SIZE`] bytes; returns
    /// their number, or `None` if there are none.
    ///
    /// [`SIZE`]: crate::maps::buffer::SIZE
    fn copy(&self, offset: u32, to: &mut ReplyBytes) -> Option<u32>;
    /// Returns `value`, which is then unknown to the verifier: paths that came to different values
    /// are verified as one from here on.
    fn opaque(&self, value: u32) -> u32;
    /// Returns the EtherType of a packet without a link-layer header (of a tunnel, say), in network
    /// byte order; `None` if there is an Ethernet header.
    fn l3_ether_type(&self) -> Option<u16>;
    /// Returns the length in bytes.
    fn length(&self) -> u32;
    /// Returns the fwmark of the packet.
    fn fwmark(&self) -> u32;
    /// Returns the priority of the packet for queues.
    fn priority(&self) -> u32;
    /// Returns the index of the interface that the program runs on.
    fn ifindex(&self) -> u32;
    /// Returns the hash of the packet.
    fn hash(&self) -> u32;
    /// Returns the size of the segments that the packet is to be cut into, in bytes, or 0.
    fn gso_size(&self) -> u32;
    /// Returns the MTU of the interface that the program runs on, in bytes; 0 if it is unknown.
    fn mtu(&self) -> u32;
    /// Returns the VLAN of a tag that the device has taken off, or 0.
    fn vlan(&self) -> u16;
    /// Returns whether a program behind this one sees the packet if this one leaves it alone: then that
    /// one says which packets of shortcuts the kernel gets.
    #[inline(always)]
    fn is_seen_again(&self) -> bool {
        false
    }
    /// Returns whether the packet can be sent out by an interface from here.
    #[inline(always)]
    fn can_leave_by(&self, _ifindex: u32) -> bool {
        true
    }
}

/// Ethernet II header without the preamble (IEEE 802.3 clause 3).
#[derive(Clone, Copy)]
#[repr(C)]
pub struct EthernetHeader {
    /// Destination and source addresses, as words of two bytes each.
    pub addresses: [u16; 6],
    /// EtherType in network byte order.
    pub ether_type: u16,
}
// SAFETY: `repr(C)`, integers only, no padding.
unsafe impl Header for EthernetHeader {}

/// Length of an Ethernet header, in bytes.
pub const ETHERNET_LENGTH: usize = size_of::<EthernetHeader>();

/// The rest of a VLAN tag behind its EtherType (IEEE 802.1Q clause 9.6).
#[derive(Clone, Copy)]
#[repr(C)]
pub struct VlanTag {
    /// Priority, drop eligibility and the 12 bits of the VLAN, network byte order.
    pub control: u16,
    /// EtherType of what follows, network byte order.
    pub ether_type: u16,
}
// SAFETY: as above.
unsafe impl Header for VlanTag {}

/// A PPPoE header with the PPP protocol behind it (RFC 2516 section 4).
#[derive(Clone, Copy)]
#[repr(C)]
pub struct PppoeHeader {
    /// Version and type, both 1.
    pub version_type: u8,
    /// 0 for session data.
    pub code: u8,
    /// Session, network byte order.
    pub session: u16,
    /// Length of the PPP protocol and its payload, network byte order.
    pub length: u16,
    /// PPP protocol, network byte order.
    pub protocol: u16,
}
// SAFETY: as above.
unsafe impl Header for PppoeHeader {}

/// The start of a hop-by-hop, routing or destination options header (RFC 8200 section 4).
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ExtensionHeader {
    /// Protocol number of what follows.
    pub next_header: u8,
    /// Length in units of 8 bytes, without the first 8.
    pub length: u8,
}
// SAFETY: as above.
unsafe impl Header for ExtensionHeader {}

/// An IPv6 fragment header (RFC 8200 section 4.5).
#[derive(Clone, Copy)]
#[repr(C)]
pub struct FragmentHeader {
    /// Protocol number of what follows in the first fragment.
    pub next_header: u8,
    /// Zero.
    pub reserved: u8,
    /// Offset in units of 8 bytes in the high 13 bits, network byte order.
    pub fragment: u16,
    /// Identification.
    pub id: u32,
}
// SAFETY: as above.
unsafe impl Header for FragmentHeader {}

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

/// The first four bytes of TCP (RFC 9293), UDP (RFC 768) and SCTP (RFC 9260).
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

/// An IPv4 header without options and what follows, if that has ports.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct PlainIpv4 {
    /// The IP header.
    pub ip: Ipv4Header,
    /// Both ports, as they are in the packet.
    pub ports: u32,
}
// SAFETY: as above.
unsafe impl Header for PlainIpv4 {}

/// An IPv6 header without extensions and what follows, if that has ports.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct PlainIpv6 {
    /// The IP header.
    pub ip: Ipv6Header,
    /// Both ports, as they are in the packet.
    pub ports: u32,
}
// SAFETY: as above.
unsafe impl Header for PlainIpv6 {}

/// The part of a TCP header behind the ports (RFC 9293 section 3.1).
#[derive(Clone, Copy)]
#[repr(C)]
pub struct TcpHeader {
    /// Sequence number, network byte order.
    pub sequence: u32,
    /// Acknowledgment number, network byte order.
    pub ack: u32,
    /// Length of the header in words of four bytes, in the high half.
    pub length: u8,
    /// Control bits.
    pub flags: u8,
    /// Window, network byte order.
    pub window: u16,
}
// SAFETY: as above.
unsafe impl Header for TcpHeader {}

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

/// Returns whether the protocol's header begins with two ports.
#[inline(always)]
pub const fn has_ports(protocol: u8) -> bool {
    protocol == IpProto::Tcp as u8
        || protocol == IpProto::Udp as u8
        || protocol == IpProto::Sctp as u8
}
