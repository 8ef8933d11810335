//! Generic netlink: requests to a family of the kernel that is found by its name.

use std::io;

use netlink_packet_core::{NLM_F_DUMP, NLMSG_DONE, NLMSG_ERROR, NlaBuffer, NlasIterator};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_GENERIC};

use super::wire::{HEADER, nla, request};

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
    let socket = Socket::new(NETLINK_GENERIC)?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let name = nla(CTRL_ATTR_FAMILY_NAME, family);
    socket.send(&message(GENL_ID_CTRL, 0, CTRL_CMD_GETFAMILY, &name), 0)?;
    let (reply, _) = socket.recv_from_full()?;
    let mut family = None;
    each_message(&reply, |body| {
        let id = nlas(body).find(|nla| nla.kind() == CTRL_ATTR_FAMILY_ID);
        family = id.and_then(|id| Some(u16::from_ne_bytes(id.value().try_into().ok()?))).or(family);
    })?;
    let family = family.ok_or(io::ErrorKind::NotFound)?;

    let request = message(family, NLM_F_DUMP, command, attributes);
    // An acknowledgement of the first request may not be among the answers: a socket of its own.
    let socket = Socket::new(NETLINK_GENERIC)?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&request, 0)?;
    loop {
        let (reply, _) = socket.recv_from_full()?;
        if each_message(&reply, &mut each)? {
            return Ok(());
        }
    }
}

/// Returns the attributes up to the first that is damaged.
pub(in crate::sys) fn nlas(bytes: &[u8]) -> impl Iterator<Item = NlaBuffer<&[u8]>> {
    NlasIterator::new(bytes).map_while(Result::ok)
}

/// Returns a request of a family.
pub(in crate::sys) fn message(kind: u16, flags: u16, command: u8, attributes: &[u8]) -> Vec<u8> {
    request(kind, flags, &[&[command, 1, 0, 0], attributes].concat())
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
    use super::*;

    #[test]
    fn a_refusal_is_an_error() {
        let mut bytes = message(NLMSG_ERROR, 0, 0, &[]);
        bytes[HEADER..].copy_from_slice(&(-libc::ENODEV).to_ne_bytes());
        let error = each_message(&bytes, |_| {}).expect_err("a refusal");
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
    }
}
