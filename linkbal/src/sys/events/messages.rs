//! Netlink messages that no crate here knows: nftables, per-interface settings, filters.
//!
//! Bytes that do not look like a message of the kernel are skipped.

use crate::engine::kernel::{
    network::NetworkEvent,
    nft_text::flowtable::FLOWTABLE,
    resource::{Process, ResourceKind},
};

/// Header of a netlink message (`struct nlmsghdr` in include/uapi/linux/netlink.h).
const HEADER: usize = 16;

/// Message types of rtnetlink (include/uapi/linux/rtnetlink.h).
const RTM_NEWQDISC: u16 = 36;
const RTM_DELQDISC: u16 = 37;
const RTM_NEWTFILTER: u16 = 44;
const RTM_DELTFILTER: u16 = 45;
const RTM_NEWNETCONF: u16 = 80;

/// Length of `struct tcmsg`, and the offsets of its interface index and its parent.
const TCMSG: usize = 20;
const TCM_IFINDEX: usize = 4;
const TCM_PARENT: usize = 12;

/// The interface index in messages about blocks of filters that several interfaces share.
const TCM_IFINDEX_MAGIC_BLOCK: u32 = 0xffff_ffff;

/// The parent of the clsact qdisc, and those of its filters at ingress and egress. That of a root qdisc
/// (`TC_H_ROOT`) has the same upper bits (include/uapi/linux/pkt_sched.h).
const TC_H_CLSACT: u32 = 0xffff_fff1;
const TC_H_FILTERS: [u32; 2] = [0xffff_fff2, 0xffff_fff3];
/// The parent of filters of the qdisc ingress, as `tc filter add .. parent ffff:` names it.
const TC_H_OLD_INGRESS: u32 = 0xffff_0000;

/// The subsystem of nftables, the end of its transactions and the request for it, and length and
/// family in the header (include/uapi/linux/netfilter/nfnetlink.h, nf_tables.h).
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFT_MSG_NEWGEN: u16 = 15;
const NFT_MSG_GETGEN: u16 = 16;
const NFGENMSG: usize = 4;
const NFPROTO_INET: u8 = 1;

/// Attributes: the table's name in every kind of message; number, process id and process name at
/// the end of a transaction.
const NFTA_TABLE: u16 = 1;
const NFTA_GEN_ID: u16 = 1;
const NFTA_GEN_PROC_PID: u16 = 2;
const NFTA_GEN_PROC_NAME: u16 = 3;

/// Bits of an attribute's type that are no flags.
const NLA_TYPE: u16 = 0x3fff;

/// Names of linkbal's tables.
const TABLES: [&str; 2] = ["linkbal", FLOWTABLE];

/// A netlink message.
pub(in crate::sys) struct Message<'a> {
    pub(in crate::sys) kind: u16,
    pub(in crate::sys) payload: &'a [u8],
}

/// The tables that an nft transaction has touched, until its end is told.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::sys) struct Transaction {
    ours: bool,
    others: bool,
}

impl Transaction {
    /// Reads messages of the nftables group; returns the events of transactions that ended. Those
    /// of process `own` are no news.
    pub(in crate::sys) fn handle(&mut self, buffer: &[u8], own: u32) -> Vec<NetworkEvent> {
        let mut events = Vec::new();
        for message in messages(buffer) {
            if message.kind >> 8 != NFNL_SUBSYS_NFTABLES || message.payload.len() < NFGENMSG {
                continue;
            }
            let (header, body) = message.payload.split_at(NFGENMSG);
            if message.kind & 0xff == NFT_MSG_NEWGEN {
                events.extend(std::mem::take(self).end(process(body), own));
            } else if header[0] == NFPROTO_INET && attribute(body, NFTA_TABLE).is_some_and(is_ours)
            {
                self.ours = true;
            } else {
                self.others = true;
            }
        }
        events
    }

    fn end(self, by: Option<Process>, own: u32) -> Vec<NetworkEvent> {
        if by.as_ref().is_some_and(|by| by.pid == own) {
            return Vec::new();
        }
        let others = self.others.then(|| NetworkEvent::OtherTables { by: by.clone() });
        let ours =
            self.ours.then_some(NetworkEvent::ResourceChanged { what: ResourceKind::Nft, by });
        ours.into_iter().chain(others).collect()
    }
}

