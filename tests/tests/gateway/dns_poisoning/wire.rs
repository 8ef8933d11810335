//! A host that sends frames as no honest one does.

use std::net::IpAddr;

use etherparse::{
    Icmpv4Type, Icmpv6Type, IpHeaders, PacketBuilder, PacketBuilderStep, icmpv4, icmpv6,
};
use linkbal_lab::namespace::Namespace;
use linkbal_lab::oracle;
use linkbal_lab::topology::CLIENT_INTERFACE;
use nix::net::if_::if_nametoindex;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// The flaw of a query, which neither the gateway nor another host must answer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Flaw {
    /// A wrong checksum of the IP header, or of UDP where that has none.
    Checksum,
    /// A hop limit that ends at the gateway.
    HopLimit,
    /// No flaw: the answer comes late.
    None,
}

/// A socket that sends frames as they are.
pub(super) struct Wire {
    socket: Socket,
    /// The MAC addresses of the gateway, and of the sender.
    gateway: [u8; 6],
    own: [u8; 6],
}

impl Wire {
    /// Creates a socket at the clients' end of a LAN, for a host with a MAC address of its own.
    pub(super) fn new(lan: &Namespace, gateway: &Namespace, interface: &str, host: u8) -> Wire {
        let shown = oracle::ip_json(gateway, &["link", "show", "dev", interface]).unwrap();
        let text = shown[0]["address"].as_str().unwrap();
        let octets: Vec<u8> =
            text.split(':').map(|octet| u8::from_str_radix(octet, 16).unwrap()).collect();
        let _entered = lan.enter().unwrap();
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0))).unwrap();
        let ifindex = if_nametoindex(CLIENT_INTERFACE).unwrap();
        socket.bind(&link_address(ifindex)).unwrap();
        Wire { socket, gateway: octets.try_into().unwrap(), own: [2, 0, 0, 0, 0, host] }
    }

    /// Sends a datagram to the gateway, whatever its destination.
    pub(super) fn send(&self, from: (IpAddr, u16), to: (IpAddr, u16), payload: &[u8], flaw: Flaw) {
        let hops = if matches!(flaw, Flaw::HopLimit) { 1 } else { 64 };
        let mut frame = Vec::new();
        self.ip(from.0, to.0, hops).udp(from.1, to.1).write(&mut frame, payload).unwrap();
        if matches!(flaw, Flaw::Checksum) {
            // For IPv4 that of the header; that of UDP stands behind 14 and 40 bytes of headers.
            let at = if from.0.is_ipv4() { 24 } else { 60 };
            frame[at] ^= 0xff;
        }
        self.put(&frame);
    }

    /// Sends the ICMP error that a datagram from outside did not reach its port.
    pub(super) fn send_error(&self, own: IpAddr, from: (IpAddr, u16), to: (IpAddr, u16)) {
        let mut quoted = Vec::new();
        self.ip(from.0, to.0, 60).udp(from.1, to.1).write(&mut quoted, b"quoted").unwrap();
        let ip = self.ip(own, from.0, 64);
        let quoted = &quoted[14..];
        let mut frame = Vec::new();
        match own {
            IpAddr::V4(_) => {
                let port = icmpv4::DestUnreachableHeader::Port;
                let error = ip.icmpv4(Icmpv4Type::DestinationUnreachable(port));
                error.write(&mut frame, quoted).unwrap();
            }
            IpAddr::V6(_) => {
                let port = icmpv6::DestUnreachableCode::Port;
                let error = ip.icmpv6(Icmpv6Type::DestinationUnreachable(port));
                error.write(&mut frame, quoted).unwrap();
            }
        }
        self.put(&frame);
    }

    fn ip(&self, from: IpAddr, to: IpAddr, hops: u8) -> PacketBuilderStep<IpHeaders> {
        let ethernet = PacketBuilder::ethernet2(self.own, self.gateway);
        match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => ethernet.ipv4(from.octets(), to.octets(), hops),
            (IpAddr::V6(from), IpAddr::V6(to)) => ethernet.ipv6(from.octets(), to.octets(), hops),
            _ => panic!("two families"),
        }
    }

    fn put(&self, frame: &[u8]) {
        assert_eq!(self.socket.send(frame).unwrap(), frame.len());
    }
}

/// Returns the address of a packet socket on an interface (packet(7)).
fn link_address(ifindex: u32) -> SockAddr {
    // SAFETY: the storage is large enough for every kind of address, all of whose bytes may be
    // zero; the length is that of the one that is written.
    let made = unsafe {
        SockAddr::try_init(|storage, length| {
            let address = storage.cast::<libc::sockaddr_ll>();
            address.write_bytes(0, 1);
            (*address).sll_family = libc::AF_PACKET as libc::sa_family_t;
            (*address).sll_ifindex = ifindex as libc::c_int;
            *length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            Ok(())
        })
    };
    made.unwrap().1
}
