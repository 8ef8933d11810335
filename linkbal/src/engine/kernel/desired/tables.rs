//! The routing tables of the uplinks.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;
use linkbal_common::uplink::{Family, UpMask};

use super::{Indexed, METRIC, own, preference};
use crate::{
    config::{Config, Uplink},
    engine::kernel::{
        network::{PROTOCOL, Route, RouteKind, Snapshot, TABLE_MAIN},
        nexthop::{Nexthop, link_mtu, nexthop, uplink_mtu},
        standby,
    },
};

/// Maximum number of routes of the main table that the uplinks' tables repeat. If there are more,
/// ip rules ask the main table first, at the price of a lookup for each packet.
const MAX_REPEATED: usize = 256;

/// Returns the prefix of all addresses of a family.
pub(super) fn everything(family: Family) -> IpNet {
    match family {
        Family::Ipv4 => IpNet::new_assert(Ipv4Addr::UNSPECIFIED.into(), 0),
        Family::Ipv6 => IpNet::new_assert(Ipv6Addr::UNSPECIFIED.into(), 0),
    }
}

pub(super) fn default_route(table: u32, nexthop: Nexthop, family: Family) -> Route {
    Route {
        table,
        destination: everything(family),
        metric: METRIC,
        kind: RouteKind::Unicast,
        nexthop: nexthop.gateway,
        ifindex: Some(nexthop.ifindex),
        // A gateway outside the device's prefixes (a /32 from the provider) is common enough.
        onlink: nexthop.gateway.is_some(),
        protocol: PROTOCOL,
        mtu: None,
    }
}

/// Returns the last route of a table: it refuses packets, so that no later rule routes them.
pub(super) fn refusal(table: u32, family: Family) -> Route {
    Route {
        table,
        destination: everything(family),
        metric: u32::MAX,
        kind: RouteKind::Unreachable,
        nexthop: None,
        ifindex: None,
        onlink: false,
        protocol: PROTOCOL,
        mtu: None,
    }
}

/// Returns the default route of an uplink; behind it a refusal, so that no packet marked for this
/// uplink leaves by another one.
pub(super) fn default_routes(
    config: &Config,
    uplinks: &[Indexed],
    indexed: &Indexed,
    snapshot: &Snapshot,
    family: Family,
) -> Vec<Route> {
    let table = config.kernel.table(indexed.index);
    let refusal = refusal(table, family);
    let nexthop = nexthop(snapshot, &indexed.config, family).ok();
    let nexthop = nexthop.or_else(|| standby::nexthop(snapshot, &indexed.config, family));
    let mtu = narrow_mtu(snapshot, &indexed.config, family);
    let open = nexthop.map(|nexthop| Route { mtu, ..default_route(table, nexthop, family) });
    let open = match has_held_address_only(uplinks, indexed, snapshot, family) {
        // A refusal would tell programs to give up.
        true => Some(Route { metric: METRIC, kind: RouteKind::Blackhole, ..refusal.clone() }),
        false => open,
    };
    open.into_iter().chain([refusal]).collect()
}

/// Returns whether the address of an uplink is gone and held, and no other took its place.
pub(super) fn has_held_address_only(
    uplinks: &[Indexed],
    indexed: &Indexed,
    snapshot: &Snapshot,
    family: Family,
) -> bool {
    own(uplinks, indexed, snapshot, family).iter().any(|address| address.held)
}

/// Returns the route of packets that carry no mark: by the best usable uplink, or the best that has
/// a next hop.
pub(super) fn unmarked_route(
    config: &Config,
    uplinks: &[Indexed],
    snapshot: &Snapshot,
    up: UpMask,
    family: Family,
) -> Option<Route> {
    let candidates = uplinks.iter().filter_map(|indexed| {
        let nexthop = nexthop(snapshot, &indexed.config, family).ok()?;
        if has_held_address_only(uplinks, indexed, snapshot, family) {
            return None;
        }
        let mtu = narrow_mtu(snapshot, &indexed.config, family);
        Some((preference(indexed, up, family), nexthop, mtu))
    });
    let (_, nexthop, mtu) = candidates.min_by_key(|(preference, ..)| *preference)?;
    Some(Route { mtu, ..default_route(config.kernel.table_unmarked(), nexthop, family) })
}

