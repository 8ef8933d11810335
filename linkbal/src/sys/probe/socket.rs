//! Sockets that send by one uplink only: by its device, and by the routing table of its mark.

use std::{
    io,
    net::{IpAddr, SocketAddr, SocketAddrV6},
    num::NonZeroU32,
};

use anyhow::{Context as _, Result};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

use super::Path;

/// A non-blocking socket of an IP family, bound to the device and marked.
///
/// # Errors
///
/// The kernel's.
pub(super) fn bound(
    path: Path,
    domain: Domain,
    kind: Type,
    protocol: Option<Protocol>,
) -> io::Result<Socket> {
    let socket = Socket::new(domain, kind, protocol)?;
    let ifindex = NonZeroU32::new(path.ifindex);
    if domain == Domain::IPV4 {
        socket.bind_device_by_index_v4(ifindex)?;
    } else {
        socket.bind_device_by_index_v6(ifindex)?;
    }
    socket.set_mark(path.fwmark)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A TCP connection.
///
/// # Errors
///
/// The kernel's, `ConnectionRefused` among them.
pub(super) async fn connect(path: Path, address: SocketAddr) -> io::Result<TcpStream> {
    let domain = Domain::for_address(address);
    let socket = bound(path, domain, Type::STREAM, Some(Protocol::TCP))?;
    // Probes are many and short: a connection shall be gone once it is closed.
    socket.set_linger(Some(std::time::Duration::ZERO))?;
    TcpSocket::from_std_stream(socket.into()).connect(address).await
}

/// A UDP socket that hears one peer only.
///
/// # Errors
///
/// If there is no way to it.
pub(super) fn datagrams(path: Path, peer: SocketAddr) -> Result<UdpSocket> {
    let socket = bound(path, Domain::for_address(peer), Type::DGRAM, Some(Protocol::UDP))
        .context("failed to open a socket")?;
    socket.connect(&peer.into()).with_context(|| format!("failed to reach {}", peer.ip()))?;
    Ok(UdpSocket::from_std(socket.into())?)
}

/// The address that this machine has towards a neighbour.
///
/// # Errors
///
/// If it has none.
pub(super) fn source(path: Path, neighbour: IpAddr) -> Result<IpAddr> {
    const ANY_PORT: u16 = 9;
    let peer = match neighbour {
        IpAddr::V6(address) if address.is_unicast_link_local() => {
            SocketAddrV6::new(address, ANY_PORT, 0, path.ifindex).into()
        }
        address => SocketAddr::new(address, ANY_PORT),
    };
    // Connecting sends nothing, but makes the kernel choose.
    Ok(datagrams(path, peer)?.local_addr()?.ip())
}
