//! Frames, and the flows that they belong to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result, bail};
use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};

/// Size of each frame, in bytes: a UDP datagram of 22 bytes, or of 2 bytes in IPv6.
pub(crate) const FRAME_SIZE: usize = 64;
pub(crate) type Frame = [u8; FRAME_SIZE];

/// Sizes of the headers.
const ETHERNET: usize = 14;
const IPV4: usize = 20;
const IPV6: usize = 40;
const UDP: usize = 8;

/// Number of clients in the LAN, numbered from 2 on; a power of two.
pub(crate) const CLIENTS: u32 = 128;

/// The address family of a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
pub(crate) enum Family {
    #[serde(rename = "ipv4")]
    Ipv4,
    #[serde(rename = "ipv6")]
    Ipv6,
}

/// The ends of a flow, as its packets in one direction have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Tuple {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    source_port: u16,
    destination_port: u16,
}

impl Tuple {
    /// Returns the flow of this number, from a client of the LAN to a server outside.
    ///
    /// 32,768 flows have source ports of their own, and the ones after them other servers, so that
    /// translation never has to change a port.
    pub(crate) fn numbered(number: u32, family: Family, destination_port: u16) -> Self {
        let [_, a, b, c] = ((number >> 15) << 8 | number & 0xff).to_be_bytes();
        let destination = match family {
            Family::Ipv4 => Ipv4Addr::new(20, a, b, c).into(),
            Family::Ipv6 => {
                let (high, low) = (u16::from_be_bytes([a, b]), u16::from(c));
                Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, high, low).into()
            }
        };
        let source = client(number % CLIENTS, family);
        let source_port = 1024 + (number & 0x7fff) as u16;
        Self { source, destination, source_port, destination_port }
    }

    /// Returns the tuple of the answers.
    pub(crate) fn answer(self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
        }
    }

    /// Returns a frame of it to a gateway's interface.
    pub(crate) fn frame(self, from: [u8; 6], to: [u8; 6]) -> Result<Frame> {
        let ethernet = PacketBuilder::ethernet2(from, to);
        let (builder, headers) = match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                (ethernet.ipv4(source.octets(), destination.octets(), 64), IPV4)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                (ethernet.ipv6(source.octets(), destination.octets(), 64), IPV6)
            }
            _ => bail!("a flow of two families"),
        };
        let payload = [0; FRAME_SIZE];
        let payload = &payload[..FRAME_SIZE - ETHERNET - headers - UDP];
        let mut bytes = Vec::with_capacity(FRAME_SIZE);
        let builder = builder.udp(self.source_port, self.destination_port);
        builder.write(&mut bytes, payload).context("failed to make a frame")?;
        bytes.try_into().ok().context("a frame has another size")
    }

    /// Reads the tuple of a frame.
    pub(crate) fn of(frame: &Frame) -> Result<Self> {
        let packet = SlicedPacket::from_ethernet(frame).context("failed to read a frame")?;
        let (source, destination): (IpAddr, IpAddr) = match &packet.net {
            Some(NetSlice::Ipv4(ip)) => {
                (ip.header().source_addr().into(), ip.header().destination_addr().into())
            }
            Some(NetSlice::Ipv6(ip)) => {
                (ip.header().source_addr().into(), ip.header().destination_addr().into())
            }
            other => bail!("a frame is not of IP: {other:?}"),
        };
        let Some(TransportSlice::Udp(udp)) = &packet.transport else {
            bail!("a frame is not of UDP: {:?}", packet.transport);
        };
        let (source_port, destination_port) = (udp.source_port(), udp.destination_port());
        Ok(Self { source, destination, source_port, destination_port })
    }
}

/// Returns the address of a client, by its number from 0 on.
pub(crate) fn client(number: u32, family: Family) -> IpAddr {
    let host = number as u16 + 2;
    match family {
        Family::Ipv4 => {
            let [high, low] = host.to_be_bytes();
            Ipv4Addr::new(10, 0, high, low).into()
        }
        Family::Ipv6 => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, host).into(),
    }
}
