//! The peers of a WireGuard interface, over generic netlink (include/uapi/linux/wireguard.h).

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use netlink_packet_core::{NlaBuffer, NlasIterator};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_GENERIC};

use crate::engine::kernel::network::Tunnel;

/// Constants of include/uapi/linux/genetlink.h.
const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

const FAMILY: &[u8] = b"wireguard\0";
const WG_CMD_GET_DEVICE: u8 = 0;
const WGDEVICE_A_IFINDEX: u16 = 1;
const WGDEVICE_A_FWMARK: u16 = 7;
const WGDEVICE_A_PEERS: u16 = 8;
const WGPEER_A_ENDPOINT: u16 = 4;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;

/// Length of `nlmsghdr`, and of `genlmsghdr` behind it.
const HEADER: usize = 16;
const GENERIC_HEADER: usize = 4;

/// Returns the fwmark and the endpoints of a WireGuard interface.
///
/// Blocks for the kernel's answer, which comes at once, in the network namespace of the calling
/// thread.
pub(super) fn tunnel(ifindex: u32) -> io::Result<Tunnel> {
    let socket = Socket::new(NETLINK_GENERIC)?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let name = attribute(CTRL_ATTR_FAMILY_NAME, FAMILY);
    socket.send(&message(GENL_ID_CTRL, NLM_F_REQUEST, CTRL_CMD_GETFAMILY, &name), 0)?;
    let (reply, _) = socket.recv_from_full()?;
    let mut family = None;
    each_message(&reply, |body| {
        let id = nlas(body).find(|nla| nla.kind() == CTRL_ATTR_FAMILY_ID);
        family = id.and_then(|id| Some(u16::from_ne_bytes(id.value().try_into().ok()?))).or(family);
    })?;
    let family = family.ok_or(io::ErrorKind::NotFound)?;

    let wanted = attribute(WGDEVICE_A_IFINDEX, &ifindex.to_ne_bytes());
    let request = message(family, NLM_F_REQUEST | NLM_F_DUMP, WG_CMD_GET_DEVICE, &wanted);
    // An acknowledgement of the first request may not be among the answers: a socket of its own.
    let socket = Socket::new(NETLINK_GENERIC)?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&request, 0)?;
    let mut tunnel = Tunnel::default();
    loop {
        let (reply, _) = socket.recv_from_full()?;
        if each_message(&reply, |body| parse_into(&mut tunnel, body))? {
            return Ok(tunnel);
        }
    }
}

/// Reads one message of the dump: the device, and some of its peers.
pub(in crate::sys) fn parse_into(tunnel: &mut Tunnel, body: &[u8]) {
    for nla in nlas(body) {
        match nla.kind() {
            WGDEVICE_A_FWMARK => {
                let fwmark = nla.value().first_chunk();
                tunnel.fwmark = fwmark.map_or(0, |bytes| u32::from_ne_bytes(*bytes));
            }
            WGDEVICE_A_PEERS => {
                let peers = nlas(nla.value());
                let parts = peers.flat_map(|peer| {
                    let parts = nlas(peer.value());
                    let endpoints = parts.filter(|part| part.kind() == WGPEER_A_ENDPOINT);
                    endpoints.filter_map(|part| endpoint(part.value())).collect::<Vec<_>>()
                });
                tunnel.endpoints.extend(parts);
            }
            _ => {}
        }
    }
}

/// Returns the address in a `sockaddr_in` or `sockaddr_in6`.
fn endpoint(address: &[u8]) -> Option<IpAddr> {
    let family = u16::from_ne_bytes(*address.first_chunk()?);
    match i32::from(family) {
        libc::AF_INET => {
            let octets: [u8; 4] = *address.get(4..)?.first_chunk()?;
            Some(Ipv4Addr::from(octets).into())
        }
        libc::AF_INET6 => {
            let octets: [u8; 16] = *address.get(8..)?.first_chunk()?;
            Some(Ipv6Addr::from(octets).into())
        }
        _ => None,
    }
}

