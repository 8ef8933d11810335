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

/// Interfaces to providers, and the uplink of each: see [`crate::tables::Tables::uplink_on`].
pub const UPLINKS: &str = "UPLINKS";

/// All maps that are pinned.
pub const MAPS: [&str; 10] = [
    SETTINGS,
    UP_MASK,
    BUCKETS,
    FLOWS,
    SESSIONS,
    STICKY_PORTS,
    BYPASS,
    COUNTERS,
    UPLINK_COUNTERS,
    UPLINKS,
];

/// The program at the ingress of LAN interfaces with Ethernet headers.
pub const PROGRAM_INGRESS: &str = "linkbal_ingress";
/// The program at the ingress of LAN interfaces without link-layer headers, such as tunnels.
pub const PROGRAM_BARE: &str = "linkbal_bare";
/// The program at the egress of LAN interfaces with Ethernet headers.
pub const PROGRAM_EGRESS: &str = "linkbal_egress";
/// The program at the egress of LAN interfaces without link-layer headers.
pub const PROGRAM_BARE_EGRESS: &str = "linkbal_bare_egress";

/// All programs.
pub const PROGRAMS: [&str; 4] =
    [PROGRAM_INGRESS, PROGRAM_BARE, PROGRAM_EGRESS, PROGRAM_BARE_EGRESS];
