//! Connection tracking entries over ctnetlink.

use std::io;

use anyhow::{Context as _, Result};
use linkbal_common::uplink::Family;
use netlink_packet_core::{DefaultNla, NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterProtoFamily,
    conntrack::{ConntrackAttribute, ConntrackMessage},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

/// `CTA_MARK_MASK` of include/uapi/linux/netfilter/nfnetlink_conntrack.h.
const CTA_MARK_MASK: u16 = 21;

/// With version 0 the kernel would ignore the family of a deletion
/// (`ctnetlink_del_conntrack` in net/netfilter/nf_conntrack_netlink.c).
const HONOUR_FAMILY: u8 = 1;

/// Deletes the entries of `family` whose mark is `fwmark` under `mask`; none is a success.
///
/// Blocks while the kernel walks its table, in the network namespace of the calling thread.
pub fn forget(family: Family, fwmark: u32, mask: u32) -> Result<()> {
    let outcome = request(deletion(family, fwmark, mask));
    match outcome.as_ref().err().and_then(io::Error::raw_os_error) {
        Some(libc::ENOENT) => Ok(()),
        _ => outcome.with_context(|| {
            format!("failed to delete {} connections of fwmark {fwmark:#x}", family.name())
        }),
    }
}

fn deletion(family: Family, fwmark: u32, mask: u32) -> NetfilterMessage {
    let family = match family {
        Family::Ipv4 => NetfilterProtoFamily::IPv4,
        Family::Ipv6 => NetfilterProtoFamily::IPv6,
    };
    let mask = DefaultNla::new(CTA_MARK_MASK, mask.to_be_bytes().to_vec());
    let attributes = vec![ConntrackAttribute::CtaMark(fwmark), ConntrackAttribute::Other(mask)];
    NetfilterMessage::new(
        NetfilterHeader::new(family, HONOUR_FAMILY, 0),
        ConntrackMessage::Delete(attributes),
    )
}

fn request(message: NetfilterMessage) -> io::Result<()> {
    let mut message = NetlinkMessage::from(message);
    message.header.flags = NLM_F_REQUEST | NLM_F_ACK;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);

    let socket = Socket::new(NETLINK_NETFILTER)?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&bytes, 0)?;
    let (reply, _) = socket.recv_from_full()?;
    let reply =
        NetlinkMessage::<NetfilterMessage>::deserialize(&reply).map_err(io::Error::other)?;
    match reply.payload {
        NetlinkPayload::Error(error) if error.code.is_none() => Ok(()),
        NetlinkPayload::Error(error) => Err(error.to_io()),
        _ => Err(io::Error::other("the kernel sent no acknowledgement")),
    }
}
