//! Ways to the internet that the routes of a machine show.

use std::net::IpAddr;

use linkbal_common::uplink::Family;

use super::facts::Facts;
use crate::{
    commented::host,
    engine::kernel::network::{
        Link, PROTOCOL, Route, RouteKind, TABLE_LOCAL, TABLE_MAIN, table_name,
    },
};

/// Origins of routes (`rtm_protocol`).
const ADVERTISED: u8 = 9;
const BY_DHCP: u8 = 16;

/// A gateway, and how it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KnownGateway {
    /// The route changes with a lease, or there is no address to write.
    Auto(String),
    /// The address is written down, by a person or a script.
    Fixed(IpAddr, String),
}

impl KnownGateway {
    /// Returns where it is known from.
    pub(super) fn origin(&self) -> &str {
        match self {
            KnownGateway::Auto(origin) | KnownGateway::Fixed(_, origin) => origin,
        }
    }

    /// Returns the address, if it is written down.
    pub(super) const fn address(&self) -> Option<IpAddr> {
        match self {
            KnownGateway::Auto(_) => None,
            KnownGateway::Fixed(address, _) => Some(*address),
        }
    }
}

/// Returns the default routes of a family by an interface: those of the main table first, then by
/// metric. linkbal's own are none of them.
pub(super) fn defaults<'a>(facts: &'a Facts, link: &Link, family: Family) -> Vec<&'a Route> {
    let mut all: Vec<&Route> = facts
        .snapshot
        .routes
        .iter()
        .filter(|route| {
            route.is_default()
                && route.family() == family
                && route.ifindex == Some(link.ifindex)
                && route.kind == RouteKind::Unicast
                && route.protocol != PROTOCOL
                && route.table != TABLE_LOCAL
        })
        .collect();
    all.sort_by_key(|route| (route.table != TABLE_MAIN, route.metric, route.table));
    all
}

/// Returns the ways of a family by an interface, each gateway once.
pub(super) fn ways(facts: &Facts, link: &Link, family: Family) -> Vec<KnownGateway> {
    let mut routes: Vec<&Route> = Vec::new();
    let all = defaults(facts, link, family);
    let several = all.iter().filter(|route| !is_told(facts, link, route)).count() > 1;
    for route in all {
        if !routes.iter().any(|known| known.nexthop == route.nexthop) {
            routes.push(route);
        }
    }
    let each = |several| -> Vec<KnownGateway> {
        routes.iter().map(|route| way(facts, link, route, several)).collect()
    };
    let mut ways = each(several);
    if family == Family::Ipv4 && ways.len() > 1 {
        match ways.iter().any(|way| way.address().is_some()) {
            // Each becomes an uplink, and needs an address to be told from the others.
            true => ways = each(true),
            // Several routers of one network that say so themselves are one provider.
            false => ways.truncate(1),
        }
    }
    ways
}

/// Returns whether somebody else tells the gateway, and may tell another one.
fn is_told(facts: &Facts, link: &Link, route: &Route) -> bool {
    matches!(route.protocol, BY_DHCP | ADVERTISED)
        || route.family() == Family::Ipv4 && facts.clients.contains_key(&link.name)
        || is_ppp(facts, link)
}

/// Returns whether an interface is dialled by pppd.
pub(super) fn is_ppp(facts: &Facts, link: &Link) -> bool {
    facts.kind(link) == "ppp" || link.name.starts_with("ppp")
}

fn way(facts: &Facts, link: &Link, route: &Route, several: bool) -> KnownGateway {
    let via = route.nexthop.map_or(String::new(), |gateway| format!(" via {gateway}"));
    let table = match route.table {
        TABLE_MAIN => String::new(),
        table => format!(" in table {}", table_name(table)),
    };
    let metric =
        if route.metric == 0 { String::new() } else { format!(", metric {}", route.metric) };
    let who = who(facts, link, route);
    let origin = format!("default route{via}{table}{metric}, {who}");
    let told = is_told(facts, link, route) && route.table == TABLE_MAIN && !several;
    let address = route.nexthop.filter(|gateway| {
        let family = if gateway.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 };
        family == route.family() && host(&gateway.to_string()) == Some(*gateway)
    });
    // A router beside the networks of the interface is taken from its route, if there is one to take.
    let near = |address: &IpAddr| facts.addresses(link).iter().any(|net| net.contains(address));
    let single = route.table == TABLE_MAIN && !several;
    match address {
        Some(address) if !told && (near(&address) || !single) => {
            KnownGateway::Fixed(address, origin)
        }
        _ => KnownGateway::Auto(origin),
    }
}

/// Returns who made a route, in words.
fn who(facts: &Facts, link: &Link, route: &Route) -> String {
    if is_ppp(facts, link) {
        return "of PPP".into();
    }
    if route.family() == Family::Ipv4
        && let Some(client) = facts.clients.get(&link.name)
    {
        return format!("of {}", client.seen);
    }
    match route.protocol {
        BY_DHCP => "by DHCP".into(),
        ADVERTISED => "by a router advertisement".into(),
        0 | 3 => "by hand or by a script".into(),
        4 => "static".into(),
        other => format!("of routing protocol {other}"),
    }
}
