//! Gateways that are not where the configuration has them.

use std::net::IpAddr;

use ipnet::IpNet;
use linkbal_common::uplink::Family;

use super::{MachineFacts, NeighbourQuestion, is_ours, of_uplink};
use crate::{
    config::{Config, Finding, Place, Severity, Uplink},
    engine::kernel::{
        lan,
        network::{Link, PROTOCOL, RouteKind, Snapshot},
        nexthop::{self, configured_gateway, main_default},
    },
};

/// Returns the routers to ask whether they are there.
pub fn questions(config: &Config, snapshot: &Snapshot) -> Vec<NeighbourQuestion> {
    let each = config.uplinks.iter().flat_map(|uplink| Family::ALL.map(|family| (uplink, family)));
    let each = each.filter_map(|(uplink, family)| {
        let link = snapshot.link(&uplink.interface)?;
        let askable = link.up && link.carrier && link.ethernet && !link.point_to_point;
        let gateway = gateway(snapshot, uplink, link, family).filter(|_| askable)?;
        let own = snapshot.addresses.iter().any(|own| own.address == gateway);
        let local = local(snapshot, link, gateway).filter(|_| !own)?;
        Some(NeighbourQuestion { ifindex: link.ifindex, gateway, local })
    });
    let mut questions: Vec<NeighbourQuestion> = each.collect();
    questions.sort_unstable();
    questions.dedup();
    questions
}

/// Returns the gateway of an uplink, as the configuration or the main table has it, or as linkbal
/// knew it before the main table lost it.
fn gateway(snapshot: &Snapshot, uplink: &Uplink, link: &Link, family: Family) -> Option<IpAddr> {
    let found = || main_default(snapshot, link, family).and_then(|route| route.nexthop);
    let gateway = configured_gateway(uplink, family)
        .or_else(found)
        .or_else(|| remembered(snapshot, link, family))?;
    // An IPv4 route may lead by an IPv6 router (RFC 8950).
    uplink.carries(family).then_some(gateway)
}

/// Returns the gateway in linkbal's own routes: what a DHCP client takes out of the main table is
/// still known there.
fn remembered(snapshot: &Snapshot, link: &Link, family: Family) -> Option<IpAddr> {
    let mut routes = snapshot.routes.iter().filter(|route| {
        let ours = route.protocol == PROTOCOL && route.kind == RouteKind::Unicast;
        ours && route.is_default() && route.family() == family
    });
    routes.find(|route| route.ifindex == Some(link.ifindex))?.nexthop
}

/// Returns the address by which an interface asks a router.
fn local(snapshot: &Snapshot, link: &Link, gateway: IpAddr) -> Option<IpAddr> {
    let own = snapshot
        .addresses
        .iter()
        .filter(|own| own.ifindex == link.ifindex && own.address.is_ipv4() == gateway.is_ipv4());
    let near = own.clone().find(|own| {
        let network = IpNet::new(own.address, own.prefix_length);
        network.is_ok_and(|network| network.contains(&gateway))
    });
    near.or_else(|| own.clone().next()).map(|own| own.address)
}

/// Finds mistakes of the gateway of an uplink in one family.
pub(super) fn find(
    config: &Config,
    facts: &MachineFacts,
    uplink: &Uplink,
    link: &Link,
    family: Family,
    found: &mut Vec<Finding>,
) {
    if !uplink.carries(family) || is_ours(config, &link.name) {
        return;
    }
    let Some(gateway) = configured_gateway(uplink, family) else {
        return find_unconfigured(facts, uplink, link, family, found);
    };
    let place = place(uplink, family);
    let mut error = |message: String, help: String| {
        found.push(Finding::new(Severity::Error, place.clone(), message, help));
    };
    if let Some(holder) = facts.holder(gateway) {
        let message = format!("gateway {gateway} is this machine's own address, on {holder}");
        return error(message, router(facts, link, family));
    }
    if swapped(config, facts, uplink, gateway).is_some() {
        return;
    }
    let name = &link.name;
    if is_unusable(facts, link, gateway) {
        let message = format!("gateway {gateway} is the number of a whole network, and no router");
        return error(message, router(facts, link, family));
    }
    if !facts.networks(link).any(|(own, _)| own.address.is_ipv4() == gateway.is_ipv4()) {
        if link.up && link.carrier && uplink.virtual_addresses.is_empty() {
            let message = format!("{name} has no {} address for gateway {gateway}", family.name());
            let help =
                format!("set one (`ip address add ADDRESS/LENGTH dev {name}`), or take it out");
            error(message, help);
        }
        return;
    }
    let answers = facts.asked.get(&(link.ifindex, gateway)).copied();
    let elsewhere = place_of(config, facts, uplink, gateway);
    let on_link = is_on_link(facts, link, gateway);
    if answers == Some(true) || link.point_to_point {
        return;
    }
    if let Some(elsewhere) = elsewhere.filter(|_| !on_link) {
        let message =
            format!("gateway {gateway} is not on {name}: its network is that of {elsewhere}");
        return error(message, router(facts, link, family));
    }
    if !on_link {
        let message = format!(
            "gateway {gateway} is outside of the networks of {name}{}",
            known(facts, link, family)
        );
        return error(message, router(facts, link, family));
    }
    if answers == Some(false) {
        let route = main_default(&facts.snapshot, link, family).and_then(|route| route.nexthop);
        let help = match route {
            Some(router) if router != gateway => self::router(facts, link, family),
            _ => format!(
                "see whether the cable is at the right port, the router is on, and `ip neigh show dev {name}`"
            ),
        };
        error(silent(gateway, name), help);
    }
}

