//! Addresses of packet sockets.

use etherparse::EtherType;
use socket2::SockAddr;

/// Returns the address of a packet socket (packet(7)).
pub(super) fn link_address(ifindex: u32, ether_type: EtherType, mac: [u8; 6]) -> SockAddr {
    let mut sll_addr = [0; 8];
    sll_addr[..mac.len()].copy_from_slice(&mac);
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as libc::sa_family_t,
        sll_protocol: ether_type.0.to_be(),
        sll_ifindex: ifindex as libc::c_int,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: mac.len() as u8,
        sll_addr,
    };
    // SAFETY: the storage is large enough for every kind of address, and the length is that of the
    // one that is written.
    let made = unsafe {
        SockAddr::try_init(|storage, length| {
            storage.cast::<libc::sockaddr_ll>().write(address);
            *length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            Ok(())
        })
    };
    made.expect("writing an address cannot fail").1
}
