//! The kernel's network state as values: observations, and the changes to make.

pub(crate) mod family;
mod words;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
};

use ipnet::IpNet;
use linkbal_common::uplink::Family;
use serde::{Deserialize, Serialize};

pub use self::words::{route_command, table_name};
use super::{
    bond::{BondChange, Bonding},
    resource::{Process, ResourceKind},
};
use crate::per_family::PerFamily;

/// The routing protocol number that marks routes and ip rules as linkbal's (`rt_protos`).
pub const PROTOCOL: u8 = 201;

/// Table of the kernel's own routes and of those of others.
pub const TABLE_MAIN: u32 = 254;

/// Table of the addresses of this machine.
pub const TABLE_LOCAL: u32 = 255;

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Link {
    /// Interface index.
    pub ifindex: u32,
    /// Interface name.
    pub name: String,
    /// Set if it is administratively up (`IFF_UP`).
    pub up: bool,
    /// Set if the lower layer is up (`IFF_LOWER_UP`): the cable is in.
    pub carrier: bool,
    /// Set if it has no neighbours, like PPP or WireGuard (`IFF_POINTOPOINT` or `IFF_NOARP`): a
    /// gateway address is not needed.
    pub point_to_point: bool,
    /// Set if its packets begin with an Ethernet header (`ARPHRD_ETHER`, `ARPHRD_LOOPBACK`).
    pub ethernet: bool,
    /// Set if it is part of a bridge, a bond or the like (`IFLA_MASTER`); not if it is part of a
    /// VRF.
    #[serde(default)]
    pub port: bool,
    /// Index of the VRF that it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vrf: Option<u32>,
    /// MTU in bytes, of IPv4 and IPv6; 0 if unknown.
    #[serde(default)]
    pub mtu: PerFamily<u32>,
}

#[cfg(test)]
impl Link {
    /// Returns an Ethernet interface that is up.
    pub(crate) fn ethernet(ifindex: u32, name: &str) -> Link {
        Link {
            ifindex,
            name: name.into(),
            up: true,
            carrier: true,
            point_to_point: false,
            ethernet: true,
            port: false,
            vrf: None,
            mtu: PerFamily::both(1500),
        }
    }
}

/// The loopback device.
pub const LOOPBACK: &str = "lo";

/// The role of an interface in the datapath, which decides what runs there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// An interface of the LAN.
    Lan,
    /// An interface of an uplink: flows are learned from the packets that leave.
    Wan,
    /// The same, or the loopback device, with DNS look-ups of local traffic being read as well.
    WanDns,
    /// An interface of an uplink whose flows take shortcuts, with DNS look-ups being read if they
    /// matter.
    WanShortcut,
}

/// An address of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub struct Address {
    /// Index of the interface that holds it.
    pub ifindex: u32,
    /// The address.
    pub address: IpAddr,
    /// Prefix length of its network.
    pub prefix_length: u8,
    /// Set if it is not for new connections (`IFA_F_DEPRECATED`).
    #[serde(default)]
    pub deprecated: bool,
    /// Set if it is an IPv6 address that another one replaces after a while (`IFA_F_TEMPORARY`).
    #[serde(default)]
    pub temporary: bool,
    /// Set if the address is gone, but may come back at any moment: nothing can be sent from it
    /// now.
    #[serde(skip)]
    pub held: bool,
}

/// The treatment of a packet by a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub enum RouteKind {
    /// The packet is sent to a next hop.
    Unicast,
    /// The packet is delivered or broadcast here: a route of the local table.
    Local,
    /// The packet is refused with an ICMP error.
    Unreachable,
    /// The packet is dropped in silence.
    Blackhole,
    /// Any other treatment.
    Other,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub struct Route {
    /// Table id.
    pub table: u32,
    /// Destination prefix; length 0 for a default route.
    pub destination: IpNet,
    /// Metric (priority); the lowest wins.
    pub metric: u32,
    /// Kind of route.
    pub kind: RouteKind,
    /// Address of the next hop.
    pub nexthop: Option<IpAddr>,
    /// Index of the device that packets leave by.
    pub ifindex: Option<u32>,
    /// Set if the next hop is taken to be on the link without asking (`RTNH_F_ONLINK`).
    pub onlink: bool,
    /// Origin of the route (`rtm_protocol`).
    pub protocol: u8,
    /// MTU in bytes (`RTAX_MTU`), if the route has one of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
}

