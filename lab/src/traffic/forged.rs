//! Forged packets, from their IP headers on.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use etherparse::PacketBuilder;
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};

use crate::namespace::Namespace;
use crate::{oracle, wait};

/// The TTL or hop limit of a packet.
const HOPS: u8 = 64;
/// Longest wait for room in the queue of an interface.
const QUEUE_LIMIT: Duration = Duration::from_secs(30);

/// A sender of packets as they are, by one interface to one neighbour.
#[derive(Debug)]
pub struct Forger {
    socket: Socket,
    ipv4: SockAddr,
    ipv6: SockAddr,
}

impl Forger {
    /// Opens a packet socket (packet(7)) in `from` on its interface `by`, whose packets go to the
    /// interface `at` of `to`.
    ///
    /// # Errors
    /// When the kernel refuses it, or an interface does not exist.
    pub fn new(from: &Namespace, by: &str, to: &Namespace, at: &str) -> Result<Self> {
        let (ifindex, _) = link(from, by)?;
        let (_, neighbour) = link(to, at)?;
        let _entered = from.enter()?;
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(0)))
            .context("failed to open a packet socket")?;
        let address = |kind| address(kind, ifindex, neighbour);
        let [ipv4, ipv6] = [address(libc::ETH_P_IP)?, address(libc::ETH_P_IPV6)?];
        Ok(Self { socket, ipv4, ipv6 })
    }

    /// Sends a packet, which begins with its IP header.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn send(&self, packet: &[u8]) -> Result<()> {
        let version = packet.first().map(|first| first >> 4);
        let to = if version == Some(4) { &self.ipv4 } else { &self.ipv6 };
        // A flood may fill the queue of the interface.
        wait::until("room in the queue", QUEUE_LIMIT, || match self.socket.send_to(packet, to) {
            Ok(_) => Ok(Some(())),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(None),
            Err(error) => Err(error).context("failed to send a packet"),
        })
    }
}

/// Returns the index and hardware address of an interface.
fn link(namespace: &Namespace, interface: &str) -> Result<(i32, [u8; 6])> {
    let shown = oracle::ip_json(namespace, &["link", "show", "dev", interface])?;
    let index = shown[0]["ifindex"].as_i64().context("no index")?;
    let text = shown[0]["address"].as_str().context("no hardware address")?;
    let mut address = [0; 6];
    for (byte, part) in address.iter_mut().zip(text.split(':')) {
        *byte = u8::from_str_radix(part, 16).context("a hardware address")?;
    }
    Ok((i32::try_from(index)?, address))
}

fn address(kind: i32, ifindex: i32, neighbour: [u8; 6]) -> Result<SockAddr> {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: a `sockaddr_ll` is plain data, and smaller than the storage.
    let link = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    link.sll_family = u16::try_from(libc::AF_PACKET)?;
    link.sll_protocol = u16::try_from(kind)?.to_be();
    link.sll_ifindex = ifindex;
    link.sll_halen = 6;
    link.sll_addr[..6].copy_from_slice(&neighbour);
    let length = u32::try_from(size_of::<libc::sockaddr_ll>())?;
    // SAFETY: so much of the storage is the address that was just written.
    Ok(unsafe { SockAddr::new(storage, length) })
}

/// Returns a UDP packet with valid checksums.
///
/// # Errors
/// When the families of the addresses differ.
pub fn udp(source: SocketAddr, destination: SocketAddr, payload: &[u8]) -> Result<Vec<u8>> {
    let builder = ip(source.ip(), destination.ip())?.udp(source.port(), destination.port());
    let mut packet = Vec::with_capacity(builder.size(payload.len()));
    builder.write(&mut packet, payload)?;
    Ok(packet)
}

/// Returns a TCP segment without data but with valid checksums; `answers` adds the flag ACK.
///
/// # Errors
/// When the families of the addresses differ.
pub fn tcp_syn(source: SocketAddr, destination: SocketAddr, answers: bool) -> Result<Vec<u8>> {
    let builder = ip(source.ip(), destination.ip())?;
    let builder = builder.tcp(source.port(), destination.port(), 1000, 64_000).syn();
    let builder = if answers { builder.ack(1) } else { builder };
    let mut packet = Vec::with_capacity(builder.size(0));
    builder.write(&mut packet, &[])?;
    Ok(packet)
}

fn ip(
    source: IpAddr,
    destination: IpAddr,
) -> Result<etherparse::PacketBuilderStep<etherparse::IpHeaders>> {
    Ok(match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            PacketBuilder::ipv4(source.octets(), destination.octets(), HOPS)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            PacketBuilder::ipv6(source.octets(), destination.octets(), HOPS)
        }
        _ => bail!("{source} and {destination} are of two families"),
    })
}
