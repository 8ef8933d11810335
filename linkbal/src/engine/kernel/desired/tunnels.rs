//! Tunnels that are uplinks: the routing of their outer packets.
//!
//! The packets that a tunnel of the kernel sends to its other end carry either no fwmark
//! (WireGuard) or that of the packet inside (GRE, VXLAN, IP in IP), so that the rules for marked
//! and unmarked packets lead them into the tunnel itself. So packets from this machine to an
//! endpoint have a rule before all those, and each tunnel a table with the uplinks that it may use,
//! the best usable one first. Behind them is a refusal: outer packets never use the tunnel.
//!
//! Only local traffic is meant (`iif lo`): a client that talks to the same address is balanced like
//! all others.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use linkbal_common::{
    mark::MarkMask,
    uplink::{Family, UpMask},
};

use super::{
    Indexed, METRIC, own_addresses, rule,
    tables::{default_route, has_held_address_only, refusal},
};
use crate::{
    config::{
        Config,
        kernel_numbers::{PRIORITY_DIRECT, PRIORITY_OUTER},
    },
    engine::kernel::{
        network::{IpRule, Route, Snapshot, TABLE_MAIN, Tunnel},
        nexthop::{Nexthop, nexthop},
    },
};

/// Longest prefix length of routes that do not count as routes to an endpoint: a default route, or
/// one of the two halves by which VPN clients replace it.
const SHORT: u32 = 1;

/// A tunnel among the uplinks.
struct TunnelUplink<'a> {
    indexed: &'a Indexed,
    endpoints: BTreeSet<IpAddr>,
    /// The uplinks that it may use, in no order if `ordered` is false.
    over: Vec<&'a Indexed>,
    ordered: bool,
}

/// Returns the routes and rules for outer packets of one family.
pub(super) fn outer(
    config: &Config,
    uplinks: &[Indexed],
    snapshot: &Snapshot,
    up: UpMask,
    family: Family,
) -> (Vec<Route>, Vec<IpRule>) {
    let (mut routes, mut rules) = (Vec::new(), Vec::new());
    // Two tunnels to one address cannot be told apart: the first one decides.
    let mut known: BTreeMap<IpAddr, u32> = BTreeMap::new();
    for way in ways(config, uplinks, snapshot) {
        let own = |endpoint: &&IpAddr| family_of(endpoint) == family;
        let mut table = config.kernel.tunnel_table(way.indexed.index);
        if way.over.is_empty() {
            table = TABLE_MAIN;
        }
        let mut used = false;
        for endpoint in way.endpoints.iter().filter(own) {
            if *known.entry(*endpoint).or_insert(table) != table {
                continue;
            }
            used = true;
            let to = IpRule {
                destination: Some(IpNet::from(*endpoint)),
                from_here: true,
                table,
                ..rule(config, family, PRIORITY_OUTER)
            };
            rules.push(IpRule {
                priority: config.kernel.priority(PRIORITY_DIRECT),
                table: TABLE_MAIN,
                suppress_prefix_length: Some(SHORT),
                ..to.clone()
            });
            rules.push(to);
        }
        if used && table != TABLE_MAIN {
            routes.extend(table_of(&way, table, uplinks, snapshot, up, family));
        }
    }
    (routes, rules)
}

/// Returns the routes of a tunnel's table: every uplink with a next hop has one, since a socket
/// that is bound to a device, such as a probe's, needs its own. The metrics are the order.
fn table_of(
    way: &TunnelUplink<'_>,
    table: u32,
    uplinks: &[Indexed],
    snapshot: &Snapshot,
    up: UpMask,
    family: Family,
) -> Vec<Route> {
    let open = |indexed: &&Indexed| !has_held_address_only(uplinks, indexed, snapshot, family);
    let nexthops = way.over.iter().enumerate().filter_map(|(place, indexed)| {
        let nexthop: Nexthop = nexthop(snapshot, &indexed.config, family).ok()?;
        let uplink = &indexed.config;
        let down = !up.contains(indexed.index, family);
        let place = if way.ordered { place } else { 0 };
        let preference = (down, place, uplink.tier, Reverse(uplink.weight), &uplink.name);
        open(indexed).then_some((preference, nexthop))
    });
    let mut nexthops: Vec<_> = nexthops.collect();
    nexthops.sort_by_key(|(preference, _)| *preference);
    let routes = (METRIC..)
        .zip(nexthops)
        .map(|(metric, (_, nexthop))| Route { metric, ..default_route(table, nexthop, family) });
    routes.chain([refusal(table, family)]).collect()
}

