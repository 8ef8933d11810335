//! A drill: for a limited time, no packet passes between this machine and one uplink.

use network_types::eth::EtherType;

use crate::{
    map_struct,
    maps::flow::Address,
    packet::{Ipv4Header, Ipv6Header, Packet},
};

/// EtherTypes, in network byte order.
const IPV4: u16 = EtherType::Ipv4 as u16;
const IPV6: u16 = EtherType::Ipv6 as u16;

/// The settings of a drill, written by user space. All zero: there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Drill {
    /// End of the drill, in nanoseconds of the monotonic clock: the process that began it may be
    /// dead.
    pub until_ns: u64,
    /// 1 if other uplinks use the interface, too: then only packets known to be this uplink's are
    /// dropped.
    pub shared: u32,
    /// Length of the link-layer header in bytes.
    pub header: u32,
    /// linkbal's bits of the fwmark.
    pub fwmark_mask: u32,
    /// The uplink's fwmark.
    pub fwmark: u32,
    /// The uplink's IPv4 address, in the first word; zero if it has none.
    pub ipv4: Address,
    /// The uplink's IPv6 address; zero if it has none.
    pub ipv6: Address,
}
map_struct!(Drill, 56);

/// The direction of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The packet comes from the provider.
    In,
    /// The packet goes to the provider.
    Out,
}

impl Drill {
    /// Returns whether a packet is dropped. If several uplinks share an interface, that is only a
    /// packet with this one's fwmark or address; ARP and neighbour discovery then go on.
    #[inline(always)]
    pub fn drops(&self, packet: &impl Packet, way: Way, now_ns: u64) -> bool {
        if now_ns >= self.until_ns {
            return false;
        }
        if self.shared == 0 {
            return true;
        }
        (way == Way::Out && packet.fwmark() & self.fwmark_mask == self.fwmark)
            || self.is_own(packet, way)
    }

    /// Returns whether this machine's address in a packet is that of the uplink.
    #[inline(always)]
    fn is_own(&self, packet: &impl Packet, way: Way) -> bool {
        match packet.l3_ether_type() {
            Some(IPV4) => packet.load::<Ipv4Header>(self.header).is_some_and(|header| {
                let own = if way == Way::In { header.destination } else { header.source };
                own != 0 && own == self.ipv4[0]
            }),
            Some(IPV6) => packet.load::<Ipv6Header>(self.header).is_some_and(|header| {
                let own = if way == Way::In { header.destination } else { header.source };
                own != [0; 4] && own == self.ipv6
            }),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{vec, vec::Vec};

    use super::*;
    use crate::model::ModelPacket;

    const OWN: u32 = u32::from_ne_bytes([192, 0, 2, 1]);
    const OWN_IPV6: Address = [1, 2, 3, 4];
    const SHARED: Drill = Drill {
        until_ns: 1000,
        shared: 1,
        header: 14,
        fwmark_mask: 0x3f00_0000,
        fwmark: 0x0200_0000,
        ipv4: [OWN, 0, 0, 0],
        ipv6: OWN_IPV6,
    };

    fn ipv4(source: [u8; 4], destination: [u8; 4]) -> Vec<u8> {
        [vec![0; 14 + 12], source.into(), destination.into()].concat()
    }

    fn packet(bytes: &[u8], ether_type: u16, fwmark: u32) -> ModelPacket<'_> {
        let l3_ether_type = Some(ether_type);
        ModelPacket { l3_ether_type, fwmark, ..ModelPacket::frame(bytes) }
    }

    #[test]
    fn a_sole_uplink_loses_everything_until_the_drill_is_over() {
        let drill = Drill { shared: 0, ..SHARED };
        let arp = packet(&[0; 42], EtherType::Arp as u16, 0);
        for way in [Way::In, Way::Out] {
            assert!(drill.drops(&arp, way, 999));
            assert!(!drill.drops(&arp, way, 1000), "the kernel ends it by itself");
            assert!(!Drill::default().drops(&arp, way, 0));
        }
    }

    #[test]
    fn on_a_shared_interface_only_its_own_packets_are_lost() {
        let (own, other) = ([192, 0, 2, 1], [192, 0, 2, 9]);
        let lost = |bytes: &[u8], fwmark, way| SHARED.drops(&packet(bytes, IPV4, fwmark), way, 0);
        assert!(lost(&ipv4(own, other), 0, Way::Out), "own address");
        assert!(lost(&ipv4(other, own), 0, Way::In), "an answer");
        assert!(!lost(&ipv4(other, own), 0, Way::Out));
        assert!(!lost(&ipv4(own, other), 0, Way::In));
        assert!(lost(&ipv4(other, other), 0x4200_0000, Way::Out), "own fwmark among others");
        assert!(!lost(&ipv4(other, other), 0x0100_0000, Way::Out), "the other uplink's fwmark");
        assert!(!lost(&ipv4(other, other), 0x0200_0000, Way::In), "marks come later");
        assert!(!lost(&[0; 20], 0, Way::Out), "cut short");
        assert!(!SHARED.drops(&packet(&ipv4(own, other), EtherType::Arp as u16, 0), Way::Out, 0));
    }

    #[test]
    fn ipv6_is_told_by_its_address_too() {
        let words = |address: Address| address.map(u32::to_ne_bytes).concat();
        let bytes = [vec![0; 14 + 8], words([9; 4]), words(OWN_IPV6)].concat();
        assert!(SHARED.drops(&packet(&bytes, IPV6, 0), Way::In, 0));
        assert!(!SHARED.drops(&packet(&bytes, IPV6, 0), Way::Out, 0));
        let without = Drill { ipv6: [0; 4], ..SHARED };
        assert!(!without.drops(&packet(&[0; 60], IPV6, 0), Way::In, 0), "no address is no match");
    }
}
