//! The number of transactions that changed nftables: it tells whether something was written
//! meanwhile.

use std::io;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

use super::super::events::messages;

/// Returns the current number, in the network namespace of the calling thread.
pub(super) fn current() -> io::Result<u32> {
    let socket = Socket::new(NETLINK_NETFILTER)?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&messages::generation_request(), 0)?;
    let (reply, _) = socket.recv_from_full()?;
    messages::generation(&reply).ok_or_else(|| io::Error::other("no generation of nftables"))
}

/// Returns the number after one more transaction (`nf_tables_commit` in
/// net/netfilter/nf_tables_api.c leaves out zero).
pub(super) fn next(number: u32) -> u32 {
    number.wrapping_add(1).max(1)
}
