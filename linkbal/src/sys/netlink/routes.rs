//! Routes over rtnetlink.

use std::{
    cmp::Reverse,
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
        RouteNextHopFlags, RoutePreference, RouteScope, RouteType, RouteVia,
    },
};

use super::{Netlink, address_family};
use crate::{
    engine::kernel::network::{Route, RouteKind, TABLE_MAIN},
    init::Weight,
};

impl Netlink {
    /// Lists the routes of all tables; of those with one metric, those by the preferred router come first.
    pub async fn routes(&self, family: Family) -> Result<Vec<Route>> {
        let messages = self.route_messages(family).await?;
        Ok(messages.iter().filter_map(parse).flatten().collect())
    }

    async fn route_messages(&self, family: Family) -> Result<Vec<RouteMessage>> {
        let mut request = RouteMessage::default();
        request.header.address_family = address_family(family);
        let messages = self.dump(RouteNetlinkMessage::GetRoute(request)).await;
        let messages = messages.with_context(|| format!("failed to list {} routes", family.name()));
        Ok(of_family(messages?, family))
    }

    /// Returns the weights of the default routes of the main table that have several next hops.
    ///
    /// # Errors
    ///
    /// If the kernel does not answer.
    pub async fn weights(&self, family: Family) -> Result<Vec<Weight>> {
        let messages = self.route_messages(family).await?;
        let of_main = |message: &&RouteMessage| {
            let parsed = parse(message).unwrap_or_default();
            let of_main = |route: &Route| route.is_default() && route.table == TABLE_MAIN;
            !parsed.is_empty() && parsed.iter().all(of_main)
        };
        Ok(messages.iter().filter(of_main).flat_map(weights).collect())
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

/// Returns the routes in messages. Asked for a family that it lacks, the kernel tells the routes of all
/// others (`rtnl_dump_all` in net/core/rtnetlink.c).
fn of_family(messages: Vec<RouteNetlinkMessage>, family: Family) -> Vec<RouteMessage> {
    let wanted = address_family(family);
    let routes = messages.into_iter().filter_map(|message| match message {
        RouteNetlinkMessage::NewRoute(message) => Some(message),
        _ => None,
    });
    let routes = routes.filter(|message| message.header.address_family == wanted);
    let mut routes: Vec<RouteMessage> = routes.collect();
    routes.sort_by_key(|message| Reverse(preference(message)));
    routes
}

/// Ranks a route by what its router says of itself (RFC 4191 section 2.1): the kernel asks that after the
/// metric (`find_rr_leaf` in net/ipv6/route.c).
fn preference(message: &RouteMessage) -> i8 {
    let told = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Preference(preference) => Some(*preference),
        _ => None,
    });
    match told {
        Some(RoutePreference::High) => 1,
        Some(RoutePreference::Low) => -1,
        _ => 0,
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
        // Nothing is sent by those whose device is down.
        let alive =
            nexthops.iter().filter(|nexthop| !nexthop.flags.contains(RouteNextHopFlags::Dead));
        alive.map(|nexthop| by(route.clone(), nexthop)).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn message(family: AddressFamily) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        message.header.kind = RouteType::Unicast;
        message
    }

    #[test]
    fn routes_of_another_family_than_asked_for_do_not_count() {
        let all = [AddressFamily::Inet, AddressFamily::Mpls].map(message);
        let all: Vec<_> = all.map(RouteNetlinkMessage::NewRoute).into();
        assert_eq!(of_family(all.clone(), Family::Ipv4), [message(AddressFamily::Inet)]);
        assert_eq!(of_family(all, Family::Ipv6), []);
    }

    #[test]
    fn the_routes_of_a_preferred_router_come_first() {
        let by = |ifindex, preference: Option<RoutePreference>| {
            let mut message = message(AddressFamily::Inet6);
            message.attributes.push(RouteAttribute::Oif(ifindex));
            message.attributes.extend(preference.map(RouteAttribute::Preference));
            RouteNetlinkMessage::NewRoute(message)
        };
        let low = by(1, Some(RoutePreference::Low));
        let medium = [by(2, Some(RoutePreference::Medium)), by(3, None)];
        let high = by(4, Some(RoutePreference::High));
        let [second, third] = medium;
        let sorted = of_family(vec![low, second, third, high], Family::Ipv6);
        let routes = sorted.iter().filter_map(parse).flatten();
        assert_eq!(routes.filter_map(|route| route.ifindex).collect::<Vec<_>>(), [4, 2, 3, 1]);
    }

    #[test]
    fn a_next_hop_whose_device_is_down_is_none() {
        let hop = |interface_index, flags| {
            let mut hop = RouteNextHop::default();
            (hop.interface_index, hop.flags) = (interface_index, flags);
            hop
        };
        let hops = vec![hop(3, RouteNextHopFlags::Dead), hop(4, RouteNextHopFlags::empty())];
        let mut message = message(AddressFamily::Inet);
        message.attributes.push(RouteAttribute::MultiPath(hops));
        let routes = parse(&message).expect("a route");
        let interfaces: Vec<_> = routes.iter().map(|route| route.ifindex).collect();
        assert_eq!(interfaces, [Some(4)]);
    }
}
