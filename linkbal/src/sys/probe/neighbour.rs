//! ARP (RFC 826) and neighbour solicitation (RFC 4861) to the gateway of an uplink.
//!
//! Both bypass routing, so that the device alone binds them. Neither has an identifier: an answer
//! counts if the gateway sends it to this machine while it is waited for.

mod arp;
mod ndp;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use anyhow::Result;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::{
    Ended, Path,
    failure::{Call, Says, says, told},
    socket,
};
use crate::sys::{host::descriptors, packet_socket::link_address};

/// Maximum size of an answer that is read, in bytes: a neighbour advertisement with some options.
const LONGEST: usize = 512;

/// An Ethernet address.
type Mac = [u8; 6];

/// The addresses of both ends of a question.
#[derive(Clone, Copy, Debug)]
struct Ends<A> {
    own_mac: Mac,
    own: A,
    neighbour: A,
}

/// A question to a neighbour.
enum Question {
    Arp(Ends<Ipv4Addr>),
    Solicitation(Ends<Ipv6Addr>),
}

/// Asks the gateway. Without a gateway or without Ethernet, only the link itself could be asked:
/// there the carrier is the answer.
///
/// # Errors
///
/// If the question cannot be sent.
pub(super) async fn ask(path: Path) -> Result<Ended> {
    let Some(gateway) = path.gateway else { return Ok(Ended::Answered) };
    let opened = |error| told(Call::Open, error, "failed to open a packet socket");
    let socket = open(path, gateway).map_err(opened)?;
    let Some(own_mac) = ethernet_address(&socket).map_err(opened)? else {
        return Ok(Ended::Answered);
    };
    let own = socket::source(path, gateway)?;
    let question = match (own, gateway) {
        (IpAddr::V4(own), IpAddr::V4(neighbour)) => Question::Arp(Ends { own_mac, own, neighbour }),
        (IpAddr::V6(own), IpAddr::V6(neighbour)) => {
            Question::Solicitation(Ends { own_mac, own, neighbour })
        }
        // The kernel gives a source of the neighbour's family.
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
            return Ok(Ended::NothingToAsk);
        }
    };
    let (message, destination) = question.message();
    let destination = link_address(path.ifindex, ether_type(gateway), destination);
    if let Err(error) = socket.send_to(&message, &destination)
        && says(Call::Send, error.raw_os_error()) != Says::Lost
    {
        return Err(told(Call::Send, error, "failed to ask the gateway"));
    }
    // tokio has no packet sockets of its own; what it does with a UDP one fits one as well.
    let socket = UdpSocket::from_std(socket.into()).map_err(opened)?;
    let heard = |error| told(Call::Wait, error, "failed to hear the gateway");
    let mut buffer = [0; LONGEST];
    loop {
        let length = socket.recv(&mut buffer).await.map_err(heard)?;
        if question.answered_by(&buffer[..length]) {
            return Ok(Ended::Answered);
        }
    }
}

impl Question {
    /// Returns the packet, and the Ethernet address that it goes to.
    fn message(&self) -> (Vec<u8>, Mac) {
        match self {
            Question::Arp(ends) => (arp::request(ends).to_vec(), arp::BROADCAST),
            Question::Solicitation(ends) => {
                (ndp::solicitation(ends).to_vec(), ndp::group_mac(ends.neighbour))
            }
        }
    }

    fn answered_by(&self, message: &[u8]) -> bool {
        match self {
            Question::Arp(ends) => arp::is_reply(message, ends),
            Question::Solicitation(ends) => ndp::is_advertisement(message, ends),
        }
    }
}

/// Returns the EtherType for a neighbour: `ETH_P_ARP` or `ETH_P_IPV6`
/// (include/uapi/linux/if_ether.h).
const fn ether_type(neighbour: IpAddr) -> u16 {
    match neighbour {
        IpAddr::V4(_) => libc::ETH_P_ARP as u16,
        IpAddr::V6(_) => libc::ETH_P_IPV6 as u16,
    }
}

/// Opens a socket for packets without their Ethernet headers. It receives nothing until it is
/// bound, so that the filter is in place before the first packet.
fn open(path: Path, neighbour: IpAddr) -> io::Result<Socket> {
    descriptors::check()?;
    let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(0)))?;
    if neighbour.is_ipv6() {
        socket.attach_filter(&ndp::FILTER)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&link_address(path.ifindex, ether_type(neighbour), [0; 6]))?;
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