impl Route {
    /// Returns the family of the destination.
    pub const fn family(&self) -> Family {
        match self.destination {
            IpNet::V4(_) => Family::Ipv4,
            IpNet::V6(_) => Family::Ipv6,
        }
    }

    /// Returns whether it is a default route.
    pub fn is_default(&self) -> bool {
        self.destination.prefix_len() == 0
    }
}

/// Formats a route like `ip route`, with the interface's index in place of its name.
impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            RouteKind::Unreachable => f.write_str("unreachable ")?,
            RouteKind::Blackhole => f.write_str("blackhole ")?,
            RouteKind::Unicast | RouteKind::Local | RouteKind::Other => {}
        }
        write!(f, "{}", self.destination)?;
        if let Some(nexthop) = self.nexthop {
            write!(f, " via {nexthop}")?;
        }
        if let Some(ifindex) = self.ifindex {
            write!(f, " dev {ifindex}")?;
        }
        write!(f, " table {} metric {}", table_name(self.table), self.metric)?;
        self.mtu.map_or(Ok(()), |mtu| write!(f, " mtu {mtu}"))
    }
}

/// A policy routing rule of the kernel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub struct IpRule {
    /// Family.
    #[serde(with = "family")]
    pub family: Family,
    /// Priority; the lowest is asked first.
    pub priority: u32,
    /// Source prefix that it matches; `None` for all.
    pub source: Option<IpNet>,
    /// Destination prefix that it matches; `None` for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<IpNet>,
    /// Set if it only matches local traffic (`iif lo`).
    #[serde(default, skip_serializing_if = "is_false")]
    pub from_here: bool,
    /// Fwmark and mask that it matches; `None` for all.
    pub fwmark: Option<(u32, u32)>,
    /// Device that the sender has chosen (`oif`); `None` for all packets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Table that it looks up; 0 if its action is not a lookup.
    pub table: u32,
    /// Longest prefix length of the routes that do not count (`FRA_SUPPRESS_PREFIXLEN`).
    pub suppress_prefix_length: Option<u32>,
    /// Priority of the rule that forwarded packets are sent on to (`not iif lo goto`); such a rule has no
    /// other condition, and no table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forwarded_goto: Option<u32>,
    /// Origin of the rule (`FRA_PROTOCOL`).
    pub protocol: u8,
    /// Further conditions, and the action if that is no lookup, as `ip rule` spells them: `not`,
    /// `iif lan0`, `unreachable`. Linkbal's rules have none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub more: String,
}

#[cfg(test)]
impl IpRule {
    /// Creates a rule of IPv4 that an administrator made: all packets look up a table.
    pub const fn by_hand(priority: u32, table: u32) -> IpRule {
        IpRule {
            family: Family::Ipv4,
            priority,
            source: None,
            destination: None,
            from_here: false,
            fwmark: None,
            device: None,
            table,
            suppress_prefix_length: None,
            forwarded_goto: None,
            protocol: 3,
            more: String::new(),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands on a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// Formats a rule like `ip rule`.
impl fmt::Display for IpRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}{}", self.priority, self.family.name(), self.words())
    }
}

/// The outer packets of an interface that wraps packets into others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Tunnel {
    /// Destination addresses of the outer packets; WireGuard has one for each peer that is known.
    pub endpoints: BTreeSet<IpAddr>,
    /// Source address of the outer packets, if it is not left to routing.
    pub local: Option<IpAddr>,
    /// The only device that they may leave by.
    pub device: Option<u32>,
    /// Fwmark that they are given; 0 for none of their own.
    pub fwmark: u32,
    /// Set if the driver takes their destination from the route of each packet: 6rd, several peers of GRE,
    /// `external` ones.
    #[serde(default, skip_serializing_if = "is_false")]
    pub by_route: bool,
}

/// An observation of everything at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Snapshot {
    /// Interfaces by index.
    pub links: BTreeMap<u32, Link>,
    /// The tunnels among them, by index.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tunnels: BTreeMap<u32, Tunnel>,
    /// Addresses of all interfaces, those still in duplicate detection left out.
    pub addresses: Vec<Address>,
    /// Routes of all tables, cached and cloned ones left out.
    pub routes: Vec<Route>,
    /// ip rules of both families.
    pub rules: Vec<IpRule>,
    /// Values of the sysctls that were asked for or changed, by path below `/proc/sys`, without line
    /// ends.
    pub sysctls: BTreeMap<String, String>,
    /// The sysctls among them that linkbal has changed, with their values before.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctls_before: BTreeMap<String, String>,
    /// The values that linkbal gave to these.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctls_set: BTreeMap<String, String>,
    /// Families whose forwarded packets a firewall of others filters; the engine adds this.
    #[serde(skip)]
    pub filtered: BTreeSet<Family>,
    /// Set if the nft table stands as linkbal last wrote it.
    pub nft_current: bool,
    /// Set if the nft table of the flowtable is not as it was last asked for.
    #[serde(default, skip_serializing_if = "is_false")]
    pub flowtable_stale: bool,
    /// State of bonds, if there are any.
    #[serde(default)]
    pub bonding: Option<Bonding>,
    /// The parts that could not be observed, with the reason: for these, this has what was known
    /// before.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unobserved: BTreeMap<Unobserved, String>,
}

