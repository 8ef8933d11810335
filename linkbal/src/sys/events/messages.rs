//! Netlink messages that no crate here knows: nftables, per-interface settings, filters.
//!
//! Bytes that do not look like a message of the kernel are skipped.

use libc::{RTM_DELQDISC, RTM_DELTFILTER, RTM_NEWNETCONF, RTM_NEWQDISC, RTM_NEWTFILTER};

use crate::{
    engine::kernel::{
        network::NetworkEvent,
        nft_text::flowtable::FLOWTABLE,
        resource::{Process, ResourceKind},
    },
    sys::netlink::wire::{
        Message, NETFILTER_HEADER, TRAFFIC_CONTROL_HEADER, attribute, messages, request, text,
    },
};

/// Offsets of the interface index and the parent in `struct tcmsg`.
const TCM_IFINDEX: usize = 4;
const TCM_PARENT: usize = 12;

/// The interface index in messages about blocks of filters that several interfaces share.
const TCM_IFINDEX_MAGIC_BLOCK: u32 = 0xffff_ffff;

/// The parent of the clsact qdisc, and those of its filters at ingress and egress. That of a root qdisc
/// (`TC_H_ROOT`) has the same upper bits (include/uapi/linux/pkt_sched.h).
pub(in crate::sys) const TC_H_CLSACT: u32 = 0xffff_fff1;
pub(in crate::sys) const TC_H_INGRESS: u32 = 0xffff_fff2;
pub(in crate::sys) const TC_H_EGRESS: u32 = 0xffff_fff3;
/// The parent of filters of the qdisc ingress, as `tc filter add .. parent ffff:` names it.
const TC_H_OLD_INGRESS: u32 = 0xffff_0000;

/// The subsystem of nftables, the end of its transactions and the request for it, and the family of tables
/// for both (include/uapi/linux/netfilter.h, nfnetlink.h, nf_tables.h).
pub(in crate::sys) const NFNL_SUBSYS_NFTABLES: u16 = libc::NFNL_SUBSYS_NFTABLES as u16;
const NFT_MSG_NEWGEN: u16 = libc::NFT_MSG_NEWGEN as u16;
const NFT_MSG_GETGEN: u16 = libc::NFT_MSG_GETGEN as u16;
pub(in crate::sys) const NFPROTO_INET: u8 = libc::NFPROTO_INET as u8;

/// Attributes: the table's name in every kind of message; number, process id and process name at
/// the end of a transaction.
pub(in crate::sys) const NFTA_TABLE: u16 = 1;
const NFTA_GEN_ID: u16 = 1;
const NFTA_GEN_PROC_PID: u16 = 2;
const NFTA_GEN_PROC_NAME: u16 = 3;

/// Names of linkbal's tables.
const TABLES: [&str; 2] = ["linkbal", FLOWTABLE];

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
            if message.kind >> 8 != NFNL_SUBSYS_NFTABLES || message.payload.len() < NETFILTER_HEADER
            {
                continue;
            }
            let (header, body) = message.payload.split_at(NETFILTER_HEADER);
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

fn process(body: &[u8]) -> Option<Process> {
    let pid = attribute(body, NFTA_GEN_PROC_PID)?.first_chunk()?;
    let name = attribute(body, NFTA_GEN_PROC_NAME);
    let name = name.map(|name| String::from_utf8_lossy(text(name)).into_owned());
    Some(Process { pid: u32::from_be_bytes(*pid), name })
}

/// Returns a request for the number of the last transaction.
pub(in crate::sys) fn generation_request() -> Vec<u8> {
    request(NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETGEN, 0, &[0; NETFILTER_HEADER])
}

/// Returns the number of the last transaction from the kernel's answer.
pub(in crate::sys) fn generation(buffer: &[u8]) -> Option<u32> {
    let mut messages = messages(buffer);
    let wanted = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWGEN;
    let message = messages.find(|message| message.kind == wanted)?;
    let number = attribute(message.payload.get(NETFILTER_HEADER..)?, NFTA_GEN_ID)?.first_chunk()?;
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
            if message.payload.len() >= TRAFFIC_CONTROL_HEADER =>
        {
            let word = |at: usize| {
                let bytes = message.payload[at..].first_chunk();
                bytes.map_or(0, |bytes| u32::from_ne_bytes(*bytes))
            };
            let (parent, ifindex) = (word(TCM_PARENT), word(TCM_IFINDEX));
            let of_clsact = match message.kind {
                RTM_NEWQDISC | RTM_DELQDISC => parent == TC_H_CLSACT,
                _ => matches!(parent, TC_H_INGRESS | TC_H_EGRESS),
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sys::netlink::wire::nla;

    const OWN: u32 = 77;

    fn nft(kind: u16, family: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
        let header = [family, 0, 0, 0];
        request(NFNL_SUBSYS_NFTABLES << 8 | kind, 0, &[&header[..], &attributes.concat()].concat())
    }

    fn end(pid: u32) -> Vec<u8> {
        let pid = nla(NFTA_GEN_PROC_PID, &pid.to_be_bytes());
        let generation = nla(1, &[0, 0, 0, 9]);
        nft(NFT_MSG_NEWGEN, 0, &[generation, pid, nla(NFTA_GEN_PROC_NAME, b"firewalld\0")])
    }

    fn table(family: u8, name: &[u8]) -> Vec<u8> {
        nft(2, family, &[nla(NFTA_TABLE, name)])
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
        assert_eq!(route_events(&request(RTM_NEWNETCONF, 0, &[2, 0, 0, 0])), [sysctls]);
        let filter = |kind, ifindex: u32, parent: u32| {
            let words = [0, ifindex, 1, parent, 0];
            route_events(&request(kind, 0, &words.map(u32::to_ne_bytes).concat()))
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
