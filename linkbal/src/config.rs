//! The configuration as values.

use std::{net::IpAddr, time::Duration};

/// A complete and valid configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Interfaces of the LAN, at least one.
    pub lan_interfaces: Vec<String>,
    /// The uplinks, sorted by name.
    pub uplinks: Vec<Uplink>,
    /// What sticks to an uplink.
    pub sticky: Vec<Sticky>,
    /// Numbers that linkbal uses in the kernel.
    pub kernel: Kernel,
}

/// One uplink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// Name: letters, digits, `-`, `_`.
    pub name: String,
    /// Network interface.
    pub interface: String,
    /// Share of the flows, relative to the other uplinks of its tier.
    pub weight: u32,
    /// Uplinks of a higher tier are used only while all of the lower ones are down.
    pub tier: u32,
    /// IPv4 gateway.
    pub gateway_ipv4: Gateway,
    /// IPv6 gateway.
    pub gateway_ipv6: Gateway,
    /// How its health is found out.
    pub probe: Probe,
}

/// Where an uplink's gateway is known from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gateway {
    /// The default route of the main table on the uplink's interface; none on point-to-point.
    #[default]
    Auto,
    /// Configured.
    Address(IpAddr),
}

/// Probing of one uplink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Addresses to ask; none means: the carrier alone decides.
    pub targets: Vec<IpAddr>,
    /// Time between rounds; a round asks all targets.
    pub interval: Duration,
    /// Time after which an answer counts as lost; `None`: derived from the measured latency.
    pub timeout: Option<Duration>,
    /// Failed rounds in a row until the uplink is down.
    pub failure_count: u32,
    /// Good rounds in a row until a down uplink may come back.
    pub success_count: u32,
    /// Targets of a family that must answer for a round to be good.
    pub quorum: u32,
    /// How long a down uplink must answer well before it comes back.
    pub hold: Duration,
}

/// Who shares a sticky session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StickyBy {
    /// All flows of a source.
    Source,
    /// All flows of a source to one destination.
    SourceAndDestination,
}

/// A class of sticky flows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sticky {
    /// Destination ports, of TCP and UDP.
    pub ports: Vec<u16>,
    /// Who shares a session.
    pub by: StickyBy,
    /// Time without a packet after which the session ends.
    pub idle: Duration,
}

/// Numbers in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// linkbal's bits of the fwmark.
    pub fwmark_mask: u32,
    /// Table of the best uplink; uplink `i` has this plus one plus `i`.
    pub table_base: u32,
    /// Priority of the first ip rule; the next 199 are linkbal's too.
    pub rule_priority: u32,
    /// Entries of the flow table.
    pub flow_table_size: u32,
}