fn is_ours(name: &[u8]) -> bool {
    TABLES.iter().any(|table| table.as_bytes() == text(name))
}

/// Returns a string without the zero that ends it.
pub(in crate::sys) fn text(value: &[u8]) -> &[u8] {
    value.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn process(body: &[u8]) -> Option<Process> {
    let pid = attribute(body, NFTA_GEN_PROC_PID)?.first_chunk()?;
    let name = attribute(body, NFTA_GEN_PROC_NAME);
    let name = name.map(|name| String::from_utf8_lossy(text(name)).into_owned());
    Some(Process { pid: u32::from_be_bytes(*pid), name })
}

/// Returns a request of a kind, with further flags.
pub(in crate::sys) fn request(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
    const NLM_F_REQUEST: u16 = 1;
    let length = HEADER.saturating_add(payload.len());
    let mut bytes = (length as u32).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((NLM_F_REQUEST | flags).to_ne_bytes());
    bytes.resize(HEADER, 0);
    bytes.extend(payload);
    bytes.resize(aligned(length), 0);
    bytes
}

/// Returns a request for the number of the last transaction.
pub(in crate::sys) fn generation_request() -> Vec<u8> {
    request(NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETGEN, 0, &[0; NFGENMSG])
}

/// Returns the number of the last transaction from the kernel's answer.
pub(in crate::sys) fn generation(buffer: &[u8]) -> Option<u32> {
    let mut messages = messages(buffer);
    let wanted = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWGEN;
    let message = messages.find(|message| message.kind == wanted)?;
    let number = attribute(message.payload.get(NFGENMSG..)?, NFTA_GEN_ID)?.first_chunk()?;
    Some(u32::from_be_bytes(*number))
}

/// Returns the events in rtnetlink messages about settings of interfaces and about filters.
pub(in crate::sys) fn route_events(buffer: &[u8]) -> Vec<NetworkEvent> {
    messages(buffer).filter_map(|message| route_event(&message)).collect()
}

fn route_event(message: &Message<'_>) -> Option<NetworkEvent> {
    match message.kind {
        RTM_NEWNETCONF => {
            Some(NetworkEvent::ResourceChanged { what: ResourceKind::Sysctls, by: None })
        }
        RTM_NEWQDISC | RTM_DELQDISC | RTM_NEWTFILTER | RTM_DELTFILTER
            if message.payload.len() >= TCMSG =>
        {
            let word = |at: usize| {
                let bytes = message.payload[at..].first_chunk();
                bytes.map_or(0, |bytes| u32::from_ne_bytes(*bytes))
            };
            let (parent, ifindex) = (word(TCM_PARENT), word(TCM_IFINDEX));
            let of_clsact = match message.kind {
                RTM_NEWQDISC | RTM_DELQDISC => parent == TC_H_CLSACT,
                _ => TC_H_FILTERS.contains(&parent),
            };
            let gone = matches!(message.kind, RTM_DELQDISC | RTM_DELTFILTER);
            let of_others = ifindex == TCM_IFINDEX_MAGIC_BLOCK || parent == TC_H_OLD_INGRESS;
            match of_clsact {
                true if gone => Some(NetworkEvent::Datapath { ifindex: Some(ifindex) }),
                false if !of_others => None,
                _ => Some(NetworkEvent::Obstacle),
            }
        }
        _ => None,
    }
}

/// Returns the messages in a buffer.
pub(in crate::sys) fn messages(mut buffer: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*buffer.first_chunk()?) as usize;
        let kind = u16::from_ne_bytes(*buffer.get(4..)?.first_chunk()?);
        let payload = buffer.get(HEADER..length)?;
        buffer = buffer.get(aligned(length)..).unwrap_or_default();
        Some(Message { kind, payload })
    })
}

/// Returns the value of the first attribute of a type.
pub(in crate::sys) fn attribute(mut body: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16::from_ne_bytes(*body.first_chunk()?));
        let kind = u16::from_ne_bytes(*body.get(2..)?.first_chunk()?);
        let value = body.get(4..length)?;
        if kind & NLA_TYPE == wanted {
            return Some(value);
        }
        body = body.get(aligned(length)..)?;
    }
}

const fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OWN: u32 = 77;

    fn message(kind: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = ((HEADER + payload.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(payload);
        bytes.resize(aligned(bytes.len()), 0);
        bytes
    }

    fn attr(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(aligned(bytes.len()), 0);
        bytes
    }

    fn nft(kind: u16, family: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
        let header = [family, 0, 0, 0];
        message(NFNL_SUBSYS_NFTABLES << 8 | kind, &[&header[..], &attributes.concat()].concat())
    }

    fn end(pid: u32) -> Vec<u8> {
        let pid = attr(NFTA_GEN_PROC_PID, &pid.to_be_bytes());
        let generation = attr(1, &[0, 0, 0, 9]);
        nft(NFT_MSG_NEWGEN, 0, &[generation, pid, attr(NFTA_GEN_PROC_NAME, b"firewalld\0")])
    }

    fn table(family: u8, name: &[u8]) -> Vec<u8> {
        nft(2, family, &[attr(NFTA_TABLE, name)])
    }

    #[test]
    fn a_transaction_tells_whose_tables_it_touched_and_who_did_it() {
        let mut transaction = Transaction::default();
        let first = [table(2, b"filter\0"), table(NFPROTO_INET, b"linkbal\0")].concat();
        assert_eq!(transaction.handle(&first, OWN), []);
        let by = Some(Process { pid: 9, name: Some("firewalld".into()) });
        let others = NetworkEvent::OtherTables { by: by.clone() };
        let touched = NetworkEvent::ResourceChanged { what: ResourceKind::Nft, by };
        let events = transaction.handle(&end(9), OWN);
        assert_eq!(events, [touched, others.clone()]);
        // Another family may have a table of the same name.
        let other = [table(2, b"linkbal\0"), end(9)].concat();
        assert_eq!(transaction.handle(&other, OWN), [others]);
        let own = [table(NFPROTO_INET, b"linkbal\0"), end(OWN)].concat();
        assert_eq!(transaction.handle(&own, OWN), []);
        assert_eq!(transaction.handle(&end(9), OWN), [], "what is over is forgotten");
    }

    #[test]
    fn the_number_of_the_last_transaction_is_read() {
        assert_eq!(generation(&end(7)), Some(9));
        assert_eq!(generation(&table(NFPROTO_INET, b"linkbal\0")), None);
    }

    #[test]
    fn settings_and_filters_are_reported() {
        let sysctls = NetworkEvent::ResourceChanged { what: ResourceKind::Sysctls, by: None };
        assert_eq!(route_events(&message(RTM_NEWNETCONF, &[2, 0, 0, 0])), [sysctls]);
        let filter = |kind, ifindex: u32, parent: u32| {
            let words = [0, ifindex, 1, parent, 0];
            route_events(&message(kind, &words.map(u32::to_ne_bytes).concat()))
        };
        let lost = NetworkEvent::Datapath { ifindex: Some(7) };
        assert_eq!(filter(RTM_DELTFILTER, 7, 0xffff_fff2), [lost]);
        assert_eq!(filter(RTM_NEWTFILTER, 7, 0xffff_fff2), [NetworkEvent::Obstacle]);
        assert_eq!(filter(RTM_DELTFILTER, u32::MAX, 1), [NetworkEvent::Obstacle], "a shared block");
        for kind in [RTM_NEWTFILTER, RTM_DELTFILTER] {
            assert_eq!(filter(kind, 7, 0x0001_0000), []);
            assert_eq!(filter(kind, 7, 0xffff_0000), [NetworkEvent::Obstacle], "qdisc ingress");
        }
        let lost = NetworkEvent::Datapath { ifindex: Some(7) };
        assert_eq!(filter(RTM_DELQDISC, 7, 0xffff_fff1), [lost]);
        for kind in [RTM_NEWQDISC, RTM_DELQDISC] {
            assert_eq!(filter(kind, 7, 0xffff_ffff), [], "a qdisc at the root");
        }
    }

    proptest! {
        #[test]
        fn damaged_messages_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            route_events(&bytes);
            generation(&bytes);
            Transaction::default().handle(&bytes, OWN);
        }

        #[test]
        fn messages_with_damaged_bytes_do_no_harm(
            at in 0_usize..80, byte in any::<u8>(), length in 0_usize..120,
        ) {
            let mut bytes = [table(NFPROTO_INET, b"linkbal\0"), end(9)].concat();
            let at = at.min(bytes.len() - 1);
            bytes[at] = byte;
            bytes.truncate(length);
            Transaction::default().handle(&bytes, OWN);
            route_events(&bytes);
        }
    }
}
