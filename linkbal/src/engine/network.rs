//! The kernel's network state as values: what was observed, and the changes to make to it.

pub(super) mod family;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
};

use ipnet::IpNet;
use linkbal_common::uplink::Family;
use serde::{Deserialize, Serialize};

use super::{
    bond::{BondChange, Bonding},
    repair::{Process, Touch},
};

/// The routing protocol number that marks routes and ip rules as linkbal's (`rt_protos`).
pub const PROTOCOL: u8 = 201;

/// Table of the kernel's own routes and of other people's.
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
    /// Administratively up (`IFF_UP`).
    pub up: bool,
    /// The lower layer is up (`IFF_LOWER_UP`): the cable is in.
    pub carrier: bool,
    /// Without neighbours, like PPP or WireGuard (`IFF_POINTOPOINT` or `IFF_NOARP`): a gateway
    /// address is not needed.
    pub point_to_point: bool,
    /// Its packets begin with an Ethernet header (`ARPHRD_ETHER`, `ARPHRD_LOOPBACK`).
    pub ethernet: bool,
    /// A part of a bridge, a bond or the like (`IFLA_MASTER`); one of a VRF is none.
    #[serde(default)]
    pub port: bool,
}

/// The loopback device.
pub const LOOPBACK: &str = "lo";

/// What an interface is to the datapath, which decides what runs there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Of the LAN.
    Lan,
    /// An uplink: flows are learned from what leaves.
    Wan,
    /// The same, or the loopback device, where the gateway's own DNS look-ups are read as well.
    WanDns,
}

/// An address of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub struct Address {
    /// Interface that holds it.
    pub ifindex: u32,
    /// The address.
    pub address: IpAddr,
    /// Length of its network's prefix.
    pub prefix_length: u8,
    /// Not for new connections (`IFA_F_DEPRECATED`).
    #[serde(default)]
    pub deprecated: bool,
    /// One of IPv6 that another one takes the place of after a while (`IFA_F_TEMPORARY`).
    #[serde(default)]
    pub temporary: bool,
    /// It is gone, but may come back at any moment: nothing can be sent from it now.
    #[serde(skip)]
    pub held: bool,
}

/// What a route does with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub enum RouteKind {
    /// Sends it to a nexthop.
    Unicast,
    /// Delivers or broadcasts it here: a route of the local table.
    Local,
    /// Refuses it with an ICMP error.
    Unreachable,
    /// Drops it in silence.
    Blackhole,
    /// Anything else.
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
    /// What it does.
    pub kind: RouteKind,
    /// Nexthop address.
    pub nexthop: Option<IpAddr>,
    /// Device it leaves by.
    pub ifindex: Option<u32>,
    /// Whether the nexthop is taken to be on the link without asking (`RTNH_F_ONLINK`).
    pub onlink: bool,
    /// Who installed it (`rtm_protocol`).
    pub protocol: u8,
}

impl Route {
    /// Family of the destination.
    pub const fn family(&self) -> Family {
        match self.destination {
            IpNet::V4(_) => Family::Ipv4,
            IpNet::V6(_) => Family::Ipv6,
        }
    }

    /// Whether it catches everything.
    pub fn is_default(&self) -> bool {
        self.destination.prefix_len() == 0
    }
}

/// As `ip route` spells it, with the interface's index for its name.
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
        write!(f, " table {} metric {}", self.table, self.metric)
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
    /// Source prefix it matches; `None` for all.
    pub source: Option<IpNet>,
    /// Destination prefix it matches; `None` for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<IpNet>,
    /// Whether it matches only what is sent from this machine itself (`iif lo`).
    #[serde(default, skip_serializing_if = "is_false")]
    pub from_here: bool,
    /// fwmark and mask it matches; `None` for all.
    pub fwmark: Option<(u32, u32)>,
    /// Device that the sender has chosen (`oif`); `None` for all packets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Table it looks up; 0 if its action is not a lookup.
    pub table: u32,
    /// Routes with a prefix of this length or shorter do not count (`FRA_SUPPRESS_PREFIXLEN`).
    pub suppress_prefix_length: Option<u32>,
    /// Who installed it (`FRA_PROTOCOL`).
    pub protocol: u8,
    /// What else it asks for, and what it does if that is no lookup, as `ip rule` spells it: `not`,
    /// `iif lan0`, `unreachable`. Linkbal's have nothing of that.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub more: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands on a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// As `ip rule` spells it.
