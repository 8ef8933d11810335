//! Flows by number: a packet of each, made in place.

use etherparse::PacketBuilder;

/// Ranges of the source address and the source port in an untagged IPv4 frame.
const SOURCE: std::ops::Range<usize> = 26..30;
const SOURCE_PORT: std::ops::Range<usize> = 34..36;

/// The network of the hosts.
const NETWORK: u32 = 0x0a00_0000;

/// A UDP packet of one of many LAN hosts to one server.
pub(crate) struct FlowPacket {
    bytes: Vec<u8>,
}

impl FlowPacket {
    /// Creates a packet to a port of the server.
    pub(crate) fn to(port: u16) -> FlowPacket {
        let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let builder = ethernet.ipv4([10, 0, 0, 0], [198, 51, 100, 7], 64).udp(0, port);
        let mut bytes = Vec::new();
        builder.write(&mut bytes, b"the payload").expect("a vector takes all");
        FlowPacket { bytes }
    }

    /// Returns the packet of a host, one of 2^24, from one of its ports.
    pub(crate) fn from(&mut self, host: u32, port: u16) -> &mut [u8] {
        self.bytes[SOURCE].copy_from_slice(&(NETWORK | host).to_be_bytes());
        self.bytes[SOURCE_PORT].copy_from_slice(&port.to_be_bytes());
        &mut self.bytes
    }
}
