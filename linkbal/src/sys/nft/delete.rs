//! Deletion of a table without the program `nft`, which may hang: over nfnetlink
//! (net/netfilter/nf_tables_api.c).

use std::{io, time::Duration};

use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST, NLMSG_ERROR};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

use crate::sys::{
    events::messages::{NFNL_SUBSYS_NFTABLES, NFPROTO_INET, NFTA_TABLE},
    netlink::wire::{HEADER, NETFILTER_HEADER, nla},
};

/// Constants of include/uapi/linux/netfilter/nfnetlink.h and nf_tables.h.
const NFNL_MSG_BATCH_BEGIN: u16 = libc::NFNL_MSG_BATCH_BEGIN as u16;
const NFNL_MSG_BATCH_END: u16 = libc::NFNL_MSG_BATCH_END as u16;
const NFT_MSG_DELTABLE: u16 = NFNL_SUBSYS_NFTABLES << 8 | libc::NFT_MSG_DELTABLE as u16;

/// Sequence number of the message that is acknowledged.
const DELETION: u32 = 2;

/// Time that the kernel may take: others may write large tables at the same time.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Deletes the table of that name and of family `inet`, with all that is in it, in the network
/// namespace of the calling thread; returns whether it was there.
///
/// # Errors
///
/// As the kernel answers.
pub(super) fn delete(name: &str) -> io::Result<bool> {
    let socket = Socket::new(NETLINK_NETFILTER)?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let timeout = nix::sys::time::TimeVal::new(TIMEOUT.as_secs() as i64, 0);
    nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::ReceiveTimeout, &timeout)?;
    socket.send(&batch(name), 0)?;
    loop {
        let (answer, _) = socket.recv_from_full()?;
        if let Some(errno) = outcome(&answer) {
            return match errno.saturating_neg() {
                0 => Ok(true),
                libc::ENOENT => Ok(false),
                errno => Err(io::Error::from_raw_os_error(errno)),
            };
        }
    }
}

/// Builds a transaction of one deletion.
fn batch(name: &str) -> Vec<u8> {
    let attribute = nla(NFTA_TABLE, &[name.as_bytes(), &[0]].concat());
    [
        message(NFNL_MSG_BATCH_BEGIN, 0, 1, 0, NFNL_SUBSYS_NFTABLES, &[]),
        message(NFT_MSG_DELTABLE, NLM_F_ACK, DELETION, NFPROTO_INET, 0, &attribute),
        message(NFNL_MSG_BATCH_END, 0, 3, 0, NFNL_SUBSYS_NFTABLES, &[]),
    ]
    .concat()
}

/// Builds a message of `struct nlmsghdr`, `struct nfgenmsg` and a payload.
fn message(
    kind: u16,
    flags: u16,
    sequence: u32,
    family: u8,
    resource: u16,
    payload: &[u8],
) -> Vec<u8> {
    let mut bytes =
        (payload.len().saturating_add(HEADER + NETFILTER_HEADER) as u32).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((flags | NLM_F_REQUEST).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend([family, 0]);
    bytes.extend(resource.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Returns the kernel's result of the transaction: 0, or a negative errno. An error of its
/// beginning or its end counts, too.
fn outcome(answer: &[u8]) -> Option<i32> {
    let mut rest = answer;
    while let Some((header, _)) = rest.split_at_checked(HEADER) {
        let length = u32::from_ne_bytes(header[..4].try_into().ok()?) as usize;
        let kind = u16::from_ne_bytes(header[4..6].try_into().ok()?);
        let sequence = u32::from_ne_bytes(header[8..12].try_into().ok()?);
        let code = rest.get(HEADER..HEADER + 4)?;
        let code = i32::from_ne_bytes(code.try_into().ok()?);
        if kind == NLMSG_ERROR && (sequence == DELETION || code != 0) {
            return Some(code);
        }
        rest = rest.get(length.max(HEADER).next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(sequence: u32, code: i32) -> Vec<u8> {
        let mut bytes = 36_u32.to_ne_bytes().to_vec();
        bytes.extend(NLMSG_ERROR.to_ne_bytes());
        bytes.extend([0; 2]);
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(code.to_ne_bytes());
        bytes.resize(36, 0);
        bytes
    }

    #[test]
    fn the_outcome_is_that_of_the_deletion() {
        assert_eq!(outcome(&error(DELETION, 0)), Some(0));
        assert_eq!(outcome(&[error(1, 0), error(DELETION, -libc::ENOENT)].concat()), Some(-2));
        assert_eq!(outcome(&error(1, -libc::EPERM)), Some(-1));
        assert_eq!(outcome(&error(1, 0)), None);
        for cut in 0..36 {
            assert_eq!(outcome(&error(DELETION, 0)[..cut]), (cut >= 20).then_some(0), "{cut}");
        }
    }

    #[test]
    fn messages_are_as_long_as_they_say() {
        let bytes = batch("linkbal");
        assert_eq!(bytes.len(), 20 + 32 + 20);
        assert_eq!(bytes[20..24], 32_u32.to_ne_bytes());
    }
}
