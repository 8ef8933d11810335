//! The values of a configuration, and their defaults.

mod accelerate;
mod bond;
mod exempt;
mod firewall;
mod ipv6;
mod notify;
mod probe;
pub(in crate::config) mod target;

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use crate::per_family::PerFamily;
use ipnet::{IpNet, Ipv4Net};
use linkbal_common::mark::DEFAULT_MASK;

pub use self::{
    accelerate::Accelerate,
    bond::{ArpValidate, Bond, BondMode, LacpRate, Monitor, Named, XmitHashPolicy, name_of},
    exempt::Exempt,
    firewall::{Firewall, Inbound},
    ipv6::{Ipv6, Npt},
    notify::{Destination, Encryption, Mail, Post, Receiver, Server},
    probe::{Limits, Loss, OnDegraded, Probe},
    target::{Host, HttpTarget, Profile, Target},
};

/// A complete and valid configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Bonds: interfaces that consist of several others, sorted by name.
    pub bonds: Vec<Bond>,
    /// Interfaces of the LAN, names and patterns (see [`pattern`](super::pattern)); at least one unless
    /// `local_balance` is on.
    pub lan_interfaces: Vec<String>,
    /// Set if local traffic is balanced, too.
    pub local_balance: bool,
    /// Set if the weights of uplinks follow their free capacity.
    pub adaptive: bool,
    /// The uplinks, sorted by name: at least one, at most [`linkbal_common::uplink::MAX_UPLINKS`].
    pub uplinks: Vec<Uplink>,
    /// Classes of sticky flows; no port is in two classes.
    pub sticky: Vec<Sticky>,
    /// Rules, the first that matches decides; at most [`MAX_RULES`](linkbal_common::rule::MAX_RULES). Those for the resolvers of
    /// uplinks come before those of the user.
    pub rules: Vec<Rule>,
    /// Packets that are not translated.
    pub exempt: Vec<Exempt>,
    /// Policy for connections from outside.
    pub firewall: Firewall,
    /// The way of established flows through this machine.
    pub accelerate: Accelerate,
    /// Interfaces of the LAN, names and patterns, whose packets take no shortcuts.
    pub accelerate_except: Vec<String>,
    /// DNS servers whose replies are trusted.
    pub dns: Dns,
    /// The API by TCP.
    pub api: Api,
    /// Programs that are run after changes.
    pub hooks: Hooks,
    /// Receivers of messages, sorted by name.
    pub receivers: Vec<Receiver>,
    /// Numbers that linkbal uses in the kernel.
    pub kernel: Kernel,
}

/// One uplink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// Name: letters, digits, `-`, `_`; 1 to 32 of them.
    pub name: String,
    /// Network interface.
    pub interface: String,
    /// Share of the flows, relative to the other uplinks of its tier: 0 to 10000.
    pub weight: u32,
    /// The tier, 1 to 16. A higher one is used only while all uplinks of lower ones are down or
    /// avoided (full, drained or degraded).
    pub tier: u32,
    /// Gateways.
    pub gateway: PerFamily<Gateway>,
    /// Uplinks that the outer packets of a tunnel may use, the best one first; if empty, all that
    /// are no tunnels.
    pub over: Vec<String>,
    /// Destinations of the outer packets of a tunnel; if empty, those that the kernel reports.
    pub endpoints: Vec<IpAddr>,
    /// Set if sources other than its own prefixes are translated, unless `ipv6` says otherwise.
    pub nat: bool,
    /// IPv4 prefixes that the provider routes here: their addresses are not translated, and use no
    /// other uplink. None overlaps another one of any uplink.
    pub prefixes_ipv4: Vec<Ipv4Net>,
    /// Mode of IPv6.
    pub ipv6: Ipv6,
    /// Addresses that move between two gateways: while they are at the other one, this one is on
    /// standby. Flows are translated to the first one of their family.
    pub virtual_addresses: Vec<IpAddr>,
    /// Action on its flows when it goes down.
    pub on_down: OnDown,
    /// Capacity of the line, if known.
    pub capacity: Option<Capacity>,
    /// Share of the capacity from which on new flows use other uplinks: 100 to 1000 thousandths,
    /// only with a capacity.
    pub spillover: Option<u32>,
    /// Action on its flows when an uplink of a better tier comes up.
    pub on_up: OnUp,
    /// DNS servers that answer only customers of this provider: packets to them use this uplink.
    pub resolvers: Vec<IpAddr>,
    /// MTU of the path by the provider, to which the MSS of TCP connections is clamped.
    pub mtu: Option<u32>,
    /// Set if its flows may take shortcuts, if [`Config::accelerate`] has any.
    pub accelerate: bool,
    /// Settings of its health probes.
    pub probe: Probe,
}

/// The capacity of a line, in bits per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Rate from the provider.
    pub down: u64,
    /// Rate to the provider.
    pub up: u64,
}

/// Action on the flows of an uplink that goes down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDown {
    /// TCP connections are reset, so that programs reconnect at once; all other flows move.
    #[default]
    Reset,
    /// All flows move: for uplinks without NAT, whose connections survive that.
    Move,
    /// All flows stay and wait.
    Keep,
}

