//! Adoption of connections without a mark: they get one, or are forgotten, over ctnetlink
//! (net/netfilter/nf_conntrack_netlink.c).

use std::{io, net::IpAddr, path::Path};

use anyhow::{Context as _, Result};
use linkbal_common::{
    flow::FlowKey,
    uplink::{Family, MAX_UPLINKS},
};
use netlink_packet_core::{DefaultNla, NLM_F_ACK, NLM_F_DUMP, Nla as _};
use netlink_packet_netfilter::conntrack::{
    ConntrackAttribute, ConntrackMessage, IPTuple, ProtoTuple, Protocol, Tuple,
};

use super::{CTA_MARK_MASK, CTA_PROTO_ICMP_ID, CTA_PROTO_ICMPV6_ID, ConntrackSocket};
use crate::{
    engine::kernel::{
        attribution::{Adoption, Attribution, Ends},
        desired::LIBERAL,
    },
    protocol::TCP,
    sys::{
        datapath::{flows::FlowTable, in_words},
        sysctl,
    },
};

/// Attributes that identify an entry (include/uapi/linux/netfilter/nfnetlink_conntrack.h).
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;

/// Attributes of the state of TCP, of the same, and a flag (nf_conntrack_tcp.h beside it).
const CTA_PROTOINFO: u16 = 4;
const CTA_PROTOINFO_TCP: u16 = 1;
const CTA_PROTOINFO_TCP_FLAGS_ORIGINAL: u16 = 4;
const CTA_PROTOINFO_TCP_FLAGS_REPLY: u16 = 5;
const IP_CT_TCP_FLAG_BE_LIBERAL: u8 = 0x08;

/// Flag of an attribute that holds others (include/uapi/linux/netlink.h).
const NLA_F_NESTED: u16 = libc::NLA_F_NESTED as u16;

/// The number of connections that were changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Adopted {
    /// Number of connections that got a mark.
    pub marked: usize,
    /// Number of connections that were forgotten.
    pub forgotten: usize,
}

/// Marks or forgets connections without a mark, in the network namespace of the calling thread.
///
/// # Errors
///
/// If the flow table cannot be read or the connections cannot be listed. A connection whose change
/// is refused is left as it is: it has ended meanwhile.
pub fn adopt(adoption: &Adoption, maps: &Path) -> Result<Adopted> {
    let flows = FlowTable::open(maps)?.into_entries()?;
    let mut pass = Pass::open()?;
    let mut outcome = Adopted::default();
    for family in Family::ALL {
        let entries = pass.unmarked(adoption, family).context("failed to list connections")?;
        for entry in &entries {
            let Some(ends) = ends(entry) else { continue };
            match adoption.judge(&ends) {
                Attribution::Keep => {}
                Attribution::Mark(mark) => {
                    let mask = adoption.mask.connection();
                    count(&mut outcome.marked, &pass.set_mark(entry, family, mark, mask));
                }
                Attribution::AsItLeft { translating } => {
                    let flow = key(entry).and_then(|key| flows.get(&key));
                    let Some(flow) = flow.filter(|flow| flow.uplink < MAX_UPLINKS as u32) else {
                        continue;
                    };
                    if translating & 1 << flow.uplink != 0 {
                        count(&mut outcome.forgotten, &pass.delete(entry, family));
                    } else {
                        let (mark, mask) =
                            (adoption.mask.encode(flow.uplink), adoption.mask.connection());
                        count(&mut outcome.marked, &pass.set_mark(entry, family, mark, mask));
                    }
                }
            }
        }
    }
    Ok(outcome)
}

/// Adds one to `number` if a change was not refused.
fn count(number: &mut usize, done: &io::Result<()>) {
    *number = number.saturating_add(usize::from(done.is_ok()));
}

/// Clears the bits of `mask` in the marks of all connections, in the network namespace of the
/// calling thread: without linkbal they mean nothing, and later they could mean another uplink.
///
/// # Errors
///
/// If the connections cannot be listed.
pub fn release(mask: u32) -> Result<()> {
    let mut pass = Pass::open()?;
    for family in Family::ALL {
        let entries = pass.list(family, Vec::new()).context("failed to list connections")?;
        let marked =
            |entry: &&ConntrackEntry| ends(entry).is_some_and(|ends| ends.mark & mask != 0);
        for entry in entries.iter().filter(marked) {
            // A connection whose change is refused has ended meanwhile.
            let _ = pass.set_mark(entry, family, 0, mask);
        }
    }
    Ok(())
}

