//! The start of packets that take shortcuts, from their IP header on, and the changes to it.

use linkbal_common::shortcut::{Target, adjusted};

/// The start of an IPv4 packet that is changed: RFC 791, RFC 793, RFC 768.
#[repr(C)]
pub(crate) struct Ipv4 {
    pub(crate) version_to_fragment: [u16; 4],
    pub(crate) ttl: u8,
    pub(crate) protocol: u8,
    pub(crate) checksum: u16,
    pub(crate) ends: [u32; 2],
    pub(crate) ports: [u16; 2],
}

/// The start of an IPv6 packet that is changed: RFC 8200.
#[repr(C)]
pub(crate) struct Ipv6 {
    pub(crate) version_to_next_header: [u8; 7],
    pub(crate) hop_limit: u8,
    pub(crate) ends: [[u32; 4]; 2],
    pub(crate) ports: [u16; 2],
}

/// Length of the ports at the end of both.
const PORTS: usize = 4;

impl Ipv4 {
    /// Length of the IP header, without the ports.
    pub(crate) const HEADER: usize = size_of::<Ipv4>() - PORTS;

    /// Changes all but the checksum of the transport as a target says, from the LAN (`UP`) or to it;
    /// returns the port before and after.
    #[inline(always)]
    pub(crate) const fn rewrite<const UP: bool>(&mut self, target: &Target) -> [u16; 2] {
        let end = !UP as usize;
        self.ttl -= 1;
        self.checksum = adjusted(self.checksum, target.header_change);
        self.ends[end] = target.address[0];
        let ports = [self.ports[end], target.port];
        self.ports[end] = target.port;
        ports
    }
}

impl Ipv6 {
    /// Length of the IP header, without the ports.
    pub(crate) const HEADER: usize = size_of::<Ipv6>() - PORTS;

    /// Changes the packet as [`Ipv4::rewrite`] does: there is no checksum of the header.
    #[inline(always)]
    pub(crate) const fn rewrite<const UP: bool>(&mut self, target: &Target) -> [u16; 2] {
        let end = !UP as usize;
        self.hop_limit -= 1;
        self.ends[end] = target.address;
        let ports = [self.ports[end], target.port];
        self.ports[end] = target.port;
        ports
    }
}
