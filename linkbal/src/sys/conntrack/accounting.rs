//! Bytes of connections, as connection tracking counts them (`nf_conntrack_acct`).

use std::{
    hash::{BuildHasher as _, RandomState},
    io,
    ops::ControlFlow,
};

use anyhow::{Context as _, Result};
use linkbal_common::{flow::FlowKey, mark::MarkMask, uplink::Family};
use netlink_packet_core::{NLA_HEADER_SIZE, NLM_F_DUMP, NLMSG_DONE, NLMSG_ERROR, NlasIterator};
use netlink_packet_netfilter::conntrack::ConntrackMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

use super::{CTA_PROTO_ICMP_ID, CTA_PROTO_ICMPV6_ID, request};
use crate::{
    flows::record::Bytes,
    sys::{
        netlink::wire::{HEADER, NETFILTER_HEADER},
        sysctl,
    },
};

/// Attributes of include/uapi/linux/netfilter/nfnetlink_conntrack.h: of a connection, of a tuple, of
/// its addresses and its ports, and of its counters.
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_MARK: u16 = 8;
const CTA_COUNTERS_ORIG: u16 = 9;
const CTA_COUNTERS_REPLY: u16 = 10;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
const CTA_COUNTERS_BYTES: u16 = 2;

/// Size in bytes of the buffer that the kernel fills at a time; it sends no more than 32 KiB
/// (`netlink_recvmsg` in net/netlink/af_netlink.c).
const BUFFER: usize = 64 << 10;

/// Returns whether connection tracking counts the bytes of new connections in this network namespace.
pub fn is_on() -> bool {
    sysctl::read("net/netfilter/nf_conntrack_acct").is_some_and(|value| value != "0")
}

/// The bytes of connections, by a hash of the tuple: 24 bytes for each.
pub struct Accounting {
    hasher: RandomState,
    counted: Vec<(u64, Bytes)>,
}

impl Accounting {
    /// Reads the bytes of the connections whose tuple, as the LAN host sends it, is `wanted`, in the
    /// network namespace of the calling thread. `mask` says which connections came in by an uplink. It
    /// ends early if `goes_on` breaks off, which is asked now and then.
    ///
    /// # Errors
    ///
    /// If connections cannot be listed.
    pub fn read(
        mask: MarkMask,
        wanted: impl Fn(&FlowKey) -> bool,
        mut goes_on: impl FnMut() -> ControlFlow<()>,
    ) -> Result<Accounting> {
        let mut accounting = Accounting { hasher: RandomState::new(), counted: Vec::new() };
        for family in Family::ALL {
            let add = |message: &[u8]| {
                if let Some((key, bytes)) = connection(family, message, mask)
                    && wanted(&key)
                {
                    let hash = accounting.hasher.hash_one(key);
                    accounting.counted.push((hash, bytes));
                }
            };
            dump(family, add, &mut goes_on).context("failed to list connections")?;
        }
        accounting.counted.sort_unstable_by_key(|(hash, _)| *hash);
        Ok(accounting)
    }

    /// Returns the bytes of a flow; `None` if they are not counted.
    pub fn get(&self, key: &FlowKey) -> Option<Bytes> {
        let hash = self.hasher.hash_one(key);
        let at = self.counted.binary_search_by_key(&hash, |(hash, _)| *hash).ok()?;
        self.counted.get(at).map(|(_, bytes)| *bytes)
    }
}

/// Hands each connection of a family, as its message behind the header, to `each`.
fn dump(
    family: Family,
    mut each: impl FnMut(&[u8]),
    goes_on: &mut impl FnMut() -> ControlFlow<()>,
) -> io::Result<()> {
    let socket = Socket::new(NETLINK_NETFILTER)?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&request(family, ConntrackMessage::Get(Vec::new()), NLM_F_DUMP), 0)?;
    let mut buffer = Vec::with_capacity(BUFFER);
    loop {
        buffer.clear();
        socket.recv(&mut buffer, 0)?;
        if let ControlFlow::Break(ended) = messages(&buffer, &mut each) {
            return ended;
        }
        if goes_on().is_break() {
            return Ok(());
        }
    }
}

