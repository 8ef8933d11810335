//! The maps as the packet path sees them.

use crate::maps::{
    asker::Asker,
    bucket::Bucket,
    buffer::{Reply, Request},
    counter::Counter,
    domain::{Domain, NameHash},
    flow::{Flow, FlowKey, Proposal, Session, SessionKey},
    key::{Address, HostKey, MacKey, QueryKey},
    quota::{Host, Quota},
    recent::Recent,
    rule::{RuleAction, RuleSet},
    settings::{Settings, StickyClass},
    shortcut::{Shortcut, ShortcutCounters, Way},
    udp_request::UdpRequest,
    uplink::{Family, UpMask},
};

/// Width of the family in a prefix key such as that of `BYPASS`, in bits; the address follows.
pub const PREFIX_FAMILY_BITS: u32 = 32;

/// Value in `UPLINKS` for an interface that several uplinks share: there, the fwmark of a packet
/// tells its uplink.
pub const SHARED: u32 = u32::MAX;

/// Data of a prefix key such as that of `BYPASS`.
pub type PrefixData = [u32; 6];

/// Returns the data of a prefix key such as that of `BYPASS`, which the prefix length counts from
/// the front: the family in network byte order, then the address in network byte order, then a word
/// that no prefix reaches and that only makes the size a multiple of 8.
#[inline(always)]
pub const fn prefix_data(family: Family, address: &[u32; 4]) -> PrefixData {
    [(family as u32).to_be(), address[0], address[1], address[2], address[3], 0]
}

/// Values of `BYPASS`: the lowest eight bits tell how a destination is routed that is never
/// balanced, and the bits above them the interface that the route leads to.
pub mod bypass {
    /// The main table or this machine itself.
    pub const MAIN: u32 = 1;
    /// The main table, to a network of an uplink: connections that came in by another uplink are
    /// answered by that one.
    pub const UPLINK: u32 = 2;

    /// Value in place of the interface: several, or none that is known.
    pub const NOWHERE: u32 = 0xff_ffff;

    /// Returns a value with the interface that the route leads to, 0 for addresses of this machine.
    #[inline(always)]
    pub const fn by(routed_by: u32, ifindex: u32) -> u32 {
        routed_by | ifindex << 8
    }

    /// Returns how a destination is routed, without the interface.
    #[inline(always)]
    pub const fn routed_by(value: u32) -> u32 {
        value & 0xff
    }
}

