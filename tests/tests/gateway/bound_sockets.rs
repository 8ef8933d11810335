//! Programs of the gateway that choose an interface, and leave by its uplink.

use std::fs;
use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;

use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::traffic::HTTP;
use linkbal_lab::traffic::dns::{Dnsmasq, ask};
use linkbal_lab::traffic::local::SocketKind;
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};
use socket2::Socket;
use tempfile::TempDir;

use crate::fixture::{Gateway, with_key};
use crate::kernel;

const SOCKETS: usize = 12;

/// Starts a gateway whose main table has a default route by the second uplink alone, which is also
/// the better one.
fn gateway() -> Gateway {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    let next = Family::ALL.map(|family| plan::nexthop(family, 0).to_string());
    for (family, next) in Family::ALL.into_iter().zip(&next) {
        let delete = [family.flag(), "route", "del", "default", "via", next];
        lab.gateway.run("ip", &delete).unwrap();
    }
    let [ipv4, ipv6] = next;
    let line = format!("gateway = {{ ipv4 = \"{ipv4}\", ipv6 = \"{ipv6}\" }}");
    Gateway::start(lab, |config| with_key(config, "isp-a", &line))
}

fn interface(gateway: &Gateway, uplink: usize) -> &str {
    &gateway.lab.uplinks[uplink].spec.interface
}

fn ifindex(gateway: &Gateway, uplink: usize) -> u32 {
    kernel::ifindex(&gateway.lab.gateway, interface(gateway, uplink))
}

#[test]
fn ping_and_curl_leave_by_the_device_that_they_are_bound_to() {
    let gateway = gateway();
    for family in Family::ALL {
        for uplink in 0..2 {
            let device = interface(&gateway, uplink);
            for number in 10..14 {
                let server = plan::server(family, number);
                let (ping, name) = (["ping", "ping6"], server.to_string());
                let ping = ping[usize::from(family == Family::V6)];
                let args = [ping, "-c", "1", "-W", "5", "-I", device, &name];
                gateway.lab.gateway.run("busybox", &args).unwrap();
                let url = format!("http://{}/", SocketAddr::new(server, HTTP));
                let args = ["-sS", "-g", "--max-time", "10", "--interface", device, &url];
                let seen = gateway.lab.gateway.run("curl", &args).unwrap();
                let seen = plan::uplink_of(seen.trim().parse().unwrap());
                assert_eq!(seen, Some(uplink), "{url} by {device}");
            }
        }
    }
}

/// Sets `IP_UNICAST_IF` or `IPV6_UNICAST_IF`, ip(7) and ipv6(7): the index in network byte order.
#[test]
fn link_local_neighbours_of_an_uplink_are_on_its_link() {
    let gateway = gateway();
    for uplink in 0..2 {
        let device = interface(&gateway, uplink);
        let get = ["-6", "route", "get", "fe80::99", "oif", device];
        let route = gateway.lab.gateway.run("ip", &get).unwrap();
        assert!(!route.contains(" via ") && route.contains(device), "{route}");
    }
}