/// Hands the messages of one reading to `each`; breaks off with the outcome after the last one.
fn messages(bytes: &[u8], each: &mut impl FnMut(&[u8])) -> ControlFlow<io::Result<()>> {
    let mut rest = bytes;
    while let Some((header, body)) = rest.split_at_checked(HEADER) {
        let length = u32::from_ne_bytes(word(header).unwrap_or_default()) as usize;
        let kind = header.get(4..).and_then(|rest| rest.first_chunk());
        let kind = u16::from_ne_bytes(kind.copied().unwrap_or_default());
        let Some(body_len) = length.checked_sub(HEADER) else {
            return ControlFlow::Break(Err(io::Error::other("the kernel's answer is damaged")));
        };
        let body = body.get(..body_len).unwrap_or(body);
        match kind {
            NLMSG_DONE => return ControlFlow::Break(Ok(())),
            NLMSG_ERROR => {
                let error = word(body).map_or(libc::EIO, |word| i32::from_ne_bytes(word).abs());
                return ControlFlow::Break(Err(io::Error::from_raw_os_error(error)));
            }
            _ => each(body.get(NETFILTER_HEADER..).unwrap_or_default()),
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    ControlFlow::Continue(())
}

fn word(bytes: &[u8]) -> Option<[u8; 4]> {
    bytes.first_chunk().copied()
}

/// Returns the tuple of a connection as the LAN host sends it, and its bytes; `None` if it has no
/// counters.
fn connection(family: Family, message: &[u8], mask: MarkMask) -> Option<(FlowKey, Bytes)> {
    let (mut original, mut reply) = (&[][..], &[][..]);
    let (mut sent, mut answered, mut mark) = (None, None, 0);
    for (kind, value) in attributes(message) {
        match kind {
            CTA_TUPLE_ORIG => original = value,
            CTA_TUPLE_REPLY => reply = value,
            CTA_MARK => mark = u32::from_be_bytes(word(value)?),
            CTA_COUNTERS_ORIG => sent = counted(value),
            CTA_COUNTERS_REPLY => answered = counted(value),
            _ => {}
        }
    }
    let (sent, answered) = (sent?, answered?);
    if mark & mask.inbound() != 0 {
        // The LAN host answers it, with the address that it has itself.
        return Some((tuple(family, reply)?, Bytes { up: answered, down: sent }));
    }
    Some((tuple(family, original)?, Bytes { up: sent, down: answered }))
}

/// Returns the bytes of one direction.
fn counted(counters: &[u8]) -> Option<u64> {
    let (_, value) = attributes(counters).find(|(kind, _)| *kind == CTA_COUNTERS_BYTES)?;
    value.first_chunk().copied().map(u64::from_be_bytes)
}

/// Returns the key of a tuple.
fn tuple(family: Family, tuple: &[u8]) -> Option<FlowKey> {
    let mut key = FlowKey { family: family as u8, ..FlowKey::default() };
    for (kind, value) in attributes(tuple) {
        match kind {
            CTA_TUPLE_IP => {
                let addresses = attributes(value)
                    .filter(|(kind, _)| (CTA_IP_V4_SRC..=CTA_IP_V6_DST).contains(kind));
                for (kind, address) in addresses {
                    // Sources have odd numbers.
                    let to = if kind % 2 == 1 { &mut key.source } else { &mut key.destination };
                    let words = to.iter_mut().zip(address.chunks_exact(4));
                    words.for_each(|(to, bytes)| {
                        *to = u32::from_ne_bytes(word(bytes).unwrap_or_default());
                    });
                }
            }
            CTA_TUPLE_PROTO => ports(value, &mut key),
            _ => {}
        }
    }
    Some(key)
}

fn ports(attribute: &[u8], key: &mut FlowKey) {
    for (kind, value) in attributes(attribute) {
        let port = || value.first_chunk().copied().map_or(0, u16::from_ne_bytes);
        match kind {
            CTA_PROTO_NUM => key.protocol = value.first().copied().unwrap_or_default(),
            CTA_PROTO_SRC_PORT | CTA_PROTO_ICMP_ID | CTA_PROTO_ICMPV6_ID => {
                key.source_port = port();
            }
            CTA_PROTO_DST_PORT => key.destination_port = port(),
            _ => {}
        }
    }
}

/// Returns the attributes of a message, with their kinds; those behind a damaged one are left out.
fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(bytes).map_while(Result::ok).map(|attribute| {
        let (kind, length) = (attribute.kind(), usize::from(attribute.length()));
        (kind, attribute.into_inner().get(NLA_HEADER_SIZE..length).unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sys::netlink::wire::nla;

    fn end(source: [u8; 4], destination: [u8; 4], ports: [u16; 2]) -> Vec<u8> {
        let addresses = [nla(1, &source), nla(2, &destination)].concat();
        let [from, to] = ports.map(u16::to_be_bytes);
        let ports = [nla(1, &[6]), nla(2, &from), nla(3, &to)].concat();
        [nla(CTA_TUPLE_IP | 0x8000, &addresses), nla(CTA_TUPLE_PROTO | 0x8000, &ports)].concat()
    }

    fn counters(bytes: u64) -> Vec<u8> {
        [nla(1, &1u64.to_be_bytes()), nla(2, &bytes.to_be_bytes())].concat()
    }

    const LAN: [u8; 4] = [192, 168, 1, 7];
    const WAN: [u8; 4] = [192, 0, 2, 1];
    const FAR: [u8; 4] = [198, 51, 100, 9];
    const MASK: MarkMask = MarkMask(0x7f00_0000);

    fn key() -> FlowKey {
        FlowKey {
            source: [u32::from_ne_bytes(LAN), 0, 0, 0],
            destination: [u32::from_ne_bytes(FAR), 0, 0, 0],
            source_port: 40_000_u16.to_be(),
            destination_port: 443_u16.to_be(),
            protocol: 6,
            family: 4,
            reserved: 0,
        }
    }

    #[test]
    fn a_connection_is_found_by_the_tuple_of_its_lan_host() {
        let message = [
            nla(CTA_TUPLE_ORIG, &end(LAN, FAR, [40_000, 443])),
            nla(CTA_TUPLE_REPLY, &end(FAR, WAN, [443, 40_000])),
            nla(CTA_MARK, &0x0100_0000_u32.to_be_bytes()),
            nla(CTA_COUNTERS_ORIG, &counters(70)),
            nla(CTA_COUNTERS_REPLY, &counters(9000)),
        ]
        .concat();
        let expected = Some((key(), Bytes { up: 70, down: 9000 }));
        assert_eq!(connection(Family::Ipv4, &message, MASK), expected);
    }

    #[test]
    fn of_a_connection_from_outside_the_ways_are_the_other_way_round() {
        let message = [
            nla(CTA_TUPLE_ORIG, &end(FAR, WAN, [443, 8080])),
            nla(CTA_TUPLE_REPLY, &end(LAN, FAR, [40_000, 443])),
            nla(CTA_MARK, &(MASK.inbound() | 0x0100_0000).to_be_bytes()),
            nla(CTA_COUNTERS_ORIG, &counters(70)),
            nla(CTA_COUNTERS_REPLY, &counters(9000)),
        ]
        .concat();
        let expected = Some((key(), Bytes { up: 9000, down: 70 }));
        assert_eq!(connection(Family::Ipv4, &message, MASK), expected);
    }

    #[test]
    fn without_counters_nothing_is_known() {
        let message = nla(CTA_TUPLE_ORIG, &end(LAN, FAR, [40_000, 443]));
        assert_eq!(connection(Family::Ipv4, &message, MASK), None);
    }

    proptest! {
        #[test]
        fn any_answer_is_read(bytes: Vec<u8>, lengths in prop::collection::vec(0u32..64, 0..4)) {
            let _ = connection(Family::Ipv6, &bytes, MASK);
            let mut text = Vec::new();
            for length in lengths {
                text.extend_from_slice(&length.to_ne_bytes());
                text.extend_from_slice(&bytes);
            }
            let mut each = |_: &[u8]| {};
            let _ = messages(&text, &mut each);
        }
    }
}
