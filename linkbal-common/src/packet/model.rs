//! Packets in memory, for the packet path on the host.

use crate::{
    maps::buffer::{ReplyBytes, SIZE},
    packet::{Header, MAX_OFFSET, Packet},
};

/// A packet in memory.
#[derive(Clone, Copy, Debug)]
pub struct ModelPacket<'a> {
    /// The bytes of the packet, from the link-layer header on.
    pub bytes: &'a [u8],
    /// EtherType in network byte order, if there is no link-layer header.
    pub l3_ether_type: Option<u16>,
    /// The fwmark of the packet.
    pub fwmark: u32,
    /// Index of the interface that the program runs on.
    pub ifindex: u32,
    /// The hash of the packet.
    pub hash: u32,
    /// The VLAN of a tag that the device has taken off, or 0.
    pub vlan: u16,
    /// Size of the segments that it is to be cut into, or 0.
    pub gso_size: u32,
    /// At a driver: the only interface that it can be sent out by.
    pub driver: Option<u32>,
}

impl<'a> ModelPacket<'a> {
    /// Creates an Ethernet frame without a mark.
    pub fn frame(bytes: &'a [u8]) -> ModelPacket<'a> {
        ModelPacket {
            bytes,
            l3_ether_type: None,
            fwmark: 0,
            ifindex: 1,
            hash: 0,
            vlan: 0,
            gso_size: 0,
            driver: None,
        }
    }
}

impl Packet for ModelPacket<'_> {
    fn load<T: Header>(&self, offset: u32) -> Option<T> {
        if offset > MAX_OFFSET {
            return None;
        }
        T::read(self.bytes.get(offset as usize..)?)
    }

    fn load_linear<T: Header>(&self, offset: u32) -> Option<T> {
        self.load(offset)
    }

    fn load_cold<T: Header>(&self, offset: u32) -> Option<T> {
        self.load(offset)
    }

    fn copy(&self, offset: u32, to: &mut ReplyBytes) -> Option<u32> {
        let bytes = self.bytes.get(offset as usize..).filter(|bytes| !bytes.is_empty())?;
        let bytes = &bytes[..bytes.len().min(SIZE)];
        to[..bytes.len()].copy_from_slice(bytes);
        Some(bytes.len() as u32)
    }

    fn opaque(&self, value: u32) -> u32 {
        value
    }

    fn l3_ether_type(&self) -> Option<u16> {
        self.l3_ether_type
    }

    fn length(&self) -> u32 {
        self.bytes.len() as u32
    }

    fn fwmark(&self) -> u32 {
        self.fwmark
    }

    fn ifindex(&self) -> u32 {
        self.ifindex
    }

    fn hash(&self) -> u32 {
        self.hash
    }

    fn gso_size(&self) -> u32 {
        self.gso_size
    }

    fn priority(&self) -> u32 {
        6
    }

    fn mtu(&self) -> u32 {
        1500
    }

    fn vlan(&self) -> u16 {
        self.vlan
    }

    fn is_seen_again(&self) -> bool {
        self.driver.is_some()
    }

    fn can_leave_by(&self, ifindex: u32) -> bool {
        self.driver.is_none_or(|driver| driver == ifindex)
    }
}
