//! Counters: packets by outcome, and the traffic of each uplink.

use crate::{
    map_struct,
    maps::{flow::Address, uplink::Family},
};

/// Defines an enum of counters and the struct of `u64` fields that counts them, so that
/// `bpftool map dump` prints the names.
macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $variant:ident $field:ident,)+) => {
        /// A counted outcome; the position of its field in [`Counters`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Counter { $($(#[doc = $doc])+ $variant,)+ }

        /// Packets by outcome, on one CPU.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[repr(C)]
        pub struct Counters { $($(#[doc = $doc])+ pub $field: u64,)+ }

        impl Counter {
            /// All counters, in the order of the struct's fields.
            pub const ALL: [Counter; size_of::<Counters>() / 8] = [$(Counter::$variant,)+];

            /// Returns the name as in the map, `status` and metrics.
            pub const fn name(self) -> &'static str {
                match self { $(Counter::$variant => stringify!($field),)+ }
            }
        }

        impl Counters {
            /// Returns the value of one counter.
            pub const fn get(&self, counter: Counter) -> u64 {
                match counter { $(Counter::$variant => self.$field,)+ }
            }
        }
        map_struct!(Counters, 8 * Counter::ALL.len());
    };
}

// Every packet adds one to exactly one counter of the first group ("marked") or the second
// ("skipped"); together they are all packets from the LAN. The third group counts additional
// events. The last group is of local sockets: each connect, and each send without a
// connection, adds one.
counters! {
    /// Marked: the flow was known and its uplink usable.
    FlowKnown flow_known,
    /// Marked: the flow was not in the table, or its uplink is down, and an uplink was proposed.
    FlowProposed flow_proposed,
    /// Marked: the flow's uplink is down, but the flow stays: it came in by that uplink, its source
    /// belongs to it, it is configured to stay, or all uplinks are down.
    FlowStranded flow_stranded,
    /// Marked to be answered with a reset: a TCP connection that ended with its uplink.
    FlowReset flow_reset,
    /// Marked to be dropped: no uplink of its rule is usable.
    RuleDropped rule_dropped,
    /// Marked to be refused: no uplink of its rule is usable.
    RuleRejected rule_rejected,
    /// Marked to be refused: the uplink that the source address belongs to is down.
    SourceRejected source_rejected,

    /// Skipped: the datapath is not set up.
    Off off,
    /// Skipped: neither IPv4 nor IPv6.
    NotIp not_ip,
    /// Skipped: a header is cut short or contradicts itself.
    Malformed malformed,
    /// Skipped: more IPv6 extension headers than are followed.
    HeaderChain header_chain,
    /// Skipped: a later fragment; it follows the first one when the kernel reassembles them.
    Fragment fragment,
    /// Skipped: to a multicast or broadcast address.
    Multicast multicast,
    /// Skipped: from or to a link-local, loopback or unspecified address.
    LinkLocal link_local,
    /// Skipped: to the gateway itself or a network that the main table routes.
    Bypass bypass,
    /// Skipped: another program already set linkbal's bits.
    AlreadyMarked already_marked,
    /// Skipped: no uplink is usable for a new flow.
    NoUplink no_uplink,

    /// Extra: a new flow joined a live sticky session.
    SessionJoined session_joined,
    /// Extra: a new flow began a sticky session.
    SessionNew session_new,
    /// Extra: a flow, session, DNS query or address could not be stored; a flow is decided again by
    /// its next packet.
    StoreFailed store_failed,
    /// Extra: a session was not stored, or an answered flow was not moved to the answered ones: its
    /// host, or all hosts together, reached the limit.
    HostLimited host_limited,
    /// Extra: a flow began: its first packet left by the uplink that was proposed.
    FlowNew flow_new,
    /// Extra: the flow's uplink is down and another one took over.
    FlowMoved flow_moved,
    /// Extra: a flow of a connection that came in by its uplink was stored.
    FlowInbound flow_inbound,
    /// Extra: a flow of a connection that already had an uplink was stored with it: the connection
    /// is older than its flow's entry in the table, or related to another one.
    FlowAdopted flow_adopted,
    /// Extra: a DNS reply was read for addresses of the rules' domains.
    DnsRead dns_read,
    /// Extra: a DNS reply without a query or of a server that is not trusted, or a query or address
    /// above the limit of its host, was ignored.
    DnsIgnored dns_ignored,
    /// Extra: a DNS reply that is cut short or contradicts itself.
    DnsMalformed dns_malformed,

    /// Local traffic: a connecting socket got the fwmark of an uplink, or one that blocks it.
    LocalMarked local_marked,
    /// Local traffic: a datagram of an unconnected socket got a source address, or was refused.
    LocalAddressed local_addressed,
    /// Local traffic: left alone; the program chose itself, or there was nothing to choose.
    LocalSkipped local_skipped,
}

/// Use of one rule, on one CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct RuleCounters {
    /// Flows that began, or moved from an uplink that ended, by the rule.
    pub flows: u64,
    /// Packets that were dropped or refused because none of the rule's uplinks was usable.
    pub blocked: u64,
}
map_struct!(RuleCounters, 16);