/// Finds what is wrong with an uplink whose gateway is to be found out.
fn find_unconfigured(
    facts: &MachineFacts,
    uplink: &Uplink,
    link: &Link,
    family: Family,
    found: &mut Vec<Finding>,
) {
    if !link.up || !link.carrier {
        return;
    }
    let other = match family {
        Family::Ipv4 => Family::Ipv6,
        Family::Ipv6 => Family::Ipv4,
    };
    let remembered = remembered(&facts.snapshot, link, family);
    let known = nexthop::nexthop(&facts.snapshot, uplink, family).map(|nexthop| nexthop.gateway);
    match known.or_else(|reason| remembered.map(Some).ok_or(reason)) {
        Ok(gateway) => {
            let silent_one = gateway
                .filter(|gateway| facts.asked.get(&(link.ifindex, *gateway)) == Some(&false));
            if let Some(gateway) = silent_one {
                let help = format!(
                    "the default route there has it from the DHCP client or from hand: see whether \
                     the cable is at the right port, and `ip neigh show dev {}`",
                    link.name
                );
                let message = silent(gateway, &link.name);
                found.push(Finding::new(Severity::Error, interface(uplink), message, help));
            }
        }
        // A line without IPv6, or without IPv4, is no mistake.
        Err(reason) if nexthop::has_address(&facts.snapshot, link, family) => {
            let alone = nexthop::nexthop(&facts.snapshot, uplink, other).is_err();
            if family == Family::Ipv4
                || alone && !nexthop::has_address(&facts.snapshot, link, other)
            {
                let help = no_gateway(facts, link, family);
                found.push(Finding::new(
                    Severity::Error,
                    interface(uplink),
                    reason.to_string(),
                    help,
                ));
            }
        }
        Err(_) => {}
    }
}

/// Finds gateways of two uplinks that are each in the network of the other one.
pub(super) fn find_swapped(config: &Config, facts: &MachineFacts, found: &mut Vec<Finding>) {
    for uplink in &config.uplinks {
        for family in Family::ALL {
            let gateway = configured_gateway(uplink, family).filter(|_| uplink.carries(family));
            let Some(gateway) = gateway else { continue };
            let Some(other) = swapped(config, facts, uplink, gateway) else { continue };
            let (a, b) = (&uplink.name, &other.name);
            let message = format!(
                "the gateways of {a} and {b} are swapped: {gateway} is in the network of {b}, on {}",
                other.interface
            );
            let help = match configured_gateway(other, family) {
                Some(right) => {
                    format!("write gateway = \"{right}\" here, and \"{gateway}\" at {b}")
                }
                None => format!("move it to {b}"),
            };
            found.push(Finding::new(Severity::Error, place(uplink, family), message, help));
        }
    }
}