/// Returns the MTU of an uplink if it is smaller than that of its interface, which the kernel knows.
fn narrow_mtu(snapshot: &Snapshot, uplink: &Uplink, family: Family) -> Option<u32> {
    let link = snapshot.link(&uplink.interface)?;
    let mtu = uplink_mtu(snapshot, uplink, family)?;
    link_mtu(link, family).is_none_or(|of_link| mtu < of_link).then_some(mtu)
}

/// Returns the routes of the main table that the uplinks' tables repeat, or `None` if there are too
/// many.
///
/// A packet with a mark is looked up in its uplink's table first, and still reaches the networks
/// that this machine knows. Source validation with `src_valid_mark` finds the way back to the LAN
/// there.
pub(super) fn known_networks(snapshot: &Snapshot, family: Family) -> Option<Vec<&Route>> {
    let known: Vec<&Route> = snapshot
        .routes
        .iter()
        .filter(|route| {
            route.table == TABLE_MAIN
                && route.family() == family
                && !route.is_default()
                && !is_link_local(&route.destination)
                && match route.kind {
                    RouteKind::Unicast => route.ifindex.is_some(),
                    RouteKind::Unreachable | RouteKind::Blackhole => true,
                    RouteKind::Local | RouteKind::Other => false,
                }
        })
        .take(MAX_REPEATED + 1)
        .collect();
    (known.len() <= MAX_REPEATED).then_some(known)
}

/// Returns the routes that an uplink's table repeats: all but the networks of the other uplinks. A
/// neighbour in one of those that asks an address of this uplink is answered by this uplink.
///
/// Of routes with one destination and metric, which are the next hops of one route or one network on
/// two interfaces, the first counts, as it does in the main table: a table has room for one.
pub(super) fn repeated(
    config: &Config,
    uplinks: &[Indexed],
    indexed: &Indexed,
    snapshot: &Snapshot,
    known: &[&Route],
) -> BTreeSet<Route> {
    let interface = &indexed.config.interface;
    let others = uplinks.iter().map(|other| &other.config.interface);
    let others: BTreeSet<u32> = others
        .filter(|other| *other != interface)
        .filter_map(|other| Some(snapshot.link(other)?.ifindex))
        .collect();
    let table = config.kernel.table(indexed.index);
    let kept = known.iter().filter(|route| !route.ifindex.is_some_and(|on| others.contains(&on)));
    let mut first = BTreeMap::new();
    for route in kept {
        first.entry((route.destination.trunc(), route.metric)).or_insert(*route);
    }
    first.into_values().map(|route| repeat(table, route)).collect()
}

fn repeat(table: u32, route: &Route) -> Route {
    Route { table, protocol: PROTOCOL, ..route.clone() }
}

/// Returns the link-local networks of an uplink's interface, as its table repeats them: neighbours that
/// a program reaches by the device (a modem, a router of OSPFv3) are no hosts behind the gateway.
pub(super) fn link_local(
    config: &Config,
    indexed: &Indexed,
    snapshot: &Snapshot,
    family: Family,
) -> Option<Route> {
    let ifindex = snapshot.link(&indexed.config.interface)?.ifindex;
    let mut routes = snapshot.routes.iter();
    let route = routes.find(|route| {
        let of_link = route.table == TABLE_MAIN && route.ifindex == Some(ifindex);
        let direct = route.kind == RouteKind::Unicast && route.nexthop.is_none();
        of_link && direct && route.family() == family && is_own_link_local(&route.destination)
    })?;
    Some(repeat(config.kernel.table(indexed.index), route))
}

/// Returns whether a destination is another network on each interface.
fn is_link_local(destination: &IpNet) -> bool {
    is_own_link_local(destination) || destination.addr().is_multicast()
}

fn is_own_link_local(destination: &IpNet) -> bool {
    match destination {
        IpNet::V4(net) => net.addr().is_link_local(),
        IpNet::V6(net) => net.addr().is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests;