/// Returns the attributes up to the first that is damaged.
fn nlas(bytes: &[u8]) -> impl Iterator<Item = NlaBuffer<&[u8]>> {
    NlasIterator::new(bytes).map_while(Result::ok)
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = (value.len().saturating_add(4) as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn message(kind: u16, flags: u16, command: u8, attributes: &[u8]) -> Vec<u8> {
    let length = attributes.len().saturating_add(HEADER + GENERIC_HEADER) as u32;
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([command, 1, 0, 0]);
    bytes.extend(attributes);
    bytes
}

/// Hands the attributes of each message to `each`; returns whether the last message was among them.
pub(in crate::sys) fn each_message(
    mut bytes: &[u8],
    mut each: impl FnMut(&[u8]),
) -> io::Result<bool> {
    while let Some(length) = bytes.first_chunk() {
        let length = u32::from_ne_bytes(*length) as usize;
        let kind = bytes.get(4..).and_then(|rest| rest.first_chunk());
        let kind = kind.map_or(0, |kind| u16::from_ne_bytes(*kind));
        let Some(payload) = bytes.get(HEADER..length) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let code = payload.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
        match kind {
            NLMSG_ERROR | NLMSG_DONE if code < 0 => {
                return Err(io::Error::from_raw_os_error(code.saturating_neg()));
            }
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => {}
            _ => each(payload.get(GENERIC_HEADER..).unwrap_or_default()),
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn peer(endpoint: &[u8]) -> Vec<u8> {
        attribute(0, &[attribute(1, &[7; 32]), attribute(WGPEER_A_ENDPOINT, endpoint)].concat())
    }

    fn device() -> Vec<u8> {
        let ipv4 = [&2_u16.to_ne_bytes()[..], &[0xca, 0x6c, 198, 51, 100, 9], &[0; 8]].concat();
        let mut ipv6 = [&10_u16.to_ne_bytes()[..], &[0xca, 0x6c], &[0; 4]].concat();
        ipv6.extend("2001:db8::9".parse::<Ipv6Addr>().expect("an address").octets());
        ipv6.extend([0; 4]);
        let peers = [peer(&ipv4), peer(&ipv6)].concat();
        let parts = [
            attribute(WGDEVICE_A_FWMARK, &0x1000_u32.to_ne_bytes()),
            // As the kernel marks what is nested.
            attribute(WGDEVICE_A_PEERS | 1 << 15, &peers),
        ];
        parts.concat()
    }

    #[test]
    fn the_endpoints_of_all_peers_are_read() {
        let mut bytes = message(30, 2, 0, &device());
        bytes.extend([20, 0, 0, 0, 3, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let mut tunnel = Tunnel::default();
        let ended = each_message(&bytes, |body| parse_into(&mut tunnel, body)).expect("an answer");
        assert!(ended);
        let endpoints = ["198.51.100.9", "2001:db8::9"].map(|text| text.parse().expect("one"));
        let expected = Tunnel { endpoints: endpoints.into(), fwmark: 0x1000, ..Tunnel::default() };
        assert_eq!(tunnel, expected);
    }

    #[test]
    fn a_refusal_is_an_error() {
        let mut bytes = message(NLMSG_ERROR, 0, 0, &[]);
        bytes[HEADER..].copy_from_slice(&(-libc::ENODEV).to_ne_bytes());
        let error = each_message(&bytes, |_| {}).expect_err("a refusal");
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
    }

    proptest! {
        #[test]
        fn damaged_messages_do_no_harm(at in 0_usize..200, byte in any::<u8>(), length in 0_usize..200) {
            let mut bytes = message(30, 2, 0, &device());
            let at = at.min(bytes.len() - 1);
            bytes[at] = byte;
            bytes.truncate(length);
            let mut tunnel = Tunnel::default();
            let _ = each_message(&bytes, |body| parse_into(&mut tunnel, body));
        }
    }
}
