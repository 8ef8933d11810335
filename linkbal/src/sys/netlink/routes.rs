//! Routes over rtnetlink.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use linkbal_common::uplink::Family;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{
        RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteNextHop,
        RouteNextHopFlags, RouteScope, RouteType, RouteVia,
    },
};

use super::{Netlink, address_family};
use crate::{
    engine::kernel::network::{Route, RouteKind, TABLE_MAIN},
    init::Weight,
};

impl Netlink {
    /// Lists the routes of all tables.
    pub async fn routes(&self, family: Family) -> Result<Vec<Route>> {
        let mut request = RouteMessage::default();
        request.header.address_family = address_family(family);
        let messages = self.dump(RouteNetlinkMessage::GetRoute(request)).await;
        let messages = messages.with_context(|| format!("failed to list {} routes", family.name()));
        let routes = messages?.into_iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewRoute(message) => parse(&message),
            _ => None,
        });
        Ok(routes.flatten().collect())
    }

    /// Returns the weights of the default routes of the main table that have several next hops.
    ///
    /// # Errors
    ///
    /// If the kernel does not answer.
    pub async fn weights(&self, family: Family) -> Result<Vec<Weight>> {
        let mut request = RouteMessage::default();
        request.header.address_family = address_family(family);
        let messages = self.dump(RouteNetlinkMessage::GetRoute(request)).await;
        let messages = messages.with_context(|| format!("failed to list {} routes", family.name()));
        let of_main = |message: &RouteMessage| {
            let parsed = parse(message).unwrap_or_default();
            parsed.iter().all(|route| route.is_default() && route.table == TABLE_MAIN)
        };
        let weights = messages?.into_iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewRoute(message) if of_main(&message) => Some(weights(&message)),
            _ => None,
        });
        Ok(weights.flatten().collect())
    }

    /// Adds a unicast, unreachable or blackhole route in place of the one with the same table,
    /// destination and metric. The kernel stores metric 0 of an IPv6 route as 1024.
    pub async fn replace_route(&self, route: &Route) -> Result<()> {
        ensure!(
            matches!(
                route.kind,
                RouteKind::Unicast | RouteKind::Unreachable | RouteKind::Blackhole
            ),
            "failed to add route {route}: it is neither unicast nor unreachable nor blackhole"
        );
        let request = RouteNetlinkMessage::NewRoute(build(route));
        let added = self.change(request, NLM_F_CREATE | NLM_F_REPLACE).await;
        added.with_context(|| format!("failed to add route {route}"))?;
        if route.family() == Family::Ipv6 && route.nexthop.is_none() {
            self.delete_shadowed(route).await?;
        }
        Ok(())
    }

    /// Deletes a route; a missing one is a success.
    pub async fn delete_route(&self, route: &Route) -> Result<()> {
        let mut message = build(route);
        // For a deletion: of any scope.
        message.header.scope = RouteScope::NoWhere;
        let deleted = self.change(RouteNetlinkMessage::DelRoute(message), 0).await;
        match deleted.as_ref().err().and_then(io::Error::raw_os_error) {
            // ESRCH: no such route. ENOENT: no such table (IPv6). ENODEV: the device took it along.
            Some(libc::ESRCH | libc::ENOENT | libc::ENODEV) => Ok(()),
            _ => deleted.with_context(|| format!("failed to delete route {route}")),
        }
    }

    /// Deletes the route that an IPv6 route without a next hop should have replaced: Linux 6.1 lets
    /// it replace only its like and puts it beside a route with a next hop (`rt6_qualify_for_ecmp`
    /// in include/net/ip6_route.h); 6.18.44 replaces both.
    async fn delete_shadowed(&self, route: &Route) -> Result<()> {
        for other in self.routes(Family::Ipv6).await? {
            let same_place = (other.table, other.destination, other.metric)
                == (route.table, route.destination, route.metric);
            if same_place && other.nexthop.is_some() {
                self.delete_route(&other).await?;
            }
        }
        Ok(())
    }
}

fn build(route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    let header = &mut message.header;
    header.address_family = address_family(route.family());
    header.destination_prefix_length = route.destination.prefix_len();
    header.protocol = route.protocol.into();
    header.kind = match route.kind {
        RouteKind::Unicast => RouteType::Unicast,
        RouteKind::Unreachable => RouteType::Unreachable,
        RouteKind::Blackhole => RouteType::BlackHole,
        RouteKind::Local | RouteKind::Other => RouteType::Unspec,
    };
    let direct = route.kind == RouteKind::Unicast && route.nexthop.is_none();
    header.scope = if direct { RouteScope::Link } else { RouteScope::Universe };
    header.flags = if route.onlink { RouteFlags::Onlink } else { RouteFlags::empty() };

    // The header's table has eight bits only.
    message.attributes.push(RouteAttribute::Table(route.table));
    message.attributes.push(RouteAttribute::Priority(route.metric));
    if !route.is_default() {
        message.attributes.push(RouteAttribute::Destination(route.destination.network().into()));
    }
    message.attributes.extend(route.nexthop.map(|nexthop| via(route.family(), nexthop)));
    message.attributes.extend(route.ifindex.map(RouteAttribute::Oif));
    message
        .attributes
        .extend(route.mtu.map(|mtu| RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)])));
    message
}