/// Returns the tunnels whose outer packets linkbal routes.
fn ways<'a>(config: &Config, uplinks: &'a [Indexed], snapshot: &Snapshot) -> Vec<TunnelUplink<'a>> {
    let tunnels = uplinks.iter().filter_map(|indexed| {
        let uplink = &indexed.config;
        let seen = tunnel_of(indexed, snapshot);
        // A tunnel that marks its outer packets has chosen.
        let mask = MarkMask(config.kernel.fwmark_mask).0;
        let marked = seen.is_some_and(|tunnel| tunnel.fwmark & mask != 0);
        if marked && uplink.over.is_empty() {
            return None;
        }
        let mut endpoints: BTreeSet<IpAddr> = uplink.endpoints.iter().copied().collect();
        if endpoints.is_empty() {
            endpoints.extend(seen.into_iter().flat_map(|tunnel| tunnel.endpoints.iter().copied()));
        }
        let over = over(indexed, uplinks, snapshot)?;
        let ordered = !uplink.over.is_empty();
        (!endpoints.is_empty()).then_some(TunnelUplink { indexed, endpoints, over, ordered })
    });
    tunnels.collect()
}

fn tunnel_of<'a>(indexed: &Indexed, snapshot: &'a Snapshot) -> Option<&'a Tunnel> {
    snapshot.tunnels.get(&snapshot.link(&indexed.config.interface)?.ifindex)
}

/// Returns the uplinks that a tunnel may use: those that are configured, or all that are no
/// tunnels. If it is bound to a device or an address, only the uplinks that have it are left, or
/// all if none has the address. `None` if no uplink has the device: then the way is not ours to
/// choose.
fn over<'a>(
    indexed: &Indexed,
    uplinks: &'a [Indexed],
    snapshot: &Snapshot,
) -> Option<Vec<&'a Indexed>> {
    let is_tunnel = |other: &Indexed| {
        let uplink = &other.config;
        tunnel_of(other, snapshot).is_some()
            || !uplink.over.is_empty()
            || !uplink.endpoints.is_empty()
    };
    let named = &indexed.config.over;
    let mut over: Vec<&Indexed> = match named.is_empty() {
        true => uplinks.iter().filter(|other| !is_tunnel(other)).collect(),
        false => {
            let find = |name: &String| uplinks.iter().find(|other| other.config.name == *name);
            named.iter().filter_map(find).collect()
        }
    };
    over.retain(|other| other.config.interface != indexed.config.interface);
    let Some(tunnel) = tunnel_of(indexed, snapshot) else { return Some(over) };
    if let Some(device) = tunnel.device {
        let on = |other: &&Indexed| {
            snapshot.link(&other.config.interface).is_some_and(|link| link.ifindex == device)
        };
        over.retain(on);
        return (!over.is_empty()).then_some(over);
    }
    let has = |other: &&Indexed| {
        tunnel.local.is_some_and(|local| {
            own_addresses(uplinks, other, snapshot, family_of(&local)).contains(&local)
        })
    };
    let holders: Vec<&Indexed> = over.iter().copied().filter(|other| has(other)).collect();
    Some(if holders.is_empty() { over } else { holders })
}

const fn family_of(address: &IpAddr) -> Family {
    match address {
        IpAddr::V4(_) => Family::Ipv4,
        IpAddr::V6(_) => Family::Ipv6,
    }
}

#[cfg(test)]
mod tests;
