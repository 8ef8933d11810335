//! Interfaces that share an Ethernet segment: two lines of one provider at one switch.
//!
//! The kernel answers an ARP request by any interface that hears it, for every address of the
//! machine (`arp_process` in net/ipv4/arp.c), and asks with any of its addresses (`arp_solicit`).
//! So the provider's router learns the address of one line at the card of the other one, answers to
//! probes come in by the wrong interface, and a healthy line is down. IPv6 neighbour discovery is
//! not affected: only the interface that has the address answers, and asks with it
//! (`ndisc_recv_ns`, `ndisc_solicit` in net/ipv6/ndisc.c).

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use ipnet::Ipv4Net;
use linkbal_common::uplink::Family;

use super::Indexed;
use crate::{
    config::Config,
    engine::kernel::{network::Snapshot, nexthop::nexthop},
};

/// The sysctl by which an interface answers only for its own addresses.
const ARP_IGNORE: (&str, u32) = ("arp_ignore", 1);

/// The sysctl by which an interface asks only with its own addresses.
const ARP_ANNOUNCE: (&str, u32) = ("arp_announce", 2);

/// Returns the sysctls that [`wanted`] looks at, for one interface or `all`.
pub(super) fn watched(interface: &str) -> impl Iterator<Item = String> + use<'_> {
    [ARP_IGNORE, ARP_ANNOUNCE].into_iter().map(move |(name, _)| path(interface, name))
}

fn path(interface: &str, name: &str) -> String {
    format!("net/ipv4/conf/{interface}/{name}")
}

/// Returns the sysctls of interfaces that share a segment with an uplink. Of `all` and the
/// interface the higher value counts (`IN_DEV_MAXCONF`), and a higher one than needed is left as it
/// is.
pub(super) fn wanted(
    config: &Config,
    uplinks: &[Indexed],
    snapshot: &Snapshot,
) -> Vec<(String, String)> {
    let value = |interface: &str, name: &str| -> u32 {
        let text = snapshot.sysctls.get(&path(interface, name));
        text.and_then(|text| text.parse().ok()).unwrap_or(0)
    };
    let mut wanted = Vec::new();
    for interface in sharing(config, uplinks, snapshot) {
        for (name, needed) in [ARP_IGNORE, ARP_ANNOUNCE] {
            if value("all", name).max(value(interface, name)) < needed {
                wanted.push((path(interface, name), needed.to_string()));
            }
        }
    }
    wanted
}

/// Returns whether two interfaces of uplinks are in one segment.
pub(super) fn is_one(one: &str, other: &str, uplinks: &[Indexed], snapshot: &Snapshot) -> bool {
    let [one, other] = [one, other].map(|interface| segment(interface, uplinks, snapshot));
    one.zip(other).is_some_and(|(one, other)| share(&one, &other))
}

/// Properties that tell if two interfaces are in one segment.
struct Segment<'a> {
    interface: &'a str,
    subnets: Vec<Ipv4Net>,
    /// Gateways of the uplinks on the interface, which may be several.
    gateways: BTreeSet<Ipv4Addr>,
    is_uplink: bool,
}

/// Returns the interfaces that share a subnet or the gateway with the interface of an uplink.
fn sharing<'a>(config: &'a Config, uplinks: &[Indexed], snapshot: &Snapshot) -> Vec<&'a str> {
    let lan = config.lan_interfaces.iter().map(String::as_str);
    let own = config.uplinks.iter().map(|uplink| uplink.interface.as_str());
    let interfaces: BTreeSet<&str> = lan.chain(own).collect();
    let segments: Vec<Segment<'_>> =
        interfaces.into_iter().filter_map(|name| segment(name, uplinks, snapshot)).collect();
    let meets = |one: &Segment<'_>| {
        let others = segments.iter().filter(|other| other.interface != one.interface);
        let mut others = others.filter(|other| other.is_uplink || one.is_uplink);
        others.any(|other| share(one, other))
    };
    segments.iter().filter(|one| meets(one)).map(|one| one.interface).collect()
}

/// Returns these properties of an interface; `None` if it does not use ARP.
fn segment<'a>(
    interface: &'a str,
    uplinks: &[Indexed],
    snapshot: &Snapshot,
) -> Option<Segment<'a>> {
    let link = snapshot.link(interface).filter(|link| link.ethernet && !link.point_to_point)?;
    let own = snapshot.addresses.iter().filter(|address| address.ifindex == link.ifindex);
    let subnets = own.filter_map(|address| match address.address {
        IpAddr::V4(ip) => Some(Ipv4Net::new(ip, address.prefix_length).ok()?.trunc()),
        IpAddr::V6(_) => None,
    });
    let here = uplinks.iter().filter(|indexed| indexed.config.interface == interface);
    let gateways = here.clone().filter_map(|indexed| {
        match nexthop(snapshot, &indexed.config, Family::Ipv4).ok()?.gateway? {
            IpAddr::V4(gateway) => Some(gateway),
            IpAddr::V6(_) => None,
        }
    });
    Some(Segment {
        interface,
        subnets: subnets.collect(),
        gateways: gateways.collect(),
        is_uplink: here.count() > 0,
    })
}

