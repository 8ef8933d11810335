//! Sockets that send by one uplink only: by its device, and by the routing table of its mark.

use std::{
    io,
    net::{IpAddr, SocketAddr, SocketAddrV6},
    num::NonZeroU32,
};

use anyhow::Result;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpStream, UdpSocket};

use super::{
    ProbePath,
    failure::{Call, classified},
    icmp,
};
use crate::sys::host::descriptors;

/// Opens a non-blocking socket of an IP family, bound to the device and marked, if the path has one.
///
/// # Errors
///
/// If the kernel refuses, or free descriptors are needed by more important work.
pub(super) fn bound(
    path: ProbePath,
    domain: Domain,
    kind: Type,
    protocol: Option<Protocol>,
) -> io::Result<Socket> {
    descriptors::check()?;
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

/// Opens a TCP connection.
///
/// # Errors
///
/// If there is no way to the other end, it refuses, or this machine cannot ask.
pub(super) async fn connect(path: ProbePath, address: SocketAddr) -> Result<TcpStream> {
    let opened = |error| classified(Call::Open, error, "failed to connect");
    let domain = Domain::for_address(address);
    let socket = bound(path, domain, Type::STREAM, Some(Protocol::TCP)).map_err(opened)?;
    icmp::listen(&socket, domain, true).map_err(opened)?;
    // Probes are many and short: a connection shall be gone once it is closed.
    socket.set_linger(Some(std::time::Duration::ZERO)).map_err(opened)?;
    // Not by tokio: what the call itself says was found on this machine.
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(opened(error)),
        Ok(()) | Err(_) => {}
    }
    let stream = TcpStream::from_std(socket.into()).map_err(opened)?;
    let heard = |error| classified(Call::Wait, error, "failed to connect");
    let own = stream.local_addr().map(|address| address.ip()).ok();
    stream.writable().await.map_err(heard)?;
    let error = stream.take_error().map_err(heard)?;
    // An ICMP error may be queued before it is the error of the socket.
    if error.is_none() && stream.peer_addr().is_ok() {
        icmp::listen(&stream, domain, false).map_err(opened)?;
        return Ok(stream);
    }
    Err(match icmp::queued_error(&stream) {
        Some(icmp_error) => icmp_error.error(own),
        None => heard(error.unwrap_or_else(|| io::ErrorKind::NotConnected.into())),
    })
}

/// Opens a UDP socket that receives from one peer only.
///
/// # Errors
///
/// If there is no way to it, or this machine has no socket for it.
pub(super) fn datagrams(path: ProbePath, peer: SocketAddr) -> Result<UdpSocket> {
    let opened = |error| classified(Call::Open, error, "failed to open a socket");
    let socket = bound(path, Domain::for_address(peer), Type::DGRAM, Some(Protocol::UDP));
    let socket = socket.map_err(opened)?;
    let reached = |error| classified(Call::Open, error, format!("failed to reach {}", peer.ip()));
    socket.connect(&peer.into()).map_err(reached)?;
    UdpSocket::from_std(socket.into()).map_err(opened)
}

/// Returns the address that this machine has towards a neighbour.
///
/// # Errors
///
/// If it has none.
pub(super) fn source(path: ProbePath, neighbour: IpAddr) -> Result<IpAddr> {
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