/// Action on the flows of a backup when an uplink of a better tier comes up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnUp {
    /// The flows stay until they end.
    #[default]
    Drain,
    /// The flows are ended, to begin anew on the better uplink.
    Reclaim {
        /// Time for which the better uplink must have been usable.
        after: Duration,
    },
}

/// The source of an uplink's gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gateway {
    /// The default route of the main table on the uplink's interface; none on point-to-point.
    #[default]
    Auto,
    /// A configured gateway.
    Address(IpAddr),
}

/// The flows that share a sticky session.
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
    /// Destination ports, of TCP and UDP; at least one.
    pub ports: Vec<u16>,
    /// The flows that share a session.
    pub by: StickyBy,
    /// Time without a packet after which the session ends; whole seconds.
    pub idle: Duration,
    /// IP protocols whose flows join a session without one of the ports: those without ports, and
    /// those to ports from 1024 on.
    pub related: Vec<u8>,
}

impl Default for Sticky {
    /// Returns the class of HTTPS and QUIC.
    fn default() -> Sticky {
        Sticky {
            ports: vec![443],
            by: StickyBy::SourceAndDestination,
            idle: Duration::from_secs(600),
            related: Vec::new(),
        }
    }
}

/// A rule of the user; the first one that matches a new flow decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The flows that it matches.
    pub matches: Match,
    /// The uplinks for these flows; if empty, all uplinks, as without a rule.
    pub members: Vec<Member>,
    /// Action on these flows when none of `members` is usable.
    pub otherwise: Otherwise,
    /// Stickiness of these flows; `None` if `[[sticky]]` decides.
    pub sticky: Option<RuleSticky>,
}

/// The conditions of a rule: a flow must match one element of every list that is not empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// Source prefixes.
    pub source: Vec<IpNet>,
    /// Destination prefixes.
    pub destination: Vec<IpNet>,
    /// Domains of the destination, subdomains included: in lower case, without a final dot.
    pub domain: Vec<String>,
    /// IP protocol numbers.
    pub protocol: Vec<u8>,
    /// Source ports: first and last of each range. Only TCP, UDP and SCTP have ports.
    pub source_port: Vec<(u16, u16)>,
    /// Destination ports: first and last of each range.
    pub destination_port: Vec<(u16, u16)>,
    /// DSCP values, 0 to 63 (RFC 2474).
    pub dscp: Vec<u8>,
    /// LAN interfaces that the packet arrives on.
    pub interface: Vec<String>,
    /// VLANs of a tagged packet, 1 to 4094.
    pub vlan: Vec<u16>,
    /// Source MAC addresses.
    pub mac: Vec<[u8; 6]>,
}

/// An uplink of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Name of the uplink.
    pub uplink: String,
    /// Share of the rule's flows, relative to the other members of its tier.
    pub weight: u32,
    /// Members of a higher tier are used only while all of the lower ones are down.
    pub tier: u32,
}

/// Action on flows whose uplinks are all down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Otherwise {
    /// The flows use the other uplinks, as without a rule.
    #[default]
    Balance,
    /// The packets are dropped silently.
    Drop,
    /// The packets are answered with an error: the destination is unreachable.
    Reject,
}

/// The stickiness of the flows of one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleSticky {
    /// The flows that share a session.
    pub by: StickyBy,
    /// Time without a packet after which the session ends.
    pub idle: Duration,
    /// Leading bits of IPv4 and IPv6 source addresses that count: neighbours share a session.
    pub source_bits: (u8, u8),
}

/// The sources of the addresses of domains, beside this machine's own DNS server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    /// DNS servers whose replies are trusted; `None` stands for those of `/etc/resolv.conf`.
    pub resolvers: Option<Vec<IpAddr>>,
}

/// The API by TCP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Api {
    /// Address and port at which it is served; loopback, unless there is a token.
    pub listen: Option<SocketAddr>,
    /// File with the token.
    pub token_file: Option<PathBuf>,
    /// Names of this machine in requests, in lower case.
    pub hosts: Vec<String>,
}

/// Programs of the user that are run by linkbal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hooks {
    /// Command for every event: a program with its absolute path, and its arguments.
    pub on_change: Option<Vec<String>>,
}

/// Numbers that linkbal uses in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// linkbal's bits of the fwmark.
    pub fwmark_mask: u32,
    /// First routing table.
    pub table_base: u32,
    /// Priority of the first ip rule.
    pub rule_priority: u32,
    /// Entries of the flow table; `None` if they depend on the memory of the machine.
    pub flow_table_size: Option<u32>,
    /// File with the seed of the hash, which two gateways share; without it, the seed is random.
    pub hash_seed_file: Option<PathBuf>,
}

impl Default for Kernel {
    fn default() -> Kernel {
        Kernel {
            fwmark_mask: DEFAULT_MASK,
            table_base: 2600,
            rule_priority: 26_000,
            flow_table_size: None,
            hash_seed_file: None,
        }
    }
}