fn share(one: &Segment<'_>, other: &Segment<'_>) -> bool {
    let overlap = |a: &Ipv4Net, b: &Ipv4Net| a.contains(b) || b.contains(a);
    one.subnets.iter().any(|a| other.subnets.iter().any(|b| overlap(a, b)))
        || !one.gateways.is_disjoint(&other.gateways)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::kernel::{
        desired::tests::{config, held},
        network::{Link, Route, RouteKind},
    };

    const TWO_CARDS: &str = r#"
[lan]
interfaces = ["lan0"]
[uplink.a]
interface = "wan0"
gateway = "203.0.113.1"
[uplink.b]
interface = "wan1"
gateway = "203.0.113.1"
"#;

    fn sysctls(text: &str, addresses: &[(u32, &str)], values: &[(&str, &str)]) -> Vec<String> {
        let (config, indexed) = config(text);
        let links =
            [Link::ethernet(3, "wan0"), Link::ethernet(4, "wan1"), Link::ethernet(5, "lan0")];
        let values = values.iter().map(|(path, value)| ((*path).to_owned(), (*value).to_owned()));
        let snapshot = Snapshot {
            links: links.map(|link| (link.ifindex, link)).into(),
            addresses: addresses.iter().map(|(ifindex, text)| held(*ifindex, text)).collect(),
            sysctls: values.collect(),
            ..Snapshot::default()
        };
        let wanted = wanted(&config, &indexed, &snapshot).into_iter();
        wanted
            .map(|(path, value)| format!("{path} {value}").replace("net/ipv4/conf/", ""))
            .collect()
    }

    #[test]
    fn cards_in_one_subnet_or_at_one_gateway_answer_for_themselves() {
        let both = [
            "wan0/arp_ignore 1",
            "wan0/arp_announce 2",
            "wan1/arp_ignore 1",
            "wan1/arp_announce 2",
        ];
        let same_subnet = [(3, "203.0.113.2/24"), (4, "203.0.113.3/24"), (5, "10.0.0.1/24")];
        assert_eq!(sysctls(TWO_CARDS, &same_subnet, &[]), both);
        let other_gateway = TWO_CARDS.replacen("203.0.113.1", "203.0.113.254", 1);
        assert_eq!(sysctls(&other_gateway, &same_subnet, &[]), both);
        let same_gateway = [(3, "203.0.113.2/32"), (4, "203.0.113.3/32")];
        assert_eq!(sysctls(TWO_CARDS, &same_gateway, &[]), both);
        assert_eq!(sysctls(&other_gateway, &same_gateway, &[]), [""; 0]);
        assert_eq!(sysctls(TWO_CARDS, &[(3, "203.0.113.2/24")], &[]), [""; 0], "one line only");
    }

    #[test]
    fn a_lan_in_the_subnet_of_an_uplink_is_one_segment_with_it() {
        let addresses = [(3, "10.0.0.2/24"), (5, "10.0.0.1/24"), (4, "192.0.2.2/24")];
        let both = [
            "lan0/arp_ignore 1",
            "lan0/arp_announce 2",
            "wan0/arp_ignore 1",
            "wan0/arp_announce 2",
        ];
        let text = TWO_CARDS.replacen("203.0.113.1", "10.0.0.254", 1);
        assert_eq!(sysctls(&text, &addresses, &[]), both);
    }

    #[test]
    fn what_an_administrator_has_set_higher_stays() {
        let same_subnet = [(3, "203.0.113.2/24"), (4, "203.0.113.3/24")];
        let all = [
            ("net/ipv4/conf/all/arp_ignore", "2"),
            ("net/ipv4/conf/all/arp_announce", "1"),
            ("net/ipv4/conf/wan1/arp_announce", "2"),
        ];
        assert_eq!(sysctls(TWO_CARDS, &same_subnet, &all), ["wan0/arp_announce 2"]);
    }

    #[test]
    fn lines_without_neighbours_share_a_gateway_in_peace() {
        let (config, indexed) = config(&TWO_CARDS.replace("\"203.0.113.1\"", "\"auto\""));
        let dialled =
            |ifindex, name| Link { point_to_point: true, ..Link::ethernet(ifindex, name) };
        let default = |ifindex| Route {
            table: 254,
            destination: "0.0.0.0/0".parse().expect("a prefix"),
            metric: 0,
            kind: RouteKind::Unicast,
            nexthop: None,
            ifindex: Some(ifindex),
            onlink: false,
            protocol: 2,
            mtu: None,
        };
        let snapshot = Snapshot {
            links: [(3, dialled(3, "wan0")), (4, dialled(4, "wan1"))].into(),
            addresses: vec![held(3, "100.64.0.2/24"), held(4, "100.64.0.3/24")],
            routes: vec![default(3), default(4)],
            ..Snapshot::default()
        };
        assert_eq!(wanted(&config, &indexed, &snapshot), []);
    }
}