/// Traffic between the LAN and one uplink, on one CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct UplinkCounters {
    /// Packets marked.
    pub packets: u64,
    /// Bytes of these packets, with their link-layer header.
    pub bytes: u64,
    /// Flows that began on this uplink.
    pub flows_new: u64,
    /// Flows that moved here because their uplink went down.
    pub flows_moved_in: u64,
    /// Packets to the LAN that answer flows that it began.
    pub answers: u64,
    /// IPv6 packets among these answers.
    pub answers_ipv6: u64,
    /// Bytes of the answers, with their link-layer header.
    pub answer_bytes: u64,
    /// TCP connections that began on this uplink.
    pub connects: u64,
    /// TCP connections of these that were answered.
    pub connects_answered: u64,
    /// Total time from the beginning of each answered connection to its answer, in milliseconds.
    pub handshake_ms: u64,
    /// Answers to settled flows, by family and by the [`network`] that they came from.
    pub networks: [[u32; NETWORKS]; 2],
}
map_struct!(UplinkCounters, 336);

/// Number of networks that are told apart; a power of two.
pub const NETWORKS: usize = 32;

/// Returns the place of an address in [`UplinkCounters::networks`]: that of its /24, or of its /48
/// for IPv6. Addresses of one network often belong to one host. Different networks may share a
/// place.
#[inline(always)]
pub const fn network(family: Family, address: &Address) -> (usize, usize) {
    let (family, network) = match family {
        Family::Ipv4 => (0, address[0] & u32::from_be(0xffff_ff00)),
        // The first word, and the first half of the second one.
        Family::Ipv6 => (1, address[0] ^ (address[1] & u32::from_be(0xffff_0000)).rotate_left(7)),
    };
    // Fibonacci hashing (Knuth, "The art of computer programming" volume 3, section 6.4).
    let hash = network.wrapping_mul(0x9e37_79b1) >> 27;
    (family, hash as usize & (NETWORKS - 1))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn words(octets: [u8; 16]) -> Address {
        let word = |at: usize| {
            u32::from_ne_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]])
        };
        [word(0), word(4), word(8), word(12)]
    }

    fn ipv4(octets: [u8; 4]) -> Address {
        [u32::from_ne_bytes(octets), 0, 0, 0]
    }

    fn ipv6(network: u16, rest: u8) -> Address {
        let [high, low] = network.to_be_bytes();
        let mut octets = [rest; 16];
        octets[..6].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8, high, low]);
        words(octets)
    }

    #[test]
    fn hosts_of_one_network_have_one_place() {
        let places = |host| network(Family::Ipv4, &ipv4([198, 51, 100, host]));
        assert_eq!((0..=255).map(places).collect::<HashSet<_>>().len(), 1);
        let places = |host| network(Family::Ipv6, &ipv6(0xff, host));
        assert_eq!((0..=255).map(places).collect::<HashSet<_>>().len(), 1);
        assert_eq!(places(0).0, 1);
    }

    /// Checks that 24 networks in a row have at least 12 places; by chance they would have about 17
    /// of 32.
    #[test]
    fn networks_that_differ_in_any_place_have_many() {
        let distinct = |addresses: &mut dyn Iterator<Item = (usize, usize)>| {
            addresses.collect::<HashSet<_>>().len()
        };
        for at in 0..3 {
            let place = |n| {
                let mut octets = [198, 51, 100, 7];
                octets[at] = n;
                network(Family::Ipv4, &ipv4(octets))
            };
            let count = distinct(&mut (1..25).map(place));
            assert!(count >= 12, "octet {at}: {count}");
        }
        for shift in 0..8 {
            let place = |n: u16| network(Family::Ipv6, &ipv6(n << shift, 9));
            let count = distinct(&mut (1..25).map(place));
            assert!(count >= 12, "shifted by {shift}: {count}");
        }
    }
}
