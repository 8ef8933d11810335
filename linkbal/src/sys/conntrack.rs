//! Connection tracking entries over ctnetlink.

pub mod accounting;
pub mod adopt;
pub mod find;

use std::io;

use anyhow::{Context as _, Result};
use linkbal_common::uplink::Family;
use netlink_packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
    conntrack::{ConntrackAttribute, ConntrackMessage},
};
use netlink_sys::protocols::NETLINK_NETFILTER;

use super::netlink::exchange::Connection;

/// Attributes of a connection (include/uapi/linux/netfilter/nfnetlink_conntrack.h).
const CTA_STATUS: u16 = 3;
pub(super) const CTA_MARK_MASK: u16 = 21;
const CTA_STATUS_MASK: u16 = 26;

/// Attributes of a tuple, of the same: identifier, type and code of ICMP and ICMPv6.
const CTA_PROTO_ICMP_ID: u16 = 4;
const CTA_PROTO_ICMP_TYPE: u16 = 5;
const CTA_PROTO_ICMP_CODE: u16 = 6;
const CTA_PROTO_ICMPV6_ID: u16 = 7;
const CTA_PROTO_ICMPV6_TYPE: u16 = 8;
const CTA_PROTO_ICMPV6_CODE: u16 = 9;

/// The bit of connections in a flowtable (include/uapi/linux/netfilter/nf_conntrack_common.h).
const IPS_OFFLOAD: u32 = 1 << 14;

/// Number of the subsystem, and first message type that is not of netlink itself.
const NFNL_SUBSYS_CTNETLINK: u16 = libc::NFNL_SUBSYS_CTNETLINK as u16;
const NLMSG_MIN_TYPE: u16 = libc::NLMSG_MIN_TYPE as u16;

/// Version that makes the kernel heed the family of a deletion; with 0 it would not
/// (`ctnetlink_del_conntrack` in net/netfilter/nf_conntrack_netlink.c).
const HONOUR_FAMILY: u8 = 1;

/// Deletes the entries of `family` whose mark is `fwmark` under `mask`; that there are none is a
/// success.
///
/// Blocks while the kernel walks its table, in the network namespace of the calling thread.
pub fn delete(family: Family, fwmark: u32, mask: u32) -> Result<()> {
    let mask = DefaultNla::new(CTA_MARK_MASK, mask.to_be_bytes().to_vec());
    let attributes = vec![ConntrackAttribute::CtaMark(fwmark), ConntrackAttribute::Other(mask)];
    let deletion = ConntrackMessage::Delete(attributes);
    let outcome = ConntrackSocket::open()
        .and_then(|mut socket| socket.exchange(family, deletion, NLM_F_ACK, |_| {}));
    match outcome.as_ref().err().and_then(io::Error::raw_os_error) {
        Some(libc::ENOENT) => Ok(()),
        _ => outcome.with_context(|| {
            format!("failed to delete {} connections of fwmark {fwmark:#x}", family.name())
        }),
    }
}

/// Returns the number of connections that are in a flowtable, whoever has added them.
///
/// Blocks while the kernel walks its table, in the network namespace of the calling thread.
///
/// # Errors
///
/// If they cannot be listed.
pub fn offloaded() -> Result<u64> {
    let word = |kind, value: u32| {
        ConntrackAttribute::Other(DefaultNla::new(kind, value.to_be_bytes().to_vec()))
    };
    let listed = "failed to list the connections in flowtables";
    let mut socket = ConntrackSocket::open().context(listed)?;
    let mut count: u64 = 0;
    for family in Family::ALL {
        // Before Linux 5.18 the kernel lists all of them.
        let filter = vec![word(CTA_STATUS, IPS_OFFLOAD), word(CTA_STATUS_MASK, IPS_OFFLOAD)];
        let request = ConntrackMessage::Get(filter);
        let outcome = socket.exchange(family, request, NLM_F_DUMP, |message| {
            if let ConntrackMessage::New(entry) = message
                && is_offloaded(&entry)
            {
                count = count.saturating_add(1);
            }
        });
        outcome.context(listed)?;
    }
    Ok(count)
}

fn is_offloaded(entry: &[ConntrackAttribute]) -> bool {
    entry.iter().any(|attribute| match attribute {
        ConntrackAttribute::CtaStatus(status) => status.bits() & IPS_OFFLOAD != 0,
        _ => false,
    })
}

/// A socket for requests to connection tracking.
pub(super) struct ConntrackSocket(Connection);

impl ConntrackSocket {
    /// Opens a socket in the network namespace of the calling thread.
    pub(super) fn open() -> io::Result<ConntrackSocket> {
        Connection::open(NETLINK_NETFILTER).map(ConntrackSocket)
    }

    /// Sends a request for a family and hands each answer of the kernel to `each`; returns once the
    /// kernel has acknowledged the request or sent everything.
    ///
    /// # Errors
    ///
    /// As the kernel answers.
    pub(super) fn exchange(
        &mut self,
        family: Family,
        message: ConntrackMessage,
        flags: u16,
        mut each: impl FnMut(ConntrackMessage),
    ) -> io::Result<()> {
        self.0.exchange(request(family, message, flags), |answer| {
            match read(answer.whole)?.payload {
                NetlinkPayload::InnerMessage(NetfilterMessage {
                    inner: NetfilterMessageInner::Conntrack(message),
                    ..
                }) => {
                    each(message);
                    Ok(())
                }
                _ => Err(io::Error::other("the kernel answered something else")),
            }
        })
    }
}

/// Returns a request for a family, with further flags, as bytes.
fn request(family: Family, message: ConntrackMessage, flags: u16) -> Vec<u8> {
    let header = NetfilterHeader::new(protocol_family(family), HONOUR_FAMILY, 0);
    let mut message = NetlinkMessage::from(NetfilterMessage::new(header, message));
    message.header.flags = NLM_F_REQUEST | flags;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// Reads the first message. Messages of other subsystems are refused without being parsed.
pub(super) fn read(bytes: &[u8]) -> io::Result<NetlinkMessage<NetfilterMessage>> {
    let kind = bytes.get(4..).and_then(|rest| rest.first_chunk());
    let kind = kind.map_or(0, |kind| u16::from_ne_bytes(*kind));
    if kind >= NLMSG_MIN_TYPE && kind >> 8 != NFNL_SUBSYS_CTNETLINK {
        return Err(io::Error::other("the kernel answered something else"));
    }
    NetlinkMessage::deserialize(bytes).map_err(io::Error::other)
}

const fn protocol_family(family: Family) -> NetfilterProtoFamily {
    match family {
        Family::Ipv4 => NetfilterProtoFamily::IPv4,
        Family::Ipv6 => NetfilterProtoFamily::IPv6,
    }
}
