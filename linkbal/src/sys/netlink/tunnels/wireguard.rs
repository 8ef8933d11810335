//! The peers of a WireGuard interface, over generic netlink (include/uapi/linux/wireguard.h).

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use crate::{
    engine::kernel::network::Tunnel,
    sys::netlink::{
        generic::{dump, nlas},
        wire::nla,
    },
};

const FAMILY: &[u8] = b"wireguard\0";
const WG_CMD_GET_DEVICE: u8 = 0;
const WGDEVICE_A_IFINDEX: u16 = 1;
const WGDEVICE_A_FWMARK: u16 = 7;
const WGDEVICE_A_PEERS: u16 = 8;
const WGPEER_A_ENDPOINT: u16 = 4;

/// Returns the fwmark and the endpoints of a WireGuard interface.
///
/// Blocks for the kernel's answer, which comes at once, in the network namespace of the calling
/// thread.
pub(super) fn tunnel(ifindex: u32) -> io::Result<Tunnel> {
    let wanted = nla(WGDEVICE_A_IFINDEX, &ifindex.to_ne_bytes());
    let mut tunnel = Tunnel::default();
    dump(FAMILY, WG_CMD_GET_DEVICE, &wanted, |body| parse_into(&mut tunnel, body))?;
    Ok(tunnel)
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sys::netlink::{
        generic::{body, message},
        wire::messages,
    };

    fn read(bytes: &[u8]) -> Tunnel {
        let mut tunnel = Tunnel::default();
        messages(bytes).for_each(|message| parse_into(&mut tunnel, body(&message)));
        tunnel
    }

    fn peer(endpoint: &[u8]) -> Vec<u8> {
        nla(0, &[nla(1, &[7; 32]), nla(WGPEER_A_ENDPOINT, endpoint)].concat())
    }

    fn device() -> Vec<u8> {
        let ipv4 = [&2_u16.to_ne_bytes()[..], &[0xca, 0x6c, 198, 51, 100, 9], &[0; 8]].concat();
        let mut ipv6 = [&10_u16.to_ne_bytes()[..], &[0xca, 0x6c], &[0; 4]].concat();
        ipv6.extend("2001:db8::9".parse::<Ipv6Addr>().expect("an address").octets());
        ipv6.extend([0; 4]);
        let peers = [peer(&ipv4), peer(&ipv6)].concat();
        let parts = [
            nla(WGDEVICE_A_FWMARK, &0x1000_u32.to_ne_bytes()),
            // As the kernel marks what is nested.
            nla(WGDEVICE_A_PEERS | 1 << 15, &peers),
        ];
        parts.concat()
    }

    #[test]
    fn the_endpoints_of_all_peers_are_read() {
        let endpoints = ["198.51.100.9", "2001:db8::9"].map(|text| text.parse().expect("one"));
        let expected = Tunnel { endpoints: endpoints.into(), fwmark: 0x1000, ..Tunnel::default() };
        assert_eq!(read(&message(30, 2, 0, &device())), expected);
    }

    proptest! {
        #[test]
        fn damaged_messages_do_no_harm(at in 0_usize..200, byte in any::<u8>(), length in 0_usize..200) {
            let mut bytes = message(30, 2, 0, &device());
            let at = at.min(bytes.len() - 1);
            bytes[at] = byte;
            bytes.truncate(length);
            let _ = read(&bytes);
        }
    }
}
