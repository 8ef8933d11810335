//! Sources that belong to an uplink.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use linkbal_common::uplink::Family;

use super::{Indexed, rule, shares_interface};
use crate::{
    config::{Config, kernel_numbers::PRIORITY_SOURCE},
    engine::{
        command::{UplinkAddresses, UplinkMtu},
        kernel::{
            network::{Address, IpRule, Snapshot},
            nexthop::{gateway, is_global, nexthop, uplink_mtu},
        },
    },
};

/// Returns the rules by which packets with an uplink's address, or one of its provider's prefixes,
/// as their source leave by that uplink, also without a mark. An address that several uplinks have
/// tells nothing, and has no rule.
pub(super) fn source_rules(
    config: &Config,
    uplinks: &[Indexed],
    indexed: &Indexed,
    snapshot: &Snapshot,
    family: Family,
) -> Vec<IpRule> {
    let shared = shared_addresses(uplinks, snapshot);
    let own = own_addresses(uplinks, indexed, snapshot, family).into_iter();
    let own = own.filter(|address| !shared.contains_key(address)).map(IpNet::from);
    let of_family = |prefix: &IpNet| match family {
        Family::Ipv4 => prefix.addr().is_ipv4(),
        Family::Ipv6 => prefix.addr().is_ipv6(),
    };
    own.chain(indexed.config.prefixes().filter(of_family))
        .map(|source| IpRule {
            source: Some(source),
            table: config.kernel.table(indexed.index),
            ..rule(config, family, PRIORITY_SOURCE + indexed.index)
        })
        .collect()
}

/// Returns the addresses that several uplinks have, with the names of these: providers whose
/// routers translate may assign the same ones.
pub fn shared_addresses(
    uplinks: &[Indexed],
    snapshot: &Snapshot,
) -> BTreeMap<IpAddr, BTreeSet<String>> {
    let mut holders: BTreeMap<IpAddr, BTreeSet<String>> = BTreeMap::new();
    for indexed in uplinks {
        for family in Family::ALL {
            for address in own_addresses(uplinks, indexed, snapshot, family) {
                holders.entry(address).or_default().insert(indexed.config.name.clone());
            }
        }
    }
    holders.retain(|_, names| names.len() > 1);
    holders
}

/// Returns the addresses of an uplink, as the kernel lists them. With several uplinks on one
/// device, an address belongs to the one whose gateway lies in its prefix.
pub fn own(
    uplinks: &[Indexed],
    indexed: &Indexed,
    snapshot: &Snapshot,
    family: Family,
) -> Vec<Address> {
    let Some(link) = snapshot.link(&indexed.config.interface) else { return Vec::new() };
    if !indexed.config.carries(family) {
        return Vec::new();
    }
    let shared = shares_interface(uplinks, indexed);
    let gateway =
        nexthop(snapshot, &indexed.config, family).ok().and_then(|nexthop| nexthop.gateway);
    let addresses = snapshot.addresses.iter().filter(|address| is_global(address, link, family));
    addresses
        .filter(|address| !shared || gateway.is_some_and(|gateway| in_prefix(address, gateway)))
        .copied()
        .collect()
}

/// Returns the addresses of [`own`] alone.
pub(super) fn own_addresses(
    uplinks: &[Indexed],
    indexed: &Indexed,
    snapshot: &Snapshot,
    family: Family,
) -> Vec<IpAddr> {
    own(uplinks, indexed, snapshot, family).iter().map(|own| own.address).collect()
}

/// Returns the address of each uplink that its datagrams should come from.
pub fn uplink_addresses(uplinks: &[Indexed], snapshot: &Snapshot) -> UplinkAddresses {
    let each = uplinks.iter().flat_map(|indexed| Family::ALL.map(|family| (indexed, family)));
    each.filter_map(|(indexed, family)| {
        let gateway = gateway(snapshot, &indexed.config, family);
        let best = preferred(&own(uplinks, indexed, snapshot, family), gateway)?;
        Some(((indexed.index, family), best.address))
    })
    .collect()
}

/// Returns the MTU of each uplink of which it is known.
pub fn uplinks_mtu(uplinks: &[Indexed], snapshot: &Snapshot) -> UplinkMtu {
    let each = uplinks.iter().flat_map(|indexed| Family::ALL.map(|family| (indexed, family)));
    each.filter_map(|(indexed, family)| {
        let mtu = uplink_mtu(snapshot, &indexed.config, family)?;
        Some(((indexed.index, family), mtu))
    })
    .collect()
}

/// Returns the best of several addresses: the first one that the kernel lists (of IPv4 the primary
/// one, of IPv6 the latest one) of the lowest [`rank`].
pub fn preferred(addresses: &[Address], gateway: Option<IpAddr>) -> Option<Address> {
    addresses.iter().copied().min_by_key(|address| rank(address, gateway))
}

/// The faults of an address, the worst first: the address with the least rank is the best one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AddressRank {
    /// Set if it is not in the IPv4 network of the gateway. The kernel translates to one that is, and
    /// sends from it (`inet_select_addr` in net/ipv4/devinet.c); another one is for a modem's page or the
    /// like. In IPv6 the gateway does not matter.
    pub far: bool,
    /// Set if it is not for new connections.
    deprecated: bool,
    /// Set if it is unknown to the internet.
    unique_local: bool,
    /// Set if it does not last.
    temporary: bool,
}

/// Ranks an address.
pub fn rank(address: &Address, gateway: Option<IpAddr>) -> AddressRank {
    let gateway = gateway.filter(IpAddr::is_ipv4);
    AddressRank {
        far: gateway.is_some_and(|gateway| !in_prefix(address, gateway)),
        deprecated: address.deprecated,
        unique_local: is_unique_local(&address.address),
        temporary: address.temporary,
    }
}

/// Returns whether an address is of an IPv6 network without routes on the internet (RFC 4193).
fn is_unique_local(address: &IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unique_local())
}

fn in_prefix(address: &Address, other: IpAddr) -> bool {
    IpNet::new(address.address, address.prefix_length).is_ok_and(|prefix| prefix.contains(&other))
}
