//! Names of the programs, as in the eBPF object and in bpffs.

/// The program at the ingress of LAN interfaces with Ethernet headers.
pub const PROGRAM_INGRESS: &str = "linkbal_ingress";
/// The program at the ingress of LAN interfaces without link-layer headers, such as tunnels.
pub const PROGRAM_L3: &str = "linkbal_l3";
/// The program at the egress of LAN interfaces with Ethernet headers.
pub const PROGRAM_EGRESS: &str = "linkbal_egress";
/// The program at the egress of LAN interfaces without link-layer headers.
pub const PROGRAM_L3_EGRESS: &str = "linkbal_l3_egress";

/// The program at the ingress of uplinks and of the loopback device, with Ethernet headers, which
/// reads the DNS replies to the gateway itself.
pub const PROGRAM_REPLIES: &str = "linkbal_replies";
/// The same program for uplinks without link-layer headers.
pub const PROGRAM_L3_REPLIES: &str = "linkbal_l3_replies";
/// The program at the ingress of uplinks with Ethernet headers whose answers take shortcuts; it does
/// what [`PROGRAM_REPLIES`] does, too.
pub const PROGRAM_WAN_INGRESS: &str = "linkbal_wan_ingress";
/// The same program for uplinks without link-layer headers.
pub const PROGRAM_L3_WAN_INGRESS: &str = "linkbal_l3_wan_ingress";
/// The program at the egress of these interfaces, which learns flows and notes the queries.
pub const PROGRAM_WAN_EGRESS: &str = "linkbal_wan_egress";
/// The same program for uplinks without link-layer headers.
pub const PROGRAM_L3_WAN_EGRESS: &str = "linkbal_l3_wan_egress";

/// The program at the driver of LAN interfaces, if shortcuts begin there.
pub const PROGRAM_XDP_LAN: &str = "linkbal_xdp_lan";
/// The program at the driver of uplinks, if shortcuts begin there.
pub const PROGRAM_XDP_WAN: &str = "linkbal_xdp_wan";
/// The program that tries whether an interface sends frames at its driver.
pub const PROGRAM_XDP_TRY: &str = "linkbal_xdp_try";

/// The programs at the ingress and the egress of an uplink while there is a drill.
pub const DRILL_PROGRAMS: [&str; 2] = ["linkbal_drill_in", "linkbal_drill_out"];
/// The programs that are loaded before anything changes: a kernel that refuses them cannot run linkbal.
pub const ESSENTIAL_PROGRAMS: [&str; 3] = [PROGRAM_INGRESS, PROGRAM_EGRESS, PROGRAM_WAN_EGRESS];
/// All programs that are attached to interfaces all the time. The others of them are loaded when the
/// first interface of their kind appears, since the kernel takes long to verify each.
pub const PROGRAMS: [&str; 10] = [
    PROGRAM_INGRESS,
    PROGRAM_L3,
    PROGRAM_EGRESS,
    PROGRAM_L3_EGRESS,
    PROGRAM_REPLIES,
    PROGRAM_L3_REPLIES,
    PROGRAM_WAN_INGRESS,
    PROGRAM_L3_WAN_INGRESS,
    PROGRAM_WAN_EGRESS,
    PROGRAM_L3_WAN_EGRESS,
];

/// The number in the object that is 1 if there are shortcuts.
pub const SHORTCUTS: &str = "SHORTCUTS";

/// The number in the object of bits of `jiffies` below a window of shortcuts.
pub const WINDOW_SHIFT: &str = "WINDOW_SHIFT";

/// The number in the object that is 1 if flows of the present window are remembered.
pub const RECENT_FLOWS: &str = "RECENT_FLOWS";

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
