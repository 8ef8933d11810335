//! The next hop of an uplink, as the configuration or the main table has it.

use std::net::IpAddr;

use linkbal_common::uplink::Family;

use super::{
    network::{Address, Link, Route, RouteKind, Snapshot, TABLE_MAIN},
    unready::{NoGateway, Unready},
};
use crate::config::{Gateway, Uplink};

/// The next hop of an uplink's packets to the internet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nexthop {
    /// Device.
    pub ifindex: u32,
    /// Gateway; none on point-to-point devices.
    pub gateway: Option<IpAddr>,
}

/// Returns the next hop of an uplink, or why there is none.
///
/// # Errors
///
/// The family is off, the interface is missing or down, or it has no carrier, no address or no gateway.
pub fn nexthop(snapshot: &Snapshot, uplink: &Uplink, family: Family) -> Result<Nexthop, Unready> {
    if !uplink.carries(family) {
        return Err(Unready::Off(family));
    }
    let name = &uplink.interface;
    let link = snapshot.link(name).ok_or_else(|| Unready::Missing(name.clone()))?;
    if !link.up {
        return Err(Unready::LinkDown(name.clone()));
    }
    if !link.carrier {
        return Err(Unready::NoCarrier(name.clone()));
    }
    if !has_address(snapshot, link, family) {
        return Err(Unready::NoAddress(family, name.clone()));
    }
    let ifindex = link.ifindex;
    if let Some(gateway) = configured_gateway(uplink, family) {
        return Ok(Nexthop { ifindex, gateway: Some(gateway) });
    }
    match main_default(snapshot, link, family) {
        // A route without a gateway says that everything is on the link.
        Some(route) => Ok(Nexthop { ifindex, gateway: route.nexthop }),
        None if link.point_to_point => Ok(Nexthop { ifindex, gateway: None }),
        None => Err(no_gateway(snapshot, link, family)),
    }
}

fn no_gateway(snapshot: &Snapshot, link: &Link, family: Family) -> Unready {
    let of_main = |route: &&Route| {
        let default = route.table == TABLE_MAIN && route.is_default() && route.family() == family;
        default && route.kind == RouteKind::Unicast
    };
    let mut elsewhere = snapshot.routes.iter().filter(of_main).map(|route| route.ifindex);
    let why = match elsewhere.clone().any(|ifindex| ifindex.is_none()) {
        // fib_nexthop_info in net/ipv4/fib_semantics.c
        true => NoGateway::NexthopObject,
        // A client that finds such a route may set none of its own.
        false if family == Family::Ipv4 && elsewhere.next().is_some() => NoGateway::RouteElsewhere,
        false => NoGateway::NoRoute,
    };
    Unready::NoGateway(family, link.name.clone(), why)
}

/// Returns the gateway that the configuration names.
pub fn configured_gateway(uplink: &Uplink, family: Family) -> Option<IpAddr> {
    match uplink.gateway[family] {
        Gateway::Auto => None,
        Gateway::Address(address) => Some(address),
    }
}

/// Returns the gateway of an uplink, whether it can be reached now or not: the configured one, or that of
/// the main table.
pub fn gateway(snapshot: &Snapshot, uplink: &Uplink, family: Family) -> Option<IpAddr> {
    configured_gateway(uplink, family).or_else(|| {
        let link = snapshot.link(&uplink.interface)?;
        main_default(snapshot, link, family)?.nexthop
    })
}

/// Returns the main table's best default route on the device, whoever installed it: the first one with
/// the lowest metric.
pub fn main_default<'a>(snapshot: &'a Snapshot, link: &Link, family: Family) -> Option<&'a Route> {
    let on_link = |route: &&Route| {
        route.table == TABLE_MAIN
            && route.kind == RouteKind::Unicast
            && route.is_default()
            && route.family() == family
            && route.ifindex == Some(link.ifindex)
    };
    snapshot.routes.iter().filter(on_link).min_by_key(|route| route.metric)
}

/// Returns the MTU of an uplink in bytes, if it is known: that of its interface, of the main table's
/// default route, or of the configuration, whichever is the smallest.
pub fn uplink_mtu(snapshot: &Snapshot, uplink: &Uplink, family: Family) -> Option<u32> {
    let link = snapshot.link(&uplink.interface)?;
    let of_route = main_default(snapshot, link, family).and_then(|route| route.mtu);
    let known = [link_mtu(link, family), of_route, uplink.mtu];
    known.into_iter().flatten().min()
}

/// Returns the MTU of an interface in bytes, if it is known.
pub fn link_mtu(link: &Link, family: Family) -> Option<u32> {
    Some(link.mtu[family]).filter(|mtu| *mtu != 0)
}

/// Returns whether an interface has an address of a family, IPv6 link-local ones left out.
pub fn has_address(snapshot: &Snapshot, link: &Link, family: Family) -> bool {
    snapshot.addresses.iter().any(|address| is_global(address, link, family))
}

pub(in crate::engine) fn is_global(address: &Address, link: &Link, family: Family) -> bool {
    address.ifindex == link.ifindex
        && match address.address {
            IpAddr::V4(_) => family == Family::Ipv4,
            IpAddr::V6(address) => family == Family::Ipv6 && !address.is_unicast_link_local(),
        }
}
