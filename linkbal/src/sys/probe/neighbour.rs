//! ARP (RFC 826) and neighbour solicitation (RFC 4861) to the gateway of an uplink.
//!
//! Both bypass routing, so that the device alone binds them. Neither has an identifier: an answer
//! counts if the gateway sends it to this machine while it is waited for.

mod arp;
mod ndp;

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use anyhow::Result;
use etherparse::EtherType;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::{
    ProbePath, ProbeResult,
    failure::{Call, Meaning, classified, meaning},
    socket,
};
use crate::sys::{host::descriptors, packet_socket::link_address};

/// Maximum size of an answer that is read, in bytes: a neighbour advertisement with some options.
const MAX_ANSWER: usize = 512;

/// An Ethernet address.
pub type Mac = [u8; 6];

/// The addresses of both pair of a request.
#[derive(Clone, Copy, Debug)]
struct Pair<A> {
    local_mac: Mac,
    local: A,
    neighbour: A,
}

/// A request to a neighbour.
enum Request {
    Arp(Pair<Ipv4Addr>),
    Solicitation(Pair<Ipv6Addr>),
}

/// Asks the gateway. Without a gateway or without Ethernet, only the link itself could be asked:
/// there the carrier is the answer.
///
/// # Errors
///
/// If the request cannot be sent.
pub(super) async fn ask(path: ProbePath) -> Result<ProbeResult> {
    let Some(gateway) = path.gateway else { return Ok(ProbeResult::Answered) };
    let socket = open(path.ifindex, gateway).map_err(opened)?;
    if ethernet_address(&socket).map_err(opened)?.is_none() {
        return Ok(ProbeResult::Answered);
    }
    exchange(socket, path.ifindex, gateway, source(path, gateway)?, &BTreeSet::new()).await
}

/// Returns the address to ask a gateway in the name of. Where uplinks share a device, the kernel would
/// take that of any of them, and a gateway may answer its own neighbours alone.
fn source(path: ProbePath, gateway: IpAddr) -> Result<IpAddr> {
    let is_link_local = matches!(gateway, IpAddr::V6(address) if address.is_unicast_link_local());
    let own = path.own.filter(|own| !is_link_local && own.is_ipv4() == gateway.is_ipv4());
    own.map_or_else(|| socket::source(path, gateway), Ok)
}

/// Asks a neighbour in the name of one of this machine's addresses, and waits for its answer
/// without a limit. Answers to ARP from the Ethernet addresses `own`, this machine's, do not count.
///
/// # Errors
///
/// If the request cannot be sent.
pub(super) async fn ask_from(
    ifindex: u32,
    neighbour: IpAddr,
    local: IpAddr,
    own: &BTreeSet<Mac>,
) -> Result<ProbeResult> {
    let socket = open(ifindex, neighbour).map_err(opened)?;
    exchange(socket, ifindex, neighbour, local, own).await
}

fn opened(error: io::Error) -> anyhow::Error {
    classified(Call::Open, error, "failed to open a packet socket")
}

async fn exchange(
    socket: Socket,
    ifindex: u32,
    gateway: IpAddr,
    local: IpAddr,
    own: &BTreeSet<Mac>,
) -> Result<ProbeResult> {
    let Some(local_mac) = ethernet_address(&socket).map_err(opened)? else {
        return Ok(ProbeResult::Answered);
    };
    let request = match (local, gateway) {
        (IpAddr::V4(local), IpAddr::V4(neighbour)) => {
            Request::Arp(Pair { local_mac, local, neighbour })
        }
        (IpAddr::V6(local), IpAddr::V6(neighbour)) => {
            Request::Solicitation(Pair { local_mac, local, neighbour })
        }
        // The kernel gives a source of the neighbour's family.
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
            return Ok(ProbeResult::NoAddress);
        }
    };
    let (message, destination) = request.message();
    let destination = link_address(ifindex, ether_type(gateway), destination);
    if let Err(error) = socket.send_to(&message, &destination)
        && meaning(Call::Send, error.raw_os_error()) != Meaning::Lost
    {
        return Err(classified(Call::Send, error, "failed to ask the gateway"));
    }
    // tokio has no packet sockets of its own; what it does with a UDP one fits one as well.
    let socket = UdpSocket::from_std(socket.into()).map_err(opened)?;
    let heard = |error| classified(Call::Wait, error, "failed to hear the gateway");
    let mut buffer = [0; MAX_ANSWER];
    loop {
        let length = socket.recv(&mut buffer).await.map_err(heard)?;
        if request.is_answered_by(&buffer[..length], own) {
            return Ok(ProbeResult::Answered);
        }
    }
}

impl Request {
    /// Returns the packet, and the Ethernet address that it goes to.
    fn message(&self) -> (Vec<u8>, Mac) {
        match self {
            Request::Arp(pair) => (arp::request(pair), arp::BROADCAST),
            Request::Solicitation(pair) => {
                (ndp::solicitation(pair), ndp::group_mac(pair.neighbour))
            }
        }
    }

    fn is_answered_by(&self, message: &[u8], own: &BTreeSet<Mac>) -> bool {
        match self {
            Request::Arp(pair) => {
                arp::replier(message, pair).is_some_and(|mac| !own.contains(&mac))
            }
            Request::Solicitation(pair) => ndp::is_advertisement(message, pair),
        }
    }
}

/// Returns the EtherType of requests to a neighbour.
const fn ether_type(neighbour: IpAddr) -> EtherType {
    match neighbour {
        IpAddr::V4(_) => EtherType::ARP,
        IpAddr::V6(_) => EtherType::IPV6,
    }
}

/// Opens a socket for packets without their Ethernet headers. It receives nothing until it is
/// bound, so that the filter is in place before the first packet.
fn open(ifindex: u32, neighbour: IpAddr) -> io::Result<Socket> {
    descriptors::check()?;
    let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(0)))?;
    if neighbour.is_ipv6() {
        socket.attach_filter(&ndp::FILTER)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&link_address(ifindex, ether_type(neighbour), [0; 6]))?;
    Ok(socket)
}

/// Returns the Ethernet address of the device that a socket is bound to; `None` if it has none.
fn ethernet_address(socket: &Socket) -> io::Result<Option<Mac>> {
    let address = socket.local_addr()?;
    // SAFETY: the storage is large enough for every kind of address, all of its bytes are
    // initialised, and the address of a packet socket is a `sockaddr_ll`.
    let link = unsafe { &*address.as_ptr().cast::<libc::sockaddr_ll>() };
    let ethernet = link.sll_hatype == libc::ARPHRD_ETHER && usize::from(link.sll_halen) == 6;
    let [a, b, c, d, e, f, ..] = link.sll_addr;
    Ok(ethernet.then_some([a, b, c, d, e, f]))
}
