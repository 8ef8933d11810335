//! The actions that the engine asks for.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use ipnet::IpNet;
use linkbal_common::uplink::{Family, UpMask};

use super::{
    event::Lifetime,
    kernel::{
        attribution::Adoption,
        conflict::lookup::RouteQuestion,
        network::{Change, Link, Role},
        resource::Part,
    },
    obstacles::Scope,
    report::Report,
};
use crate::config::Target;

/// The addresses of the uplinks, by index and family.
pub type UplinkAddresses = BTreeMap<(u32, Family), IpAddr>;

/// The MTU of the uplinks in bytes, by index and family.
pub type UplinkMtu = BTreeMap<(u32, Family), u32>;

/// The local connections from an address that end with its uplink, of those whose sockets carry the
/// fwmark of no uplink: somebody else chose their way, or they came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmarked {
    /// None: they wait for the uplink, or are another one's.
    None,
    /// Connections that this machine made, but only while the programs for local traffic do not run: those
    /// mark them.
    UnlessBalanced,
    /// Connections that this machine made.
    Outgoing,
    /// All: the address is gone.
    All,
}

/// A task for the daemon.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Sets the mask of the usable uplinks.
    SetUpMask(UpMask),
    /// Ends the flows of one uplink and family: the next packet of each is decided anew, and TCP
    /// connections are reset.
    EndFlows {
        /// Index of the uplink.
        uplink: u32,
        /// The family.
        family: Family,
        /// Source addresses of local connections by the uplink.
        own: Vec<IpAddr>,
        /// The fwmark of the uplink: local connections whose sockets carry it end.
        fwmark: u32,
        /// Connections that end although their sockets carry the fwmark of no uplink.
        unmarked: Unmarked,
    },
    /// Sets the mask of the uplinks that new flows avoid as long as others are usable.
    SetAvoidMask(UpMask),
    /// Sets the weights that share new flows without a rule, by index of the uplink.
    SetWeights(BTreeMap<u32, u32>),
    /// Deletes the conntrack entries of one uplink and family.
    ForgetConnections {
        /// The family.
        family: Family,
        /// Fwmark of the uplink.
        fwmark: u32,
    },
    /// Drops what the flow table knows of a family; connections go on by their marks.
    ForgetFlows {
        /// The family.
        family: Family,
    },
    /// Gives a mark to connections that have none, or forgets them.
    AdoptConnections(Adoption),
    /// Changes bonds, routes, ip rules, sysctls and the nft table.
    Apply(Vec<Change>),
    /// Sets the destinations that the datapath does not balance, each with who routes it: one of
    /// [`linkbal_common::tables::bypass`].
    SetBypass(BTreeMap<IpNet, u32>),
    /// Sets the addresses of the uplinks in the datapath; those that are missing have none.
    SetUplinkAddresses(UplinkAddresses),
    /// Sets the MTU of the uplinks in the datapath; those that are missing have no limit.
    SetUplinkMtu(UplinkMtu),
    /// Sets the uplink (by index, or [`SHARED`]) of each interface in the datapath.
    ///
    /// [`SHARED`]: linkbal_common::tables::SHARED
    SetUplinkInterfaces(BTreeMap<u32, u32>),
    /// Sets the flows that take shortcuts.
    SetShortcuts(Scope),
    /// Makes the datapath run on exactly these interfaces.
    Attach(Vec<(Role, Link)>),
    /// Sends probes to targets, by the uplink's device and table.
    SendProbes {
        /// Index of the uplink.
        uplink: u32,
        /// The family that the targets judge.
        family: Family,
        /// Interface index of the uplink's device.
        ifindex: u32,
        /// Fwmark of the uplink.
        fwmark: u32,
        /// Gateway of the uplink; `None` on a point-to-point link.
        gateway: Option<IpAddr>,
        /// The uplink's own address; `None` if it has none.
        own: Option<IpAddr>,
        /// The round; answers must name it.
        round: u64,
        /// The targets to ask.
        targets: Vec<Target>,
        /// Time after which no answer is waited for.
        timeout: Duration,
    },
    /// Asks a gateway whether it is there, by ARP or neighbour solicitation; answered with
    /// [`super::Event::GatewayAsked`], unless this machine cannot ask.
    AskGateway {
        /// Index of the uplink.
        uplink: u32,
        /// Family of the gateway.
        family: Family,
        /// Interface index of the uplink's device.
        ifindex: u32,
        /// Fwmark of the uplink.
        fwmark: u32,
        /// The gateway.
        gateway: IpAddr,
        /// The uplink's own address; `None` if it has none.
        own: Option<IpAddr>,
    },
    /// Restores missing parts of the datapath.
    Restore(Vec<Part>),
    /// Observes the kernel's state; answered with [`super::Event::Observed`].
    Observe,
    /// Looks at the nft tables of others, and asks the kernel where packets go; answered with
    /// [`super::Event::Surveyed`].
    Survey(Vec<RouteQuestion>),
    /// Looks up the addresses of a name; answered with [`super::Event::Resolved`] or
    /// [`super::Event::NotResolved`].
    Resolve {
        /// The name.
        name: String,
    },
    /// Tells the datapath the addresses of a name.
    Learn {
        /// The name, one of those in rules.
        name: String,
        /// Addresses, and the time for which each is to be known.
        addresses: Vec<Lifetime>,
    },
    /// Reports a change to people.
    Report(Report),
}
