//! The observed state of a machine.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use linkbal_common::uplink::Family;

use crate::{
    engine::{
        doctor::leftovers::{Job, Leftover},
        kernel::{
            conflict::survey::Survey,
            network::{Link, Snapshot},
        },
        mistakes::Device,
    },
    import::Tool,
};

/// A program that gets an interface its address, and keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Client {
    /// The program, and where it was seen: `dhclient (/var/lib/dhcp/dhclient.leases)`.
    pub seen: String,
    /// The routers of its lease.
    pub routers: Vec<IpAddr>,
}

/// The weight of a next hop of a default route with several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weight {
    /// Index of the interface.
    pub ifindex: u32,
    /// Address of the next hop.
    pub gateway: Option<IpAddr>,
    /// The weight, from 1 on.
    pub weight: u32,
}

/// A configuration of another tool.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// The file.
    pub path: String,
    /// The tool.
    pub kind: Tool,
    /// A second file that its translation needs.
    pub network: Option<String>,
}

/// The observed state of a machine. What could not be seen is as if it were not there, and named in
/// `unseen`.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Name of the machine.
    pub host: String,
    /// Release of the kernel, like `6.1.0-18-amd64`.
    pub kernel: String,
    /// The state of the network.
    pub snapshot: Snapshot,
    /// More about interfaces, by index.
    pub devices: BTreeMap<u32, Device>,
    /// Weights of default routes with several next hops.
    pub weights: Vec<Weight>,
    /// Programs that get addresses, by the name of the interface.
    pub clients: BTreeMap<String, Client>,
    /// Names of interfaces of modems for mobile networks.
    pub modems: BTreeSet<String>,
    /// The firewalls of others.
    pub survey: Survey,
    /// Configurations of other tools.
    pub found: Vec<Found>,
    /// Effect of IPsec on packets, in words, if it has one.
    pub ipsec: Option<String>,
    /// Processes that look like old scripts.
    pub leftovers: Vec<Leftover>,
    /// Jobs that look like old scripts.
    pub jobs: Vec<Job>,
    /// The things that could not be seen, each with the reason.
    pub unseen: Vec<String>,
}

impl Facts {
    /// Returns the kind of a virtual interface, as `ip -d link` names it; empty for a network card.
    pub(super) fn kind(&self, link: &Link) -> &str {
        self.devices.get(&link.ifindex).map_or("", |device| &device.kind)
    }

    /// Returns the addresses of an interface with their prefix lengths, link-local ones left out.
    pub(super) fn addresses(&self, link: &Link) -> Vec<IpNet> {
        let own = self.snapshot.addresses.iter().filter(|own| {
            let local = match own.address {
                IpAddr::V4(address) => address.is_link_local() || address.is_loopback(),
                IpAddr::V6(address) => address.is_unicast_link_local() || address.is_loopback(),
            };
            own.ifindex == link.ifindex && !local
        });
        own.filter_map(|own| IpNet::new(own.address, own.prefix_length).ok()).collect()
    }

    /// Returns the first address of an interface in words, one of IPv4 if there is one.
    pub(super) fn address(&self, link: &Link) -> Option<String> {
        let own = self.addresses(link);
        let first = own.iter().find(|net| net.addr().is_ipv4()).or(own.first())?;
        Some(first.to_string())
    }

    /// Returns the weight of a next hop; `None` if it is not one of several.
    pub(super) fn weight(&self, ifindex: u32, gateway: Option<IpAddr>) -> Option<u32> {
        let same = |one: &&Weight| one.ifindex == ifindex && one.gateway == gateway;
        self.weights.iter().find(same).map(|one| one.weight)
    }
}

/// Returns the name of a family for people.
pub(super) const fn family_name(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "IPv4",
        Family::Ipv6 => "IPv6",
    }
}