/// Returns the attribute of a next hop; one of the other family has its own (RFC 5549).
fn via(family: Family, nexthop: IpAddr) -> RouteAttribute {
    match (family, nexthop) {
        (Family::Ipv4, IpAddr::V6(nexthop)) => RouteAttribute::Via(RouteVia::Inet6(nexthop)),
        (_, nexthop) => RouteAttribute::Gateway(nexthop.into()),
    }
}

/// Reads the route in a message, once for each of its next hops; `None` for cached ones and other
/// address families.
pub(in crate::sys) fn parse(message: &RouteMessage) -> Option<Vec<Route>> {
    let header = &message.header;
    if header.flags.contains(RouteFlags::Cloned) {
        return None;
    }
    let unspecified: IpAddr = match header.address_family {
        AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let destination = IpNet::new(unspecified, header.destination_prefix_length).ok()?;
    let mut route = Route {
        table: header.table.into(),
        destination,
        metric: 0,
        kind: kind(header.kind),
        nexthop: None,
        ifindex: None,
        onlink: header.flags.contains(RouteFlags::Onlink),
        protocol: header.protocol.into(),
        mtu: None,
    };
    for attribute in &message.attributes {
        read(&mut route, attribute);
    }
    if matches!(route.kind, RouteKind::Unreachable | RouteKind::Blackhole) {
        // IPv6 names the loopback device here.
        route.ifindex = None;
    }
    let several = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::MultiPath(nexthops) => Some(nexthops),
        _ => None,
    });
    Some(several.map_or(vec![route.clone()], |nexthops| {
        nexthops.iter().map(|nexthop| by(route.clone(), nexthop)).collect()
    }))
}

/// Returns the weights of the next hops of a route; none if it has a single one.
fn weights(message: &RouteMessage) -> Vec<Weight> {
    let several = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::MultiPath(nexthops) => Some(nexthops),
        _ => None,
    });
    let weight = |nexthop: &RouteNextHop| Weight {
        ifindex: nexthop.interface_index,
        gateway: nexthop.attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Gateway(address) => ip(address),
            _ => None,
        }),
        // The kernel counts from 0 (rtnetlink(7)).
        weight: u32::from(nexthop.hops).saturating_add(1),
    };
    several.into_iter().flatten().map(weight).collect()
}

/// Returns a route by one of its next hops.
fn by(mut route: Route, nexthop: &RouteNextHop) -> Route {
    route.ifindex = Some(nexthop.interface_index);
    route.onlink = nexthop.flags.contains(RouteNextHopFlags::Onlink);
    nexthop.attributes.iter().for_each(|attribute| read(&mut route, attribute));
    route
}

fn kind(kind: RouteType) -> RouteKind {
    match kind {
        RouteType::Unicast => RouteKind::Unicast,
        RouteType::Local | RouteType::Broadcast | RouteType::Anycast | RouteType::Multicast => {
            RouteKind::Local
        }
        RouteType::Unreachable => RouteKind::Unreachable,
        RouteType::BlackHole => RouteKind::Blackhole,
        _ => RouteKind::Other,
    }
}

fn read(route: &mut Route, attribute: &RouteAttribute) {
    match attribute {
        RouteAttribute::Table(table) => route.table = *table,
        RouteAttribute::Priority(metric) => route.metric = *metric,
        RouteAttribute::Destination(address) => {
            let network = ip(address)
                .and_then(|address| IpNet::new(address, route.destination.prefix_len()).ok());
            route.destination = network.unwrap_or(route.destination);
        }
        RouteAttribute::Gateway(address) => route.nexthop = ip(address),
        RouteAttribute::Via(RouteVia::Inet6(address)) => route.nexthop = Some((*address).into()),
        RouteAttribute::Oif(ifindex) => route.ifindex = Some(*ifindex),
        RouteAttribute::Metrics(metrics) => {
            route.mtu = metrics.iter().find_map(|metric| match metric {
                RouteMetric::Mtu(mtu) => Some(*mtu),
                _ => None,
            });
        }
        _ => {}
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}
