//! Names of maps and programs, as in the eBPF object and in bpffs.

/// The settings of the datapath: one [`crate::settings::Settings`].
pub const SETTINGS: &str = "SETTINGS";
/// The usable uplinks: one [`crate::uplink::UpMask`].
pub const UP_MASK: &str = "UP_MASK";
/// The usable uplinks that get no new flows while others can: one [`crate::uplink::UpMask`].
pub const AVOID_MASK: &str = "AVOID_MASK";
/// Number of times that the flows of each uplink and family have ended together, at
/// [`crate::uplink::epoch_index`].
pub const EPOCHS: &str = "EPOCHS";
/// The ranked buckets of all groups: [`crate::bucket::CAPACITY`] of [`crate::bucket::Bucket`].
pub const BUCKETS: &str = "BUCKETS";
/// The flow table: [`crate::flow::FlowKey`] to [`crate::flow::Flow`].
pub const FLOWS: &str = "FLOWS";
/// Flows without an answer yet, and those beyond their host's share: as in [`FLOWS`].
pub const UNREPLIED: &str = "UNREPLIED";
/// The shares of hosts: [`crate::share::Host`] to [`crate::share::Share`].
pub const HOSTS: &str = "HOSTS";
/// Decisions about flows that are not in the table, by the low bits of the hash of their keys:
/// [`crate::flow::PROPOSALS`] of [`crate::flow::Proposal`]. Not pinned: each datapath has its own.
pub const PROPOSALS: &str = "PROPOSALS";
/// The sticky sessions: [`crate::flow::SessionKey`] to [`crate::flow::Session`].
pub const SESSIONS: &str = "SESSIONS";
/// Destination ports that stick: [`crate::classify::PortKey`] to the index of a sticky class.
pub const STICKY_PORTS: &str = "STICKY_PORTS";
/// Destinations that are never balanced: prefixes as [`crate::tables::prefix_data`] to values of
/// [`crate::tables::bypass`].
pub const BYPASS: &str = "BYPASS";
/// Packets by outcome: one [`crate::counter::Counters`] for each CPU.
pub const COUNTERS: &str = "COUNTERS";
/// Traffic by uplink: [`crate::counter::UplinkCounters`] for each uplink and CPU.
pub const UPLINK_COUNTERS: &str = "UPLINK_COUNTERS";

/// The addresses of the uplinks: at [`crate::tables::uplink_address_index`].
pub const UPLINK_ADDRESSES: &str = "UPLINK_ADDRESSES";
/// The fwmarks that the gateway's own sockets got, by socket.
pub const SOCKET_MARKS: &str = "SOCKET_MARKS";

/// Source prefixes that belong to an uplink: keys as [`crate::tables::prefix_data`], the uplink.
pub const SOURCE_UPLINKS: &str = "SOURCE_UPLINKS";

/// Interfaces to providers, and the uplink of each: see [`crate::tables::Tables::uplink_on`].
pub const UPLINKS: &str = "UPLINKS";

/// The classes of sticky sessions: [`crate::settings::CLASSES`] of
/// [`crate::settings::StickyClass`].
pub const STICKY_CLASSES: &str = "STICKY_CLASSES";
/// The action of each rule: [`crate::rule::RuleAction`] by rule, then that of flows without a rule.
pub const ACTIONS: &str = "ACTIONS";
/// Rules by source prefix: keys as [`crate::tables::prefix_data`]. The values of this and all maps
/// of its kind are [`crate::rule::RuleSet`].
pub const RULES_SOURCE: &str = "RULES_SOURCE";
/// Rules by destination prefix.
pub const RULES_DESTINATION: &str = "RULES_DESTINATION";
/// Rules by protocol number.
pub const RULES_PROTOCOL: &str = "RULES_PROTOCOL";
/// Rules by source port, in the machine's byte order.
pub const RULES_SOURCE_PORT: &str = "RULES_SOURCE_PORT";
/// Rules by destination port, in the machine's byte order.
pub const RULES_DESTINATION_PORT: &str = "RULES_DESTINATION_PORT";
/// Rules by DSCP.
pub const RULES_DSCP: &str = "RULES_DSCP";
/// Rules by interface index; 0 for all interfaces without an entry.
pub const RULES_INTERFACE: &str = "RULES_INTERFACE";
/// Rules by VLAN; 0 for untagged packets, and for all VLANs without an entry.
pub const RULES_VLAN: &str = "RULES_VLAN";
/// Rules by source MAC address; zero for all addresses without an entry.
pub const RULES_MAC: &str = "RULES_MAC";