fn set_unicast_interface(socket: &Socket, family: Family, ifindex: u32) {
    let (level, option) = match family {
        Family::V4 => (libc::IPPROTO_IP, 50),
        Family::V6 => (libc::IPPROTO_IPV6, 76),
    };
    let value = ifindex.to_be();
    let length = libc::socklen_t::try_from(size_of::<u32>()).unwrap();
    // SAFETY: the kernel reads `length` bytes of `value`, which is that long.
    let status = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), length)
    };
    assert_eq!(status, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn ip_unicast_if_is_respected() {
    let gateway = gateway();
    for family in Family::ALL {
        for kind in [SocketKind::ConnectedUdp, SocketKind::UnconnectedUdp] {
            for (number, uplink) in (0..SOCKETS).map(|number| (number, number % 2)) {
                let ifindex = ifindex(&gateway, uplink);
                let _entered = gateway.lab.gateway.enter().unwrap();
                let server = SocketAddr::new(plan::server(family, number), HTTP);
                let socket = kind.socket(server).unwrap();
                set_unicast_interface(&socket, family, ifindex);
                let seen = kind.ask(&socket, server);
                let seen = seen.unwrap_or_else(|error| panic!("{kind:?} to {server}: {error}"));
                assert_eq!(plan::uplink_of(seen.ip()), Some(uplink), "{kind:?} to {server}");
                let local = socket.local_addr().unwrap().as_socket().unwrap().ip();
                let own = plan::uplink_address(family, uplink);
                assert!(
                    kind == SocketKind::UnconnectedUdp || local == own,
                    "translated from {local}"
                );
            }
        }
    }
}

/// Sends a datagram by an interface that a control message names.
fn send_by(socket: &Socket, ifindex: u32, server: SocketAddr) {
    let data = [IoSlice::new(b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0")];
    let address = SockaddrStorage::from(server);
    let fd = socket.as_raw_fd();
    let flags = MsgFlags::empty();
    // SAFETY: plain data for which all zeros is a valid value.
    let (mut ipv4, mut ipv6): (libc::in_pktinfo, libc::in6_pktinfo) =
        unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    ipv4.ipi_ifindex = i32::try_from(ifindex).unwrap();
    ipv6.ipi6_ifindex = ifindex;
    let message = match server {
        SocketAddr::V4(_) => ControlMessage::Ipv4PacketInfo(&ipv4),
        SocketAddr::V6(_) => ControlMessage::Ipv6PacketInfo(&ipv6),
    };
    sendmsg(fd, &data, &[message], flags, Some(&address)).unwrap();
}

#[test]
fn ip_pktinfo_of_a_datagram_is_respected() {
    let gateway = gateway();
    for family in Family::ALL {
        for (number, uplink) in (0..SOCKETS).map(|number| (number, number % 2)) {
            let ifindex = ifindex(&gateway, uplink);
            let server = SocketAddr::new(plan::server(family, number), HTTP);
            let listener = {
                let _entered = gateway.lab.net.enter().unwrap();
                // The servers have port 80: another port of the same address.
                std::net::UdpSocket::bind(SocketAddr::new(server.ip(), 5500)).unwrap()
            };
            listener.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
            let _entered = gateway.lab.gateway.enter().unwrap();
            let socket = SocketKind::UnconnectedUdp.socket(server).unwrap();
            send_by(&socket, ifindex, SocketAddr::new(server.ip(), 5500));
            let (_, seen) = listener.recv_from(&mut [0; 16]).unwrap();
            assert_eq!(plan::uplink_of(seen.ip()), Some(uplink), "{server}");
        }
    }
}

#[test]
fn dnsmasq_queries_leave_by_the_configured_device() {
    let gateway = gateway();
    let folder = TempDir::with_prefix("linkbal-log-").unwrap();
    for (number, family) in Family::ALL.into_iter().enumerate() {
        for uplink in 0..2 {
            let server = plan::server(family, 20 + 2 * number + uplink);
            let log = folder.path().join(format!("{family}-{uplink}"));
            let lines =
                format!("address=/test/192.0.2.77\nlog-queries\nlog-facility={}\n", log.display());
            let _far = Dnsmasq::start(&gateway.lab.net, Some(server), &lines).unwrap();
            let device = interface(&gateway, uplink);
            let lines = format!("port=53\nserver={server}@{device}\ncache-size=0\n");
            let near: IpAddr = [127, 0, 0, 1].into();
            let _near = Dnsmasq::start(&gateway.lab.gateway, Some(near), &lines).unwrap();
            let _entered = gateway.lab.gateway.enter().unwrap();
            let answered = (0..SOCKETS).filter(|name| {
                let name = format!("name{name}.test.");
                ask(near, near, &name, Family::V4).is_ok_and(|all| all.len() == 1)
            });
            assert_eq!(answered.count(), SOCKETS, "{server}@{device}");
            let log = fs::read_to_string(&log).unwrap();
            let by = format!(" from {}", plan::uplink_address(family, uplink));
            let asked = log.lines().filter(|line| line.contains("query[A] name"));
            assert!(asked.clone().count() >= SOCKETS, "{log}");
            assert!(asked.into_iter().all(|line| line.ends_with(&by)), "{log}");
        }
    }
}