/// Makes connection tracking take the packets of all TCP connections with bits of `mask` in their marks,
/// whatever their numbers, as it does for all connections while a sysctl says so. It does not know the
/// numbers of packets that took shortcuts: without the sysctl, what follows would be invalid, and neither
/// be translated nor answered by a reset. In the network namespace of the calling thread.
///
/// # Errors
///
/// If the connections cannot be listed.
pub fn keep_liberal(mask: u32) -> Result<()> {
    if sysctl::read(LIBERAL).as_deref() != Some("1") {
        return Ok(());
    }
    let mut pass = Pass::open()?;
    for family in Family::ALL {
        let entries = pass.list(family, Vec::new()).context("failed to list connections")?;
        let is_tcp = |entry: &ConntrackEntry| key(entry).is_some_and(|key| key.protocol == TCP);
        let marked = |entry: &&ConntrackEntry| {
            is_tcp(entry) && ends(entry).is_some_and(|ends| ends.mark & mask != 0)
        };
        for entry in entries.iter().filter(marked) {
            // A connection whose change is refused has ended meanwhile.
            let _ = pass.set_liberal(entry, family);
        }
    }
    Ok(())
}

/// Returns the state of TCP that has both directions taken whatever their numbers: nested attributes, with
/// flags and their mask (`nlattr_to_tcp` in net/netfilter/nf_conntrack_proto_tcp.c).
fn liberal() -> DefaultNla {
    // A header of four bytes and two of flags, up to a multiple of four; then both behind a header.
    const ONE: u16 = 6;
    const BOTH: u16 = 4 + 2 * 8;
    let flags = |kind: u16| {
        let ([a, b], [c, d]) = (ONE.to_ne_bytes(), kind.to_ne_bytes());
        [a, b, c, d, IP_CT_TCP_FLAG_BE_LIBERAL, IP_CT_TCP_FLAG_BE_LIBERAL, 0, 0]
    };
    let both =
        [CTA_PROTOINFO_TCP_FLAGS_ORIGINAL, CTA_PROTOINFO_TCP_FLAGS_REPLY].map(flags).concat();
    let header = [BOTH, CTA_PROTOINFO_TCP | NLA_F_NESTED].map(u16::to_ne_bytes).concat();
    DefaultNla::new(CTA_PROTOINFO | NLA_F_NESTED, [header, both].concat())
}

type ConntrackEntry = Vec<ConntrackAttribute>;

/// A pass over all connections.
struct Pass(ConntrackSocket);

impl Pass {
    fn open() -> Result<Pass> {
        ConntrackSocket::open().map(Pass).context("failed to open a socket for connections")
    }

    /// Lists the entries whose mark has none of linkbal's bits.
    fn unmarked(&mut self, adoption: &Adoption, family: Family) -> io::Result<Vec<ConntrackEntry>> {
        let mask = adoption.mask.connection().to_be_bytes().to_vec();
        let filter = vec![
            ConntrackAttribute::CtaMark(0),
            ConntrackAttribute::Other(DefaultNla::new(CTA_MARK_MASK, mask)),
        ];
        self.list(family, filter)
    }

    /// Lists the entries of a family that match a filter of the kernel.
    fn list(
        &mut self,
        family: Family,
        filter: Vec<ConntrackAttribute>,
    ) -> io::Result<Vec<ConntrackEntry>> {
        let mut entries = Vec::new();
        let request = ConntrackMessage::Get(filter);
        self.0.exchange(family, request, NLM_F_DUMP, |message| {
            if let ConntrackMessage::New(attributes) = message {
                entries.push(attributes);
            }
        })?;
        Ok(entries)
    }

    fn set_mark(
        &mut self,
        entry: &ConntrackEntry,
        family: Family,
        mark: u32,
        mask: u32,
    ) -> io::Result<()> {
        let mut attributes = identity(entry);
        attributes.push(ConntrackAttribute::CtaMark(mark));
        let mask = DefaultNla::new(CTA_MARK_MASK, mask.to_be_bytes().to_vec());
        attributes.push(ConntrackAttribute::Other(mask));
        self.0.exchange(family, ConntrackMessage::New(attributes), NLM_F_ACK, |_| {})
    }

