//! ICMP errors about a connection that is being opened.
//!
//! Anybody on the way may send one, this machine's own firewall included (`reject`), and the kernel fails the
//! connection with the same errno as for a reset by the other end. The error queue of the socket tells them
//! apart. Kernels before 5.18 queue nothing for TCP: there, each looks like a reset.

use std::{
    io::{self, IoSliceMut},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsFd, AsRawFd},
};

use anyhow::Error;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt,
};
use socket2::Domain;

use super::failure::{Call, NotSent, classified};

/// Origins and codes of errors, as in `linux/errqueue.h`, RFC 792, RFC 1812 and RFC 4443.
const BY_ICMP: u8 = 2;
const BY_ICMPV6: u8 = 3;
const UNREACHABLE: u8 = 3;
const UNREACHABLE_V6: u8 = 1;
/// Codes that a firewall gives, and no neighbour that is silent: port unreachable, and the kinds of
/// "prohibited".
const FORBIDDEN: [u8; 4] = [3, 9, 10, 13];
const FORBIDDEN_V6: [u8; 4] = [1, 4, 5, 6];

/// An ICMP error.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct IcmpError {
    errno: i32,
    from: IpAddr,
    /// Set if it says that the packet may not pass.
    forbids: bool,
}

/// Makes the kernel queue ICMP errors about a socket, or not. Once a connection is open, they would end it.
///
/// # Errors
///
/// If the kernel refuses.
pub(super) fn listen(socket: &impl AsFd, domain: Domain, wanted: bool) -> io::Result<()> {
    if domain == Domain::IPV4 {
        setsockopt(socket, sockopt::Ipv4RecvErr, &wanted)?;
    } else {
        setsockopt(socket, sockopt::Ipv6RecvErr, &wanted)?;
    }
    Ok(())
}

/// Returns the first ICMP error in the queue of a socket.
pub(super) fn queued_error(socket: &impl AsRawFd) -> Option<IcmpError> {
    let mut quoted = [0; 64];
    let mut parts = [IoSliceMut::new(&mut quoted)];
    let mut space = nix::cmsg_space!(libc::sock_extended_err, libc::sockaddr_in6);
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    let fd = socket.as_raw_fd();
    let message = recvmsg::<SockaddrStorage>(fd, &mut parts, Some(&mut space), flags).ok()?;
    message.cmsgs().ok()?.find_map(|message| match message {
        ControlMessageOwned::Ipv4RecvErr(error, from) => {
            read(&error, Ipv4Addr::from(u32::from_be(from?.sin_addr.s_addr)).into())
        }
        ControlMessageOwned::Ipv6RecvErr(error, from) => {
            read(&error, Ipv6Addr::from(from?.sin6_addr.s6_addr).into())
        }
        _ => None,
    })
}

fn read(error: &libc::sock_extended_err, from: IpAddr) -> Option<IcmpError> {
    let codes = match (error.ee_origin, error.ee_type) {
        (BY_ICMP, UNREACHABLE) => &FORBIDDEN[..],
        (BY_ICMPV6, UNREACHABLE_V6) => &FORBIDDEN_V6[..],
        (BY_ICMP | BY_ICMPV6, _) => &[],
        _ => return None,
    };
    let errno = i32::try_from(error.ee_errno).ok()?;
    Some(IcmpError { errno, from, forbids: codes.contains(&error.ee_code) })
}

impl IcmpError {
    /// Returns it as the failure of a connection from the address `own`. The other end's own answer is a
    /// segment of TCP: no ICMP error counts as one, whoever sent it.
    pub(super) fn error(&self, own: Option<IpAddr>) -> Error {
        let error = io::Error::from_raw_os_error(self.errno);
        if self.forbids && (Some(self.from) == own || self.from.is_loopback()) {
            return NotSent(format!("this machine's firewall refuses it ({error})")).into();
        }
        if self.errno == libc::ECONNREFUSED {
            let from = self.from;
            return Error::msg(format!("refused by ICMP of {from}")).context("failed to connect");
        }
        classified(Call::Wait, error, "failed to connect")
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 254));

    fn queued(origin: u8, kind: u8, code: u8, errno: i32) -> libc::sock_extended_err {
        libc::sock_extended_err {
            ee_errno: errno.cast_unsigned(),
            ee_origin: origin,
            ee_type: kind,
            ee_code: code,
            ee_pad: 0,
            ee_info: 0,
            ee_data: 0,
        }
    }

    #[test]
    fn an_icmp_error_is_no_answer_and_ones_own_says_nothing_of_the_line() {
        let port = queued(BY_ICMP, UNREACHABLE, 3, libc::ECONNREFUSED);
        let by = |from| read(&port, from).expect("by ICMP").error(Some(OWN));
        assert!(NotSent::is(&by(OWN)));
        assert!(!NotSent::is(&by(OTHER)) && by(OTHER).downcast_ref::<io::Error>().is_none());
        // A neighbour that does not answer: told by this machine, and the line's fault.
        let silent = queued(BY_ICMP, UNREACHABLE, 1, libc::EHOSTUNREACH);
        let silent = read(&silent, OWN).expect("by ICMP").error(Some(OWN));
        assert!(!NotSent::is(&silent), "{silent:#}");
        let policy = queued(BY_ICMPV6, UNREACHABLE_V6, 1, libc::EACCES);
        assert!(NotSent::is(&read(&policy, OWN).expect("by ICMPv6").error(Some(OWN))));
        assert_eq!(read(&queued(1, 0, 0, libc::ECONNREFUSED), OWN), None);
    }

    #[test]
    fn a_queue_without_an_error_is_empty() {
        let server = TcpListener::bind("127.0.0.1:0").expect("a server");
        listen(&server, Domain::IPV4, true).expect("the option");
        assert_eq!(queued_error(&server), None);
    }
}
