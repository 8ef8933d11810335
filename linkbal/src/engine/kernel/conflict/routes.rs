//! Routes of others that decide in place of linkbal's.

use std::collections::BTreeSet;

use ipnet::IpNet;
use linkbal_common::uplink::Family;

use super::{Conflict, reach, rules};
use crate::{
    config::Config,
    engine::kernel::network::{PROTOCOL, Route, RouteKind, Snapshot, TABLE_MAIN, table_name},
};

/// Protocol numbers of routes by hand or by a script: `ip` without a protocol, and protocol static.
const BY_HAND: [u8; 2] = [3, 4];

/// Returns the routes that conflict.
pub(super) fn find(
    config: &Config,
    snapshot: &Snapshot,
    down: &BTreeSet<(String, Family)>,
) -> Vec<Conflict> {
    let foreign = snapshot
        .routes
        .iter()
        .filter(|route| config.kernel.has_table(route.table) && route.protocol != PROTOCOL);
    let each = foreign.map(|route| Conflict {
        what: snapshot.with_device_names(&format!("route {route}")),
        owner: rules::installer(route.protocol),
        meaning: format!(
            "it is in table {}, which is linkbal's, and decides before linkbal's default route",
            route.table
        ),
        advice: format!(
            "put it into another table (and `{}`), or set kernel.table_base to unused \
             numbers",
            delete(route, snapshot)
        ),
        compatible: false,
    });
    let halves = Family::ALL.into_iter().filter_map(|family| takes_all(snapshot, family));
    each.chain(halves).chain(pinned(config, snapshot, down)).collect()
}

fn main(snapshot: &Snapshot, family: Family) -> impl Iterator<Item = &Route> {
    snapshot.routes.iter().filter(move |route| {
        let own = route.kind == RouteKind::Local || route.protocol == PROTOCOL;
        route.table == TABLE_MAIN && route.family() == family && !route.is_default() && !own
    })
}

/// Reports routes that together are a default route, as OpenVPN's `redirect-gateway def1` creates
/// them: linkbal takes their destinations for networks that this machine knows.
fn takes_all(snapshot: &Snapshot, family: Family) -> Option<Conflict> {
    /// The least prefix length of a network; shorter prefixes belong to no network.
    const NETWORK: u8 = 8;
    let wide: Vec<&Route> = main(snapshot, family)
        .filter(|route| route.destination.prefix_len() < NETWORK)
        .filter(|route| !reach::is_internal(route.destination))
        .collect();
    let networks: Vec<IpNet> = wide.iter().map(|route| route.destination).collect();
    if !reach::covers_internet(&networks) {
        return None;
    }
    let first = wide.first()?;
    let named: Vec<String> = networks.iter().take(4).map(ToString::to_string).collect();
    let device = device(first, snapshot);
    let tunnel = device.as_deref().is_some_and(|name| name.starts_with("tun"));
    let owner = match tunnel {
        true => "OpenVPN, it seems: redirect-gateway def1".into(),
        false => rules::installer(first.protocol),
    };
    let delete: Vec<String> =
        wide.iter().take(4).map(|route| format!("`{}`", delete(route, snapshot))).collect();
    let client = match tunnel {
        true => {
            "put `pull-filter ignore redirect-gateway` into the client's configuration, \
                 without `redirect-gateway` of its own, and restart it; until then "
        }
        false => "",
    };
    Some(Conflict {
        what: format!("routes {} in table main", named.join(" and ")),
        owner,
        meaning: format!(
            "together they take the {} internet before any uplink: all traffic, also that of the \
             LAN, leaves{}",
            family.name(),
            device.map_or(String::new(), |name| format!(" by {name}"))
        ),
        advice: format!("{client}delete them: {}", delete.join(", ")),
        compatible: false,
    })
}

/// Reports routes by hand to places on the internet by one uplink, while that is down.
fn pinned(
    config: &Config,
    snapshot: &Snapshot,
    down: &BTreeSet<(String, Family)>,
) -> Vec<Conflict> {
    let routes = Family::ALL.into_iter().flat_map(|family| main(snapshot, family));
    let pinned = routes.filter_map(|route| {
        let name = device(route, snapshot)?;
        let by_hand = BY_HAND.contains(&route.protocol) && route.nexthop.is_some();
        let uplink = config.uplinks.iter().find(|uplink| uplink.interface == name)?;
        let dead = down.contains(&(name.clone(), route.family()));
        let beyond = !reach::is_internal(route.destination) && !is_probed(config, route);
        (by_hand && dead && beyond).then(|| Conflict {
            what: format!("route {} by {name} in table main", route.destination),
            owner: rules::installer(route.protocol),
            meaning: format!(
                "uplink {} is down, and what goes there still uses it: linkbal leaves alone what \
                 the main table knows",
                uplink.name
            ),
            advice: format!(
                "delete it (`{}`), and if that place must be reached by {} alone, write a [[rule]]",
                delete(route, snapshot),
                uplink.name
            ),
            compatible: false,
        })
    });
    pinned.collect()
}

/// Returns whether a route is there for probes alone.
fn is_probed(config: &Config, route: &Route) -> bool {
    let targets = config.uplinks.iter().flat_map(|uplink| &uplink.probe.targets);
    let mut addresses = targets.filter_map(crate::config::Target::address);
    addresses.any(|address| route.destination == IpNet::from(address))
}

fn device(route: &Route, snapshot: &Snapshot) -> Option<String> {
    Some(snapshot.links.get(&route.ifindex?)?.name.clone())
}

/// Returns the `ip route delete` command for a route.
fn delete(route: &Route, snapshot: &Snapshot) -> String {
    let six = if route.family() == Family::Ipv6 { " -6" } else { "" };
    let via = route.nexthop.map_or(String::new(), |nexthop| format!(" via {nexthop}"));
    let device = device(route, snapshot).map_or(String::new(), |name| format!(" dev {name}"));
    let table = table_name(route.table);
    format!("ip{six} route delete {}{via}{device} table {table}", route.destination)
}