    fn set_liberal(&mut self, entry: &ConntrackEntry, family: Family) -> io::Result<()> {
        let mut attributes = identity(entry);
        attributes.push(ConntrackAttribute::Other(liberal()));
        self.0.exchange(family, ConntrackMessage::New(attributes), NLM_F_ACK, |_| {})
    }

    fn delete(&mut self, entry: &ConntrackEntry, family: Family) -> io::Result<()> {
        let deletion = ConntrackMessage::Delete(identity(entry));
        self.0.exchange(family, deletion, NLM_F_ACK, |_| {})
    }
}

/// Returns the attributes that identify an entry, even among others with the same ends.
pub(in crate::sys) fn identity(entry: &ConntrackEntry) -> Vec<ConntrackAttribute> {
    let names = |attribute: &&ConntrackAttribute| match attribute {
        ConntrackAttribute::CtaTupleOrig(_) => true,
        ConntrackAttribute::Other(other) => [CTA_ID, CTA_ZONE].contains(&other.kind()),
        _ => false,
    };
    entry.iter().filter(names).cloned().collect()
}

pub(in crate::sys) fn ends(entry: &ConntrackEntry) -> Option<Ends> {
    let original = entry.iter().find_map(|attribute| match attribute {
        ConntrackAttribute::CtaTupleOrig(tuple) => addresses(tuple),
        _ => None,
    });
    let reply = entry.iter().find_map(|attribute| match attribute {
        ConntrackAttribute::CtaTupleReply(tuple) => addresses(tuple),
        _ => None,
    });
    let mark = entry.iter().find_map(|attribute| match attribute {
        ConntrackAttribute::CtaMark(mark) => Some(*mark),
        _ => None,
    });
    let ((source, destination), (reply_source, reply_destination)) = (original?, reply?);
    let mark = mark.unwrap_or_default();
    Some(Ends { source, destination, reply_source, reply_destination, mark })
}

fn addresses(tuple: &[Tuple]) -> Option<(IpAddr, IpAddr)> {
    let parts = tuple.iter().find_map(|part| match part {
        Tuple::Ip(parts) => Some(parts),
        _ => None,
    })?;
    let (mut source, mut destination) = (None, None);
    for part in parts {
        match part {
            IPTuple::SourceAddress(address) => source = Some(*address),
            IPTuple::DestinationAddress(address) => destination = Some(*address),
            _ => {}
        }
    }
    Some((source?, destination?))
}

/// Returns the key of an entry's flow in the flow table, seen from the host that began it.
pub(in crate::sys) fn key(entry: &ConntrackEntry) -> Option<FlowKey> {
    let tuple = entry.iter().find_map(|attribute| match attribute {
        ConntrackAttribute::CtaTupleOrig(tuple) => Some(tuple),
        _ => None,
    })?;
    let (source, destination) = addresses(tuple)?;
    let ((family, source), (_, destination)) = (in_words(source), in_words(destination));
    let mut key = FlowKey { source, destination, family: family as u8, ..FlowKey::default() };
    let parts = tuple.iter().find_map(|part| match part {
        Tuple::Proto(parts) => Some(parts),
        _ => None,
    })?;
    for part in parts {
        match part {
            ProtoTuple::Protocol(protocol) => key.protocol = protocol_number(*protocol),
            ProtoTuple::SourcePort(port) => key.source_port = port.to_be(),
            ProtoTuple::DestinationPort(port) => key.destination_port = port.to_be(),
            ProtoTuple::Other(other)
                if [CTA_PROTO_ICMP_ID, CTA_PROTO_ICMPV6_ID].contains(&other.kind()) =>
            {
                let mut id = [0; 2];
                if other.value_len() == id.len() {
                    other.emit_value(&mut id);
                    key.source_port = u16::from_ne_bytes(id);
                }
            }
            _ => {}
        }
    }
    Some(key)
}

fn protocol_number(protocol: Protocol) -> u8 {
    protocol.into()
}