/// A part of the state that may not be observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub enum Unobserved {
    /// The nft table: nft failed.
    #[serde(rename = "the program nft")]
    Nft,
}

impl fmt::Display for Unobserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unobserved::Nft => f.write_str("the program nft"),
        }
    }
}

impl Snapshot {
    /// Returns the interface with a name.
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.values().find(|link| link.name == name)
    }

    /// Returns the name of the VRF that an interface is in.
    pub fn vrf(&self, link: &Link) -> Option<String> {
        let vrf = link.vrf?;
        let known = self.links.get(&vrf).map(|vrf| vrf.name.clone());
        Some(known.unwrap_or_else(|| format!("if{vrf}")))
    }

    /// Returns whether the machine forwards packets of a family, as far as it is known.
    pub fn forwards(&self, family: Family) -> bool {
        self.sysctls.get(forwarding(family)).is_none_or(|value| value != "0")
    }

    /// Sets the state of an interface, in place of that with its name: if that was recreated, it had
    /// another index.
    pub(in crate::engine) fn set_link(&mut self, link: Link) {
        self.links.retain(|_, known| known.name != link.name);
        self.links.insert(link.ifindex, link);
    }
}

/// End of the path of the sysctls by which an interface takes packets with this machine's own
/// addresses as their source (Documentation/networking/ip-sysctl.rst).
pub const ACCEPT_LOCAL: &str = "/accept_local";

/// Returns the sysctl that makes this machine forward packets of a family.
pub const fn forwarding(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "net/ipv4/ip_forward",
        Family::Ipv6 => "net/ipv6/conf/all/forwarding",
    }
}

/// One change of the kernel's network state. In a list, earlier ones come first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Changes a bond or one of its members.
    Bond(BondChange),
    /// Writes a sysctl: path below `/proc/sys`, value. With its value before linkbal, it is given back.
    SetSysctl(String, String),
    /// Adds a route, replacing the one with the same table, destination and metric.
    ReplaceRoute(Route),
    /// Adds an ip rule.
    AddRule(IpRule),
    /// Replaces the nft table by this text.
    ReplaceNft(String),
    /// Replaces the nft table of the flowtable by this text, or deletes it.
    SetFlowtable(Option<String>),
    /// Deletes an ip rule.
    DeleteRule(IpRule),
    /// Deletes a route.
    DeleteRoute(Route),
}

/// A message of the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum NetworkEvent {
    /// An interface appeared or changed.
    Link(Link),
    /// An interface is gone.
    LinkGone {
        /// Index of the interface.
        ifindex: u32,
    },
    /// An address of an interface is gone, and with the last one all its routes.
    AddressGone {
        /// Index of the interface.
        ifindex: u32,
    },
    /// Addresses, routes or rules changed: a new observation is needed.
    Changed,
    /// Messages were lost: everything must be observed again.
    Overrun,
    /// A resource that may be linkbal's was deleted or changed.
    #[serde(alias = "Touched")]
    ResourceChanged {
        /// Kind of resource.
        what: ResourceKind,
        /// The process that did it, if the kernel tells.
        by: Option<Process>,
    },
    /// The kernel gave up finding the link-layer address of a neighbour.
    NeighbourFailed {
        /// Index of the interface.
        ifindex: u32,
        /// Address of the neighbour.
        address: IpAddr,
    },
    /// The nft tables of others changed.
    OtherTables {
        /// The process that did it, if the kernel tells.
        by: Option<Process>,
    },
    /// Obstacles to shortcuts may have come or gone: the engine ignores this, the daemon asks the
    /// kernel.
    Obstacle,
    /// A pin, or the filter of an interface, may be gone: the engine ignores this, the daemon looks
    /// after the datapath.
    Datapath {
        /// Index of the interface that lost its filter; `None` for a pin.
        ifindex: Option<u32>,
    },
}