impl fmt::Display for IpRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.priority, self.family.name())?;
        if let Some(source) = self.source {
            write!(f, " from {source}")?;
        }
        if let Some(destination) = self.destination {
            write!(f, " to {destination}")?;
        }
        if self.from_here {
            f.write_str(" iif lo")?;
        }
        if let Some((fwmark, mask)) = self.fwmark {
            write!(f, " fwmark {fwmark:#x}/{mask:#x}")?;
        }
        if let Some(device) = &self.device {
            write!(f, " oif {device}")?;
        }
        if !self.more.is_empty() {
            write!(f, " {}", self.more)?;
        }
        if self.table != 0 {
            write!(f, " lookup {}", self.table)?;
        }
        self.suppress_prefix_length
            .map_or(Ok(()), |length| write!(f, " suppress_prefixlength {length}"))
    }
}

/// What an interface that wraps packets into others says of its outer packets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Tunnel {
    /// Where they are sent to; WireGuard has one for each peer that is known.
    pub endpoints: BTreeSet<IpAddr>,
    /// The address that they are sent from, if it is not left to routing.
    pub local: Option<IpAddr>,
    /// The only device that they may leave by.
    pub device: Option<u32>,
    /// The fwmark that they are given; 0 for none of their own.
    pub fwmark: u32,
}

/// Everything observed at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Snapshot {
    /// Interfaces by index.
    pub links: BTreeMap<u32, Link>,
    /// Those of them that are tunnels, by index.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tunnels: BTreeMap<u32, Tunnel>,
    /// Addresses of all interfaces, those still in duplicate detection left out.
    pub addresses: Vec<Address>,
    /// Routes of all tables, cached and cloned ones left out.
    pub routes: Vec<Route>,
    /// ip rules of both families.
    pub rules: Vec<IpRule>,
    /// Values of the sysctls that were asked for, by path below `/proc/sys`, without line ends.
    pub sysctls: BTreeMap<String, String>,
    /// Those of them that linkbal has changed, as they were before.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctls_before: BTreeMap<String, String>,
    /// Families whose forwarded packets a firewall of others filters; the engine adds this.
    #[serde(skip)]
    pub filtered: BTreeSet<Family>,
    /// Whether the nft table stands as linkbal last wrote it.
    pub nft_current: bool,
    /// What concerns bonds, if there are any.
    #[serde(default)]
    pub bonding: Option<Bonding>,
    /// What could not be observed, with why: of that, this has what was known before.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unobserved: BTreeMap<String, String>,
}

impl Snapshot {
    /// The interface of that name.
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.values().find(|link| link.name == name)
    }
}

/// One change of the kernel's network state. In a list, earlier ones come first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Change a bond or one of its members.
    Bond(BondChange),
    /// Write a sysctl: path below `/proc/sys`, value.
    SetSysctl(String, String),
    /// Add a route, replacing the one with the same table, destination and metric.
    ReplaceRoute(Route),
    /// Add an ip rule.
    AddRule(IpRule),
    /// Replace the nft table by this text.
    ReplaceNft(String),
    /// Delete an ip rule.
    DeleteRule(IpRule),
    /// Delete a route.
    DeleteRoute(Route),
}

/// Something the kernel said.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum NetworkEvent {
    /// An interface appeared or changed.
    Link(Link),
    /// An interface is gone.
    LinkGone {
        /// Its index.
        ifindex: u32,
    },
    /// An address of an interface is gone, and with the last one all its routes.
    AddressGone {
        /// The interface's index.
        ifindex: u32,
    },
    /// Addresses, routes or rules changed: observe again.
    Changed,
    /// Messages were lost: observe everything again.
    Overrun,
    /// Something that may be linkbal's was deleted or changed.
    Touched {
        /// What.
        what: Touch,
        /// By whom, as far as the kernel tells.
        by: Option<Process>,
    },
    /// The kernel gave up finding the link-layer address of a neighbour.
    NeighbourFailed {
        /// The interface.
        ifindex: u32,
        /// The neighbour.
        address: IpAddr,
    },
    /// nft tables of others changed.
    OtherTables {
        /// By whom, as far as the kernel tells.
        by: Option<Process>,
    },
    /// A pin, or the filter of an interface, may be gone: no matter of the engine's, but of whoever
    /// looks after the datapath.
    Datapath {
        /// The interface that lost its filter.
        ifindex: Option<u32>,
    },
}
