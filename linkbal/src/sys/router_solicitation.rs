//! Requests for router advertisements (RFC 4861 section 6.3.7).
//!
//! The kernel asks when a link-local address comes into use, and only if advertisements are
//! accepted by then (`addrconf_dad_completed` in net/ipv6/addrconf.c). On a new interface they are
//! not, since this machine forwards: a dial-up interface has its address before anybody could have
//! changed that, and the next unsolicited advertisement may be minutes away.

use std::{
    io,
    net::{Ipv6Addr, SocketAddrV6},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::time::sleep;

/// All routers of the link (RFC 4291 section 2.7.1).
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// A router solicitation without options; the kernel fills in the checksum.
const SOLICITATION: [u8; 8] = [133, 0, 0, 0, 0, 0, 0, 0];
/// Hop limit of a message that has crossed no router yet: others are not answered.
const HOPS: u32 = 255;
/// `MAX_RTR_SOLICITATIONS` and `RTR_SOLICITATION_INTERVAL` of RFC 4861 section 10.
const MAX_RTR_SOLICITATIONS: u32 = 3;
const RTR_SOLICITATION_INTERVAL: Duration = Duration::from_secs(4);

/// Returns the interface whose router advertisements a sysctl lets in.
pub(super) fn interface(sysctl: &str) -> Option<&str> {
    sysctl.strip_prefix("net/ipv6/conf/")?.strip_suffix("/accept_ra")
}

/// Asks the routers of an interface, in the background. Must be called within a tokio runtime.
pub(super) fn routers(interface: &str) {
    let interface = interface.to_owned();
    tokio::spawn(async move {
        for _ in 0..MAX_RTR_SOLICITATIONS {
            // Without a link-local address there is no source: then the kernel is yet to ask.
            if let Err(error) = solicit(&interface) {
                tracing::debug!("failed to ask the routers of {interface}: {error}");
            }
            sleep(RTR_SOLICITATION_INTERVAL).await;
        }
    });
}

fn solicit(interface: &str) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.set_multicast_hops_v6(HOPS)?;
    socket.set_nonblocking(true)?;
    socket.send_to(&SOLICITATION, &SocketAddrV6::new(ALL_ROUTERS, 0, 0, 0).into()).map(drop)
}
