//! The clsact qdisc of an interface, over rtnetlink: the program `tc` could hang.

use std::io;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{
    RouteNetlinkMessage,
    tc::{TcAttribute, TcHandle, TcMessage},
};
use netlink_sys::protocols::NETLINK_ROUTE;

use crate::sys::netlink::exchange::Connection;

/// The kind of the qdisc.
pub(super) const KIND: &str = "clsact";

/// `TC_H_CLSACT` (include/uapi/linux/pkt_sched.h) as a parent: that of the qdisc ingress, too.
const PARENT: TcHandle = TcHandle { major: 0xffff, minor: 0xfff1 };

/// Returns the kind of the qdisc in its place at an interface; `None` without one.
///
/// # Errors
///
/// If the kernel does not list its qdiscs.
pub(super) fn kind(ifindex: u32) -> io::Result<Option<String>> {
    let mut found = None;
    let request = RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default());
    exchange(request, NLM_F_DUMP, |message| {
        if let RouteNetlinkMessage::NewQueueDiscipline(qdisc) = message
            && u32::try_from(qdisc.header.index) == Ok(ifindex)
            && qdisc.header.parent == PARENT
        {
            found = qdisc.attributes.into_iter().find_map(|attribute| match attribute {
                TcAttribute::Kind(kind) => Some(kind),
                _ => None,
            });
        }
    })?;
    Ok(found)
}

/// Removes the qdisc of an interface, with all its filters.
///
/// # Errors
///
/// As the kernel answers.
pub(super) fn delete(ifindex: u32) -> io::Result<()> {
    let mut message = TcMessage::default();
    message.header.index = i32::try_from(ifindex).map_err(io::Error::other)?;
    message.header.parent = PARENT;
    message.header.handle = TcHandle { major: PARENT.major, minor: 0 };
    message.attributes.push(TcAttribute::Kind(KIND.to_owned()));
    exchange(RouteNetlinkMessage::DelQueueDiscipline(message), NLM_F_ACK, |_| {})
}

/// Sends a request in the network namespace of the calling thread, and hands each answer to `each`.
fn exchange(
    request: RouteNetlinkMessage,
    flags: u16,
    mut each: impl FnMut(RouteNetlinkMessage),
) -> io::Result<()> {
    let mut message = NetlinkMessage::from(request);
    message.header.flags = flags | NLM_F_REQUEST;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    Connection::open(NETLINK_ROUTE)?.exchange(bytes, |answer| {
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(answer.whole);
        if let NetlinkPayload::InnerMessage(message) = message.map_err(io::Error::other)?.payload {
            each(message);
        }
        Ok(())
    })
}
