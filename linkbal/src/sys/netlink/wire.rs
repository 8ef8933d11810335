//! Netlink messages as bytes (include/uapi/linux/netlink.h), for those that no crate here knows.
//!
//! Bytes that do not look like a message of the kernel are skipped.

use std::ops::Range;

use netlink_packet_core::{NLA_HEADER_SIZE, NLA_TYPE_MASK, NLM_F_REQUEST};

/// Length of `struct nlmsghdr`.
pub(in crate::sys) const HEADER: usize = 16;

/// Offsets of the sequence number in it.
pub(in crate::sys) const SEQUENCE: Range<usize> = 8..12;

/// Length of `struct nfgenmsg`, which follows it in messages of netfilter
/// (include/uapi/linux/netfilter/nfnetlink.h).
pub(in crate::sys) const NETFILTER_HEADER: usize = 4;

/// Length of `struct tcmsg`, which follows it in messages of traffic control
/// (include/uapi/linux/rtnetlink.h).
pub(in crate::sys) const TRAFFIC_CONTROL_HEADER: usize = 20;

/// A netlink message.
pub(in crate::sys) struct Message<'a> {
    pub(in crate::sys) kind: u16,
    pub(in crate::sys) sequence: u32,
    pub(in crate::sys) payload: &'a [u8],
    /// Header and payload.
    pub(in crate::sys) whole: &'a [u8],
}

/// Returns a request of a kind, with further flags.
pub(in crate::sys) fn request(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
    let length = HEADER.saturating_add(payload.len());
    let mut bytes = (length as u32).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((NLM_F_REQUEST | flags).to_ne_bytes());
    bytes.resize(HEADER, 0);
    bytes.extend(payload);
    bytes.resize(aligned(length), 0);
    bytes
}

/// Returns the messages in a buffer.
pub(in crate::sys) fn messages(mut buffer: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*buffer.first_chunk()?) as usize;
        let kind = u16::from_ne_bytes(*buffer.get(4..)?.first_chunk()?);
        let whole = buffer.get(..length)?;
        let payload = whole.get(HEADER..)?;
        let sequence = u32::from_ne_bytes(*whole.get(SEQUENCE)?.first_chunk()?);
        buffer = buffer.get(aligned(length)..).unwrap_or_default();
        Some(Message { kind, sequence, payload, whole })
    })
}

/// Returns the value of the first attribute of a type.
pub(in crate::sys) fn attribute(mut body: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16::from_ne_bytes(*body.first_chunk()?));
        let kind = u16::from_ne_bytes(*body.get(2..)?.first_chunk()?);
        let value = body.get(NLA_HEADER_SIZE..length)?;
        if kind & NLA_TYPE_MASK == wanted {
            return Some(value);
        }
        body = body.get(aligned(length)..)?;
    }
}

/// Returns an attribute of a type.
pub(in crate::sys) fn nla(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = (value.len().saturating_add(NLA_HEADER_SIZE) as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(aligned(bytes.len()), 0);
    bytes
}

/// Returns a string without the zero that ends it.
pub(in crate::sys) fn text(value: &[u8]) -> &[u8] {
    value.split(|byte| *byte == 0).next().unwrap_or_default()
}

const fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}