/// A property of a flow that rules match, with its value.
#[derive(Clone, Copy, Debug)]
pub enum Dimension<'a> {
    /// Source address.
    Source(Family, &'a [u32; 4]),
    /// Destination address.
    Destination(Family, &'a [u32; 4]),
    /// Protocol number.
    Protocol(u8),
    /// Source port in the machine's byte order; 0 without ports.
    SourcePort(u16),
    /// Destination port in the machine's byte order; 0 without ports.
    DestinationPort(u16),
    /// DSCP.
    Dscp(u8),
    /// Index of the interface that the packet comes in by.
    Interface(u32),
    /// VLAN, or 0.
    Vlan(u16),
    /// Source MAC address; zero without one.
    Mac(MacKey),
}

/// The maps, and the clock of their entries.
///
/// Entries are shared between CPUs: flows and sessions are copied out, and changed in place only by
/// `touch_*` and `settle_flow`.
pub trait Tables {
    /// The place of a looked-up flow.
    type FlowSlot: Copy;
    /// The place of a looked-up session.
    type SessionSlot: Copy;

    /// Returns the settings.
    fn settings(&self) -> Option<&Settings>;
    /// Returns the usable uplinks.
    fn up_mask(&self) -> UpMask;
    /// Returns the usable uplinks that get no new flows while others can.
    fn avoid_mask(&self) -> UpMask;
    /// Returns the epoch of a [`family_slot`](crate::maps::uplink::family_slot).
    fn epoch(&self, slot: u32) -> u32;
    /// Returns a bucket by its number.
    fn bucket(&self, number: u32) -> Bucket;
    /// Returns a class of sticky sessions by its index.
    fn sticky_class(&self, index: u32) -> Option<StickyClass>;
    /// Returns the action of a rule, or of [`crate::maps::rule::NO_RULE`].
    fn action(&self, rule: u32) -> RuleAction;
    /// Returns the rules that a flow satisfies in one dimension.
    fn rules(&self, dimension: Dimension<'_>) -> RuleSet;
    /// Returns the sticky class of a protocol and destination port (network byte order), if any.
    fn sticky_port(&self, protocol: u8, port: u16) -> Option<u32>;
    /// Returns the value of a destination that is never balanced: see [`bypass`].
    fn bypass(&self, family: Family, destination: &[u32; 4]) -> Option<u32>;
    /// Returns the uplink that a source address belongs to, if it is of an uplink's prefix.
    fn source_uplink(&self, family: Family, source: &[u32; 4]) -> Option<u32>;
    /// Returns the address of an uplink, all zero if it has none.
    fn uplink_address(&self, uplink: u32, family: Family) -> Address;
    /// Returns the MTU of an uplink in bytes, 0 if it is unknown.
    fn uplink_mtu(&self, uplink: u32, family: Family) -> u32;
    /// Returns the uplink whose packets come in by an interface, or [`SHARED`]; `None` for all
    /// interfaces that lead to no provider.
    fn uplink_on(&self, ifindex: u32) -> Option<u32>;

    /// Looks up a flow, answered or not.
    fn flow(&self, key: &FlowKey) -> Option<(Flow, Self::FlowSlot)>;
    /// Sets the time of a flow's last packet.
    fn touch_flow(&self, slot: Self::FlowSlot, now_s: u32);
    /// Sets the last acknowledgment number of a TCP connection's LAN host, and the end of its data.
    fn touch_tcp(&self, slot: Self::FlowSlot, ack: u32, end: u32);
    /// Sets the [`tcp_state`](crate::maps::flow::tcp_state) of a TCP connection.
    fn touch_state(&self, slot: Self::FlowSlot, state: u32);
    /// Removes a flow.
    fn forget_flow(&self, key: &FlowKey);
    /// Stores a flow, in the table that [`Flow::replied`] selects; returns false if the map
    /// refused.
    fn store_flow(&self, key: &FlowKey, flow: &Flow) -> bool;
    /// Stores a flow that is not in the table, and was not answered yet; returns false if it is there by
    /// now, or the map refused.
    fn store_new_flow(&self, key: &FlowKey, flow: &Flow) -> bool;
    /// Moves a flow to the table of answered flows.
    fn settle_flow(&self, key: &FlowKey, slot: Self::FlowSlot);
    /// Lends the quota of a host; returns `None` if the map refused.
    fn with_quota<R>(&self, host: Host, with: impl FnOnce(&mut Quota) -> R) -> Option<R>;
    /// Lends the slot of a flow whose key has this hash; it holds an earlier proposal.
    fn write_proposal(&self, hash: u32, write: impl FnOnce(&mut Proposal));
    /// Returns the proposal in the slot of a hash, which may be of another flow.
    fn proposal(&self, hash: u32) -> Option<Proposal>;
    /// Lends the shortcut in the slot of a hash, which may be of another flow.
    fn with_shortcut<R>(
        &self,
        way: Way,
        hash: u32,
        with: impl FnOnce(&mut Shortcut) -> R,
    ) -> Option<R>;
    /// Returns whether an interface of the LAN is one whose packets take no shortcuts.
    fn is_left_out(&self, ifindex: u32) -> bool;
    /// Lends this CPU's counters of the shortcuts of an uplink.
    fn with_shortcut_counters<R>(
        &self,
        uplink: u32,
        with: impl FnOnce(&mut ShortcutCounters) -> R,
    ) -> Option<R>;
    /// Returns whether flows of the present window are remembered.
    fn remembers(&self) -> bool;
    /// Lends the slot of a hash of a flow of the present window, which may be of another flow.
    fn with_recent<R>(&self, hash: u32, with: impl FnOnce(&mut Recent) -> R) -> Option<R>;
    /// Looks up a session.
    fn session(&self, key: &SessionKey) -> Option<(Session, Self::SessionSlot)>;
    /// Sets the time of a session's last packet.
    fn touch_session(&self, slot: Self::SessionSlot, now_s: u32);
    /// Stores a session; returns false if the map refused.
    fn store_session(&self, key: &SessionKey, session: &Session) -> bool;

    /// Stores the time at which a DNS query was seen; returns false if the map refused.
    fn store_query(&self, key: &QueryKey, now_s: u32) -> bool;
    /// Returns the time at which a DNS query was seen.
    fn query(&self, key: &QueryKey) -> Option<u32>;
    /// Removes a DNS query.
    fn forget_query(&self, key: &QueryKey);
    /// Lends the DNS counts of a host, by its slot.
    fn with_asker<R>(&self, index: u32, change: impl FnOnce(&mut Asker) -> R) -> Option<R>;
    /// Returns whether the DNS replies of a server are trusted.
    fn is_resolver(&self, family: Family, server: &Address) -> bool;
    /// Returns the rules that the addresses of a name satisfy, if it is configured; of
    /// [`NO_NAME`](crate::maps::domain::NO_NAME), those that any address satisfies.
    fn domain_rules(&self, name: NameHash) -> Option<RuleSet>;
    /// Returns the names of an address.
    fn domain(&self, key: &HostKey) -> Option<Domain>;
    /// Stores the names of an address; returns false if the map refused.
    fn store_domain(&self, key: &HostKey, domain: &Domain) -> bool;
    /// Returns the last request to the server that answers by a flow, whose source is zero.
    fn udp_request(&self, key: &FlowKey) -> Option<UdpRequest>;
    /// Stores the last request to a server. The map may refuse it.
    fn store_udp_request(&self, key: &FlowKey, request: &UdpRequest);

    /// Lends the buffer for a request; it holds an earlier one.
    fn with_request<R>(&self, make: impl FnOnce(&mut Request) -> R) -> Option<R>;
    /// Runs [`crate::path::slow::run`] for the request in the buffer of [`Self::with_request`].
    fn run(&self, request: &mut Request) -> u32;
    /// Lends the buffer for reading DNS replies.
    fn with_reply<R>(&self, read: impl FnOnce(&mut Reply) -> R) -> Option<R>;
    /// Repeats [`Reply::step`] up to its end, at most [`crate::path::dns::reply::STEPS`] times.
    fn read_reply(&self, reply: &mut Reply);

    /// Returns the seconds since boot.
    fn now_s(&self) -> u32 {
        self.now_s_and_ms().0
    }
    /// Returns the milliseconds since boot, modulo 2^32.
    fn now_ms(&self) -> u32 {
        self.now_s_and_ms().1
    }
    /// Returns both, by one look at the clock.
    fn now_s_and_ms(&self) -> (u32, u32) {
        let now_ns = self.now_ns();
        ((now_ns / 1_000_000_000) as u32, (now_ns / 1_000_000) as u32)
    }
    /// Returns the kernel's `jiffies`, modulo 2^32.
    fn jiffies(&self) -> u32;
    /// Returns the length of a window in jiffies, see [`LIFE`](crate::maps::shortcut::LIFE).
    fn window_jiffies(&self) -> u32;
    /// Returns the number of the present window, modulo 2^32.
    fn window(&self) -> u32;
    /// Returns the nanoseconds since boot, by a clock that is quick to read and ticks some hundred
    /// times a second.
    fn now_ns(&self) -> u64;
    /// Adds one to a counter.
    fn count(&self, counter: Counter);
    /// Counts a packet of `bytes` bytes to an uplink, and by `counter` its effect on its flow.
    fn count_uplink(&self, uplink: u32, bytes: u32, counter: Counter);
    /// Counts a flow that began, or moved, by a rule or [`crate::maps::rule::NO_RULE`]; other numbers are
    /// not counted.
    fn count_rule(&self, rule: u8);
    /// Counts a packet, or a local connection, that its rule blocks.
    fn count_blocked(&self, rule: u8);
    /// Counts a TCP connection that begins on an uplink.
    fn count_connect(&self, uplink: u32);
    /// Counts an answer of `bytes` bytes from an uplink; if it is to a `settled` flow, also for the
    /// [`network`](crate::maps::counter::network) that it came from.
    fn count_answer(&self, uplink: u32, bytes: u32, network: (usize, usize), settled: bool);
    /// Counts the first answer to a TCP connection, `after_ms` milliseconds after it began.
    fn count_connected(&self, uplink: u32, after_ms: u32);
}
