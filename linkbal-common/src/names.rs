//! Names of maps and programs, as the eBPF object spells them and bpffs pins them.

/// The settings of the datapath: one [`crate::settings::Settings`].
pub const SETTINGS: &str = "SETTINGS";
/// Which uplinks are usable: one [`crate::uplink::UpMask`].
pub const UP_MASK: &str = "UP_MASK";
/// The ranked buckets: [`crate::bucket::BUCKETS`] of [`crate::bucket::Bucket`].
pub const BUCKETS: &str = "BUCKETS";
/// The flow table: [`crate::flow::FlowKey`] to [`crate::flow::Flow`].
pub const FLOWS: &str = "FLOWS";
/// The sticky sessions: [`crate::flow::SessionKey`] to [`crate::flow::Session`].
pub const SESSIONS: &str = "SESSIONS";
/// Destination ports that stick: [`crate::classify::PortKey`] to the index of a sticky class.
pub const STICKY_PORTS: &str = "STICKY_PORTS";
/// Destinations that never use an uplink's table: prefixes as [`crate::tables::prefix_data`].
pub const BYPASS: &str = "BYPASS";
/// Packets by what became of them: one [`crate::counter::Counters`] for each CPU.
pub const COUNTERS: &str = "COUNTERS";
/// Traffic by uplink: [`crate::counter::UplinkCounters`] for each uplink and CPU.
pub const UPLINK_COUNTERS: &str = "UPLINK_COUNTERS";

/// The addresses of the uplinks: at [`crate::tables::uplink_address_index`].
pub const UPLINK_ADDRESSES: &str = "UPLINK_ADDRESSES";
/// The fwmarks that the gateway's own sockets got, by socket.
pub const SOCKET_MARKS: &str = "SOCKET_MARKS";

/// All maps that are pinned.
pub const MAPS: [&str; 11] = [
    SETTINGS,
    UP_MASK,
    BUCKETS,
    FLOWS,
    SESSIONS,
    STICKY_PORTS,
    BYPASS,
    COUNTERS,
    UPLINK_COUNTERS,
    UPLINK_ADDRESSES,
    SOCKET_MARKS,
];

/// The program at the ingress of LAN interfaces with Ethernet headers.
pub const PROGRAM_INGRESS: &str = "linkbal_ingress";
/// The program at the ingress of LAN interfaces without link-layer headers, such as tunnels.
pub const PROGRAM_BARE: &str = "linkbal_bare";

/// All programs of interfaces.
pub const PROGRAMS: [&str; 2] = [PROGRAM_INGRESS, PROGRAM_BARE];

/// The programs of a cgroup, for the gateway's own traffic.
pub const LOCAL_PROGRAMS: [&str; 4] =
    ["linkbal_connect4", "linkbal_connect6", "linkbal_sendmsg4", "linkbal_sendmsg6"];