/// Returns the uplink whose gateway is in the network of this one, while the gateway of this one is
/// in its network.
fn swapped<'a>(
    config: &'a Config,
    facts: &MachineFacts,
    uplink: &Uplink,
    gateway: IpAddr,
) -> Option<&'a Uplink> {
    let family = if gateway.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 };
    let is_at = |uplink: &Uplink, gateway: IpAddr| {
        let link = facts.snapshot.link(&uplink.interface);
        link.is_some_and(|link| facts.on_link(link).iter().any(|net| net.contains(&gateway)))
    };
    if is_at(uplink, gateway) {
        return None;
    }
    config.uplinks.iter().find(|other| {
        let theirs = configured_gateway(other, family).filter(|_| other.name != uplink.name);
        theirs.is_some_and(|theirs| {
            is_at(other, gateway) && is_at(uplink, theirs) && !is_at(other, theirs)
        })
    })
}

/// Returns whose network an address is in: of another uplink, or of the LAN.
fn place_of(
    config: &Config,
    facts: &MachineFacts,
    uplink: &Uplink,
    gateway: IpAddr,
) -> Option<String> {
    let contains = |link: &Link| facts.on_link(link).iter().any(|net| net.contains(&gateway));
    let others = config.uplinks.iter().filter(|other| other.interface != uplink.interface);
    let of_uplink = others.filter_map(|other| {
        let link = facts.snapshot.link(&other.interface).filter(|link| contains(link))?;
        Some(format!("uplink {}, on {}", other.name, link.name))
    });
    let lan = lan::present(config, &facts.snapshot).into_iter().filter(|link| contains(link));
    let of_lan = lan.map(|link| format!("the LAN, on {}", link.name));
    of_uplink.chain(of_lan).next()
}

fn is_on_link(facts: &MachineFacts, link: &Link, gateway: IpAddr) -> bool {
    super::is_link_local(gateway) || facts.on_link(link).iter().any(|net| net.contains(&gateway))
}

/// Returns whether an address is the first or last one of an IPv4 network of the interface.
fn is_unusable(facts: &MachineFacts, link: &Link, gateway: IpAddr) -> bool {
    facts.networks(link).any(|(_, network)| match network {
        IpNet::V4(network) if network.prefix_len() < 31 => {
            gateway == IpAddr::V4(network.network()) || gateway == IpAddr::V4(network.broadcast())
        }
        _ => false,
    })
}

/// Names the networks of an interface.
fn known(facts: &MachineFacts, link: &Link, family: Family) -> String {
    let networks = facts.on_link(link).into_iter();
    let networks = networks.filter(|network| {
        matches!((network, family), (IpNet::V4(_), Family::Ipv4) | (IpNet::V6(_), Family::Ipv6))
    });
    let networks: Vec<String> = networks.map(|network| network.to_string()).collect();
    if networks.is_empty() { String::new() } else { format!(" ({})", networks.join(", ")) }
}

/// Returns advice which router to write instead.
fn router(facts: &MachineFacts, link: &Link, family: Family) -> String {
    let route = main_default(&facts.snapshot, link, family).and_then(|route| route.nexthop);
    let name = &link.name;
    match route {
        Some(router) => format!(
            "write gateway = \"{router}\", where the default route on {name} leads, or leave the \
             gateway out"
        ),
        None => format!(
            "write the provider's router on {name}{}: it is in the provider's letter, or in the \
             lease of the DHCP client; see also `ip neigh show dev {name}`",
            known(facts, link, family)
        ),
    }
}

fn no_gateway(facts: &MachineFacts, link: &Link, family: Family) -> String {
    let source = match family {
        Family::Ipv4 => "let the DHCP client set a default route there, with a metric of its own",
        Family::Ipv6 => {
            "accept router advertisements there (`sysctl -w net.ipv6.conf.NAME.accept_ra=2`)"
        }
    };
    let source = source.replace("NAME", &link.name.replace('.', "/"));
    format!(
        "write gateway = \"..\" with the router of the provider{}, or {source}",
        known(facts, link, family)
    )
}

/// Returns the words with which the complaint about a silent gateway begins.
pub fn silence_of(gateway: impl std::fmt::Display) -> String {
    format!("gateway {gateway} does not answer")
}

fn silent(gateway: IpAddr, interface: &str) -> String {
    let question = if gateway.is_ipv4() { "ARP" } else { "neighbour solicitations" };
    format!("{} {question} on {interface}", silence_of(gateway))
}

fn place(uplink: &Uplink, family: Family) -> Place {
    let key = if family == Family::Ipv4 { "ipv4" } else { "ipv6" };
    Place::key(&["uplink", &uplink.name, "gateway", key])
}

fn interface(uplink: &Uplink) -> Place {
    of_uplink(uplink, "interface")
}
