//! The interfaces of the LAN: those that the configuration names, and those that match a pattern.

pub(in crate::engine) mod interfaces;

use std::{collections::BTreeSet, net::IpAddr};

use super::network::{LOOPBACK, Link, Snapshot, TABLE_MAIN};
use crate::config::{
    Config,
    pattern::{is_match, is_pattern},
};

/// Returns the interfaces of the LAN that exist.
pub(in crate::engine) fn present<'a>(config: &Config, snapshot: &'a Snapshot) -> Vec<&'a Link> {
    let named = config.lan_interfaces.iter().filter_map(|name| snapshot.link(name));
    let mut present: Vec<&Link> = named.collect();
    for link in matched(config, snapshot) {
        if !present.iter().any(|known| known.ifindex == link.ifindex) {
            present.push(link);
        }
    }
    present
}

/// Returns the interfaces that match a pattern and have no other role.
fn matched<'a>(config: &Config, snapshot: &'a Snapshot) -> impl Iterator<Item = &'a Link> {
    let patterns = config.lan_interfaces.iter().filter(|name| is_pattern(name));
    let patterns: Vec<&String> = patterns.collect();
    let takes = move |link: &&Link| {
        patterns.iter().any(|pattern| is_match(pattern, &link.name)) && is_free(config, link)
    };
    snapshot.links.values().filter(takes)
}

/// Returns whether an interface has no other role. Packets of a port also come in by its bridge or
/// bond, and would be decided twice.
fn is_free(config: &Config, link: &Link) -> bool {
    let of_uplink = config.uplinks.iter().any(|uplink| uplink.interface == link.name);
    let member = |bond: &crate::config::Bond| bond.members.contains(&link.name);
    !of_uplink && !link.port && link.name != LOOPBACK && !config.bonds.iter().any(member)
}

/// Returns whether established flows of a LAN interface are forwarded as any others, by the configuration.
pub(in crate::engine) fn is_excepted(config: &Config, interface: &str) -> bool {
    config.accelerate_except.iter().any(|pattern| is_match(pattern, interface))
}

/// Returns interfaces that look like a LAN but are not part of it, with an address of each: up, with
/// a private address, and without a default route.
pub(in crate::engine) fn candidates<'a>(
    config: &Config,
    snapshot: &'a Snapshot,
) -> Vec<(&'a Link, IpAddr)> {
    let lan: BTreeSet<u32> = present(config, snapshot).iter().map(|link| link.ifindex).collect();
    let leads_out = |link: &Link| {
        let mut routes = snapshot.routes.iter().filter(|route| route.table == TABLE_MAIN);
        routes.any(|route| route.is_default() && route.ifindex == Some(link.ifindex))
    };
    let others = snapshot.links.values().filter(|link| {
        link.up
            && link.vrf.is_none()
            && is_free(config, link)
            && !lan.contains(&link.ifindex)
            && !leads_out(link)
    });
    let private = |link: &'a Link| {
        let own = snapshot.addresses.iter().filter(|address| address.ifindex == link.ifindex);
        Some((link, own.map(|address| address.address).find(is_private)?))
    };
    others.filter_map(private).collect()
}

/// Returns hints at interfaces that look like a LAN but are not part of it.
pub fn hints(config: &Config, snapshot: &Snapshot) -> Vec<String> {
    let hint = |(link, address): (&Link, IpAddr)| {
        let name = &link.name;
        // Docker's names for its networks begin so, and differ each time.
        let wanted = if name.starts_with("br-") { "br-*" } else { name };
        let listed = config.lan_interfaces.iter().map(String::as_str).chain([wanted]);
        let listed: Vec<String> = listed.map(|name| format!("{name:?}")).collect();
        format!(
            "{name} ({address}) looks like a LAN, but what comes in there is not balanced: if it \
             should be, write interfaces = [{}] in [lan]",
            listed.join(", ")
        )
    };
    candidates(config, snapshot).into_iter().map(hint).collect()
}

/// Returns whose network of containers or virtual machines an interface is, by its name.
pub(crate) fn container_network(name: &str) -> Option<&'static str> {
    const NAMES: [(&str, &str); 9] = [
        ("docker", "a network of Docker"),
        ("podman", "a network of Podman"),
        ("cni", "a network of containers"),
        ("virbr", "a network of libvirt"),
        ("lxc", "a network of LXC"),
        ("lxdbr", "a network of LXD"),
        ("incusbr", "a network of Incus"),
        ("veth", "an interface of a container"),
        ("vnet", "an interface of a virtual machine"),
    ];
    // Docker's names for its networks end in hexadecimal digits; br-lan is a LAN.
    let id = name.strip_prefix("br-").filter(|id| id.len() == 12);
    if id.is_some_and(|id| id.chars().all(|c| c.is_ascii_hexdigit())) {
        return Some("a network of Docker");
    }
    let known = NAMES.iter().find(|(start, _)| name.starts_with(start));
    known.map(|(_, owner)| *owner)
}

/// Returns whether an address is private (RFC 1918, RFC 4193).
pub(crate) fn is_private(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_private(),
        IpAddr::V6(address) => address.is_unique_local(),
    }
}

#[cfg(test)]
mod tests;