/// Rules by domain: [`crate::dns::domain::NameHash`] to [`crate::rule::RuleSet`]; at
/// [`crate::dns::domain::NO_NAME`], the rules that name none.
pub const DOMAIN_RULES: &str = "DOMAIN_RULES";
/// Names of addresses, from DNS replies: [`crate::dns::HostKey`] to [`crate::dns::domain::Domain`].
pub const DOMAINS: &str = "DOMAINS";
/// DNS queries without a reply: [`crate::dns::QueryKey`] to seconds since boot.
pub const QUERIES: &str = "QUERIES";
/// Servers whose DNS replies are trusted, by [`crate::dns::HostKey`].
pub const RESOLVERS: &str = "RESOLVERS";

/// Requests to the gateway's own UDP servers: [`crate::flow::FlowKey`] of the answer, its source
/// zero, to [`crate::local::asked::Asked`].
pub const ASKED: &str = "ASKED";

/// All maps that are pinned.
pub const MAPS: [&str; 33] = [
    SETTINGS,
    UP_MASK,
    AVOID_MASK,
    EPOCHS,
    BUCKETS,
    FLOWS,
    UNREPLIED,
    HOSTS,
    SESSIONS,
    STICKY_PORTS,
    STICKY_CLASSES,
    ACTIONS,
    RULES_SOURCE,
    RULES_DESTINATION,
    RULES_PROTOCOL,
    RULES_SOURCE_PORT,
    RULES_DESTINATION_PORT,
    RULES_DSCP,
    RULES_INTERFACE,
    RULES_VLAN,
    RULES_MAC,
    BYPASS,
    SOURCE_UPLINKS,
    COUNTERS,
    UPLINK_COUNTERS,
    UPLINKS,
    UPLINK_ADDRESSES,
    SOCKET_MARKS,
    DOMAIN_RULES,
    DOMAINS,
    QUERIES,
    RESOLVERS,
    ASKED,
];

/// The maps that hold the configuration. Each configuration has maps of its own, so that a program
/// sees all of it or nothing; the others are handed on from one datapath to the next.
pub const POLICY_MAPS: [&str; 17] = [
    SETTINGS,
    BUCKETS,
    STICKY_PORTS,
    STICKY_CLASSES,
    ACTIONS,
    RULES_SOURCE,
    RULES_DESTINATION,
    RULES_PROTOCOL,
    RULES_SOURCE_PORT,
    RULES_DESTINATION_PORT,
    RULES_DSCP,
    RULES_INTERFACE,
    RULES_VLAN,
    RULES_MAC,
    SOURCE_UPLINKS,
    DOMAIN_RULES,
    RESOLVERS,
];

/// The program at the ingress of LAN interfaces with Ethernet headers.
pub const PROGRAM_INGRESS: &str = "linkbal_ingress";
/// The program at the ingress of LAN interfaces without link-layer headers, such as tunnels.
pub const PROGRAM_BARE: &str = "linkbal_bare";
/// The program at the egress of LAN interfaces with Ethernet headers.
pub const PROGRAM_EGRESS: &str = "linkbal_egress";
/// The program at the egress of LAN interfaces without link-layer headers.
pub const PROGRAM_BARE_EGRESS: &str = "linkbal_bare_egress";

/// The program at the ingress of uplinks and of the loopback device, with Ethernet headers, which
/// reads the DNS replies to the gateway itself.
pub const PROGRAM_REPLIES: &str = "linkbal_replies";
/// The same program for uplinks without link-layer headers.
pub const PROGRAM_BARE_REPLIES: &str = "linkbal_bare_replies";
/// The program at the egress of these interfaces, which learns flows and notes the queries.
pub const PROGRAM_WAN_EGRESS: &str = "linkbal_wan_egress";
/// The same program for uplinks without link-layer headers.
pub const PROGRAM_BARE_WAN_EGRESS: &str = "linkbal_bare_wan_egress";

/// The programs at the ingress and the egress of an uplink while there is a drill.
pub const DRILL_PROGRAMS: [&str; 2] = ["linkbal_drill_in", "linkbal_drill_out"];
/// The settings of the drill: one [`crate::drill::Drill`]. Not pinned, nor is [`DRILLED`].
pub const DRILL: &str = "DRILL";
/// Number of packets that the drill dropped: a `u64` for each CPU.
pub const DRILLED: &str = "DRILLED";

/// All programs that are attached to interfaces all the time.
pub const PROGRAMS: [&str; 8] = [
    PROGRAM_INGRESS,
    PROGRAM_BARE,
    PROGRAM_EGRESS,
    PROGRAM_BARE_EGRESS,
    PROGRAM_REPLIES,
    PROGRAM_BARE_REPLIES,
    PROGRAM_WAN_EGRESS,
    PROGRAM_BARE_WAN_EGRESS,
];

/// The programs of a cgroup, for local traffic.
pub const LOCAL_PROGRAMS: [&str; 5] = [
    "linkbal_connect4",
    "linkbal_connect6",
    "linkbal_sendmsg4",
    "linkbal_sendmsg6",
    PROGRAM_DELIVERED,
];
/// The program of these that sees the packets delivered to sockets.
pub const PROGRAM_DELIVERED: &str = "linkbal_delivered";
