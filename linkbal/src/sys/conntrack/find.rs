//! A look at one connection.

use std::{io, net::IpAddr};

use etherparse::{icmpv4::TYPE_ECHO_REQUEST, icmpv6::TYPE_ECHO_REQUEST as V6_ECHO_REQUEST};
use linkbal_common::{flow::FlowKey, uplink::Family};
use netlink_packet_core::{DefaultNla, NLM_F_ACK};
use netlink_packet_netfilter::conntrack::{
    ConntrackAttribute, ConntrackMessage, IPTuple, ProtoTuple, Tuple,
};

use super::{
    CTA_PROTO_ICMP_CODE, CTA_PROTO_ICMP_ID, CTA_PROTO_ICMP_TYPE, CTA_PROTO_ICMPV6_CODE,
    CTA_PROTO_ICMPV6_ID, CTA_PROTO_ICMPV6_TYPE, ConntrackSocket, adopt::ends, is_offloaded,
};
use crate::protocol;

/// Attributes of a tuple: the identifier, and type and code of echo requests.
const ICMP_ECHO: (u16, [(u16, u8); 2]) =
    (CTA_PROTO_ICMP_ID, [(CTA_PROTO_ICMP_TYPE, TYPE_ECHO_REQUEST), (CTA_PROTO_ICMP_CODE, 0)]);
const ICMPV6_ECHO: (u16, [(u16, u8); 2]) =
    (CTA_PROTO_ICMPV6_ID, [(CTA_PROTO_ICMPV6_TYPE, V6_ECHO_REQUEST), (CTA_PROTO_ICMPV6_CODE, 0)]);

/// A connection as its packets are translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tracked {
    /// The source that the other end sees.
    pub translated_source: IpAddr,
    /// The source port that the other end sees, if there are ports.
    pub translated_port: Option<u16>,
    /// The address that answers.
    pub answered_by: IpAddr,
    /// The mark.
    pub mark: u32,
    /// Set if its packets take the kernel's flowtable.
    pub offloaded: bool,
}

/// Returns the connection of a flow, in the network namespace of the calling thread; `None` if none
/// is tracked.
///
/// # Errors
///
/// If the kernel does not tell.
pub fn find(key: &FlowKey, source: IpAddr, destination: IpAddr) -> io::Result<Option<Tracked>> {
    let mut proto = vec![ProtoTuple::Protocol(key.protocol.into())];
    match key.protocol {
        protocol::ICMP => proto.extend(echo(ICMP_ECHO, key.source_port)),
        protocol::ICMPV6 => proto.extend(echo(ICMPV6_ECHO, key.source_port)),
        _ if key.destination_port == 0 && key.source_port == 0 => {}
        _ => proto.extend([
            ProtoTuple::SourcePort(u16::from_be(key.source_port)),
            ProtoTuple::DestinationPort(u16::from_be(key.destination_port)),
        ]),
    }
    let addresses = vec![IPTuple::SourceAddress(source), IPTuple::DestinationAddress(destination)];
    let tuple = vec![Tuple::Ip(addresses), Tuple::Proto(proto)];
    let request = ConntrackMessage::Get(vec![ConntrackAttribute::CtaTupleOrig(tuple)]);
    let family = if source.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 };
    let mut found = None;
    let outcome = ConntrackSocket::open()?.exchange(family, request, NLM_F_ACK, |message| {
        if let ConntrackMessage::New(entry) = message {
            found = tracked(&entry, source);
        }
    });
    match outcome {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        other => other.map(|()| found),
    }
}

fn echo((identifier, others): (u16, [(u16, u8); 2]), id: u16) -> impl Iterator<Item = ProtoTuple> {
    let others = others.map(|(kind, value)| DefaultNla::new(kind, vec![value]));
    let id = DefaultNla::new(identifier, id.to_ne_bytes().to_vec());
    std::iter::once(id).chain(others).map(ProtoTuple::Other)
}

/// Reads an entry as seen from `source`. A tuple also finds the connection that it answers: what came in
/// by a forwarded port, for example; its packets then have the other end of what was sent to.
fn tracked(entry: &Vec<ConntrackAttribute>, source: IpAddr) -> Option<Tracked> {
    let ends = ends(entry)?;
    let is_answer = ends.source != source && ends.reply_source == source;
    let other = entry.iter().find_map(|attribute| match attribute {
        ConntrackAttribute::CtaTupleOrig(tuple) if is_answer => Some(tuple),
        ConntrackAttribute::CtaTupleReply(tuple) if !is_answer => Some(tuple),
        _ => None,
    })?;
    let ports = other.iter().find_map(|part| match part {
        Tuple::Proto(parts) => Some(parts),
        _ => None,
    });
    let translated_port = ports.into_iter().flatten().find_map(|part| match part {
        ProtoTuple::DestinationPort(port) => Some(*port),
        _ => None,
    });
    Some(Tracked {
        translated_source: if is_answer { ends.destination } else { ends.reply_destination },
        translated_port,
        answered_by: if is_answer { ends.source } else { ends.reply_source },
        mark: ends.mark,
        offloaded: is_offloaded(entry),
    })
}
