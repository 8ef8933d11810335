//! Generic netlink: requests to a family of the kernel that is found by its name.

use std::io;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NlaBuffer, NlasIterator};
use netlink_sys::protocols::NETLINK_GENERIC;

use super::{
    exchange::Connection,
    wire::{Message, nla, request},
};

/// Constants of include/uapi/linux/genetlink.h.
const GENL_ID_CTRL: u16 = libc::GENL_ID_CTRL as u16;
const CTRL_CMD_GETFAMILY: u8 = libc::CTRL_CMD_GETFAMILY as u8;
const CTRL_ATTR_FAMILY_ID: u16 = libc::CTRL_ATTR_FAMILY_ID as u16;
const CTRL_ATTR_FAMILY_NAME: u16 = libc::CTRL_ATTR_FAMILY_NAME as u16;

/// Length of `struct genlmsghdr`.
const GENERIC_HEADER: usize = 4;

/// Hands each message of a dump to `each`, without its headers. `family` ends with a zero.
///
/// Blocks for the kernel's answer, which comes at once, in the network namespace of the calling
/// thread.
///
/// # Errors
///
/// As the kernel answers: `ENOENT` if it has no such family.
pub(in crate::sys) fn dump(
    family: &[u8],
    command: u8,
    attributes: &[u8],
    mut each: impl FnMut(&[u8]),
) -> io::Result<()> {
    let mut connection = Connection::open(NETLINK_GENERIC)?;
    let name = nla(CTRL_ATTR_FAMILY_NAME, family);
    let mut family = None;
    connection.exchange(message(GENL_ID_CTRL, NLM_F_ACK, CTRL_CMD_GETFAMILY, &name), |answer| {
        let id = nlas(body(answer)).find(|nla| nla.kind() == CTRL_ATTR_FAMILY_ID);
        family = id.and_then(|id| Some(u16::from_ne_bytes(id.value().try_into().ok()?))).or(family);
        Ok(())
    })?;
    let family = family.ok_or(io::ErrorKind::NotFound)?;
    connection.exchange(message(family, NLM_F_DUMP, command, attributes), |answer| {
        each(body(answer));
        Ok(())
    })
}

/// Returns a message without its headers.
pub(in crate::sys) fn body<'a>(message: &Message<'a>) -> &'a [u8] {
    message.payload.get(GENERIC_HEADER..).unwrap_or_default()
}

/// Returns the attributes up to the first that is damaged.
pub(in crate::sys) fn nlas(bytes: &[u8]) -> impl Iterator<Item = NlaBuffer<&[u8]>> {
    NlasIterator::new(bytes).map_while(Result::ok)
}

/// Returns a request of a family.
pub(in crate::sys) fn message(kind: u16, flags: u16, command: u8, attributes: &[u8]) -> Vec<u8> {
    request(kind, flags, &[&[command, 1, 0, 0], attributes].concat())
}
