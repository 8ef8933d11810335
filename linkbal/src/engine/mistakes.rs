//! Mistakes of a configuration that only the machine shows: interfaces that do not exist, gateways
//! that are somewhere else, networks that overlap.
//!
//! [`find`] compares the configuration with [`MachineFacts`]; [`questions`] says whom to ask for
//! them. Devices that linkbal creates itself, such as bonds, need not exist.

// Input from outside must not stop the daemon.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod gateway;
mod interface;
mod lan;
mod network;
mod target;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use linkbal_common::uplink::Family;

pub use self::{
    gateway::{questions, silence_of},
    network::claims,
};
use super::kernel::{
    network::{Address, Link, Snapshot},
    nexthop,
};
use crate::config::{Config, Finding, Place, Uplink};

/// Properties of an interface besides its [`Link`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Index of the bridge, bond or the like that it is part of.
    pub master: Option<u32>,
    /// Kind of a virtual interface, as `ip -d link` names it; empty for a network card.
    pub kind: String,
    /// Ethernet address.
    pub mac: Option<[u8; 6]>,
    /// Further names by which `ip` knows it.
    pub alternative_names: Vec<String>,
}

/// A question to a router on the link: by ARP or neighbour solicitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NeighbourQuestion {
    /// Index of the interface that it is asked by.
    pub ifindex: u32,
    /// The router.
    pub gateway: IpAddr,
    /// The address that asks.
    pub local: IpAddr,
}

/// The observed state of a machine.
#[derive(Clone, Debug, Default)]
pub struct MachineFacts {
    /// The state of the network.
    pub snapshot: Snapshot,
    /// More about interfaces, by index.
    pub devices: BTreeMap<u32, Device>,
    /// Routers that were asked, and whether they answered, by interface.
    pub asked: BTreeMap<(u32, IpAddr), bool>,
    /// Own addresses, and whether another host answered for them, by interface.
    pub claimed: BTreeMap<(u32, IpAddr), bool>,
    /// DNS servers of the system.
    pub resolvers: BTreeSet<IpAddr>,
}

/// Returns what is wrong with a configuration on a machine.
pub fn find(config: &Config, facts: &MachineFacts) -> Vec<Finding> {
    let mut found = Vec::new();
    for uplink in &config.uplinks {
        let link = interface::find(config, facts, uplink, &mut found);
        let Some(link) = link else { continue };
        for family in Family::ALL {
            gateway::find(config, facts, uplink, link, family, &mut found);
        }
    }
    gateway::find_swapped(config, facts, &mut found);
    target::find(config, facts, &mut found);
    lan::find(config, facts, &mut found);
    network::find(config, facts, &mut found);
    interface::find_members(config, facts, &mut found);
    found
}

impl MachineFacts {
    /// Returns the name of an interface.
    fn name(&self, ifindex: u32) -> String {
        let link = self.snapshot.links.get(&ifindex);
        link.map_or_else(|| format!("if{ifindex}"), |link| link.name.clone())
    }

    /// Returns the addresses of an interface, with their networks; link-local ones left out.
    fn networks(&self, link: &Link) -> impl Iterator<Item = (Address, IpNet)> {
        let own = self.snapshot.addresses.iter().filter(|address| {
            Family::ALL.iter().any(|family| nexthop::is_global(address, link, *family))
        });
        own.filter_map(|address| {
            let network = IpNet::new(address.address, address.prefix_length).ok()?;
            Some((*address, network.trunc()))
        })
    }

    /// Returns the networks that are on the link of an interface, by its addresses and the routes
    /// of others. Single addresses and default routes are no networks.
    fn on_link(&self, link: &Link) -> BTreeSet<IpNet> {
        let own = self.networks(link).map(|(_, network)| network);
        let routes = self.snapshot.routes.iter().filter(|route| {
            let direct = route.nexthop.is_none() && route.ifindex == Some(link.ifindex);
            direct && !route.is_default() && !is_link_local(route.destination.addr())
        });
        let routes = routes.filter(|route| {
            route.table == super::kernel::network::TABLE_MAIN
                && route.kind == super::kernel::network::RouteKind::Unicast
        });
        let all = own.chain(routes.map(|route| route.destination));
        all.filter(|network| network.prefix_len() < network.max_prefix_len()).collect()
    }

    /// Returns the interface that has an address.
    fn holder(&self, address: IpAddr) -> Option<String> {
        let own = self.snapshot.addresses.iter().find(|own| own.address == address)?;
        Some(self.name(own.ifindex))
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local() || address.is_multicast(),
    }
}

/// Returns whether two networks have addresses in common.
fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

/// Returns whether linkbal creates an interface itself.
fn is_ours(config: &Config, interface: &str) -> bool {
    config.bonds.iter().any(|bond| bond.name == interface)
}

/// Returns the place of a key of an uplink.
fn of_uplink(uplink: &Uplink, key: &str) -> Place {
    Place::key(&["uplink", &uplink.name, key])
}
