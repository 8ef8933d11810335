//! Roles of interfaces: uplink, LAN, or neither and why.

use std::net::IpAddr;

use ipnet::IpNet;
use linkbal_common::uplink::Family;

use super::{
    facts::Facts,
    model::Choice,
    way::{defaults, is_ppp},
};
use crate::{
    commented::host,
    config::is_interface_name,
    engine::kernel::{
        lan::{container_network, is_private},
        network::{LOOPBACK, Link},
    },
};

/// Kinds of interfaces that wrap packets into others, as `ip -d link` names them.
const TUNNELS: [&str; 17] = [
    "wireguard",
    "tun",
    "ovpn",
    "gre",
    "gretap",
    "ip6gre",
    "ip6gretap",
    "erspan",
    "ipip",
    "ip6tnl",
    "sit",
    "vti",
    "vti6",
    "xfrm",
    "vxlan",
    "geneve",
    "l2tpeth",
];

/// Beginnings of their names, where the kernel does not tell the kind.
const TUNNEL_NAMES: [&str; 6] = ["wg", "tun", "tap", "tailscale", "zt", "ipsec"];

/// Beginnings of names that the kernel gives to modems for mobile networks.
const MODEM_NAMES: [&str; 2] = ["wwan", "wwp"];

/// A role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A way to the internet.
    Uplink,
    /// The way in of machines of the network.
    Lan,
    /// Neither, with the reason.
    Neither(String),
    /// Neither, and not worth a word.
    Nothing,
}

/// Returns the role of an interface, as a person says or as it looks.
pub(super) fn role(facts: &Facts, choice: &Choice, link: &Link) -> Role {
    if link.name == LOOPBACK {
        return Role::Nothing;
    }
    let is_in = |names: &[String]| names.contains(&link.name);
    let possible = is_interface_name(&link.name);
    if choice.uplinks.as_deref().is_some_and(is_in) && possible {
        return Role::Uplink;
    }
    let patternless = !link.name.contains('*');
    if choice.lan.as_deref().is_some_and(is_in) && possible && patternless {
        return Role::Lan;
    }
    match looks(facts, link) {
        Role::Uplink if choice.uplinks.is_some() => Role::Neither("not chosen".into()),
        Role::Lan if choice.lan.is_some() => Role::Neither("not chosen".into()),
        other => other,
    }
}

fn looks(facts: &Facts, link: &Link) -> Role {
    let no = |why: &str| Role::Neither(why.to_owned());
    if link.port {
        return port(facts, link);
    }
    if !is_interface_name(&link.name) {
        return no("its name is not possible in a configuration");
    }
    if let Some(vrf) = facts.snapshot.vrf(link) {
        return Role::Neither(format!("in VRF {vrf}, whose table routes its packets"));
    }
    let addresses = facts.addresses(link);
    let leads_out = Family::ALL.iter().any(|family| !defaults(facts, link, *family).is_empty());
    if let Some(tunnel) = tunnel(facts, link) {
        return match link.up && (leads_out || !addresses.is_empty()) {
            true => Role::Neither(of_tunnel(tunnel, leads_out)),
            // The kernel makes some of them by itself.
            false => Role::Nothing,
        };
    }
    if let Some(owner) = container_network(&link.name) {
        return Role::Neither(format!(
            "{owner}: add it to interfaces if what runs there shall be balanced"
        ));
    }
    let line = is_modem(facts, link) || is_dialled(facts, link);
    if leads_out || line && !addresses.is_empty() || leased(facts, link).is_some() {
        return Role::Uplink;
    }
    if is_ppp(facts, link) && !addresses.is_empty() {
        return no("PPP without a default route, like that of a client that dials in here");
    }
    match facts.kind(link) {
        "dummy" | "ifb" | "nlmon" | "vrf" => return no("no machines are behind it"),
        _ => {}
    }
    if !link.up {
        return no("it is down");
    }
    let private = addresses.iter().any(|net| is_private(&net.addr()));
    let shown = facts.address(link).unwrap_or_default();
    match (addresses.is_empty(), private) {
        (true, _) => no("it has no address"),
        (false, false) => Role::Neither(format!(
            "{shown} is public, and no default route leads by it: add it to interfaces if machines of \
             yours come in there"
        )),
        (false, true) if link.point_to_point => {
            Role::Neither(format!("{shown}: it leads to a single machine"))
        }
        (false, true) if link.name.contains('*') => no("a * in a name would stand for any text"),
        (false, true) => Role::Lan,
    }
}

fn port(facts: &Facts, link: &Link) -> Role {
    let master = facts.devices.get(&link.ifindex).and_then(|device| device.master);
    let master = master.and_then(|master| facts.snapshot.links.get(&master));
    let of_guest = |name: &str| ["veth", "vnet", "tap"].iter().any(|start| name.starts_with(start));
    match master {
        Some(master) if !of_guest(&link.name) && container_network(&master.name).is_none() => {
            Role::Neither(format!("part of {}, which takes its packets", master.name))
        }
        _ => Role::Nothing,
    }
}

/// Returns what kind of tunnel an interface is.
fn tunnel<'a>(facts: &'a Facts, link: &'a Link) -> Option<&'a str> {
    let kind = facts.kind(link);
    if let Some(known) = TUNNELS.iter().find(|known| **known == kind) {
        return Some(known);
    }
    let named = TUNNEL_NAMES.iter().find(|start| link.name.starts_with(*start));
    named.copied().filter(|_| kind.is_empty() && !link.ethernet)
}

fn of_tunnel(kind: &str, leads_out: bool) -> String {
    let name = match kind {
        "wireguard" | "wg" => "WireGuard",
        "xfrm" | "vti" | "vti6" | "ipsec" => "IPsec",
        other => other,
    };
    let more = match leads_out {
        true => {
            "a default route leads by it: to use it as a way to the internet, write it as an uplink"
        }
        false => "add it to interfaces if machines behind it use the internet by this gateway",
    };
    format!("a tunnel ({name}), whose own packets leave by the uplinks; {more}")
}

/// Returns whether an interface is that of a modem for mobile networks.
pub(super) fn is_modem(facts: &Facts, link: &Link) -> bool {
    let named = MODEM_NAMES.iter().any(|start| link.name.starts_with(start));
    facts.modems.contains(&link.name) || facts.kind(link) == "wwan" || named
}

/// Returns whether an interface of PPP looks like one to a provider: clients that dial in share a private
/// address of their server.
fn is_dialled(facts: &Facts, link: &Link) -> bool {
    let others = facts.snapshot.links.values().filter(|other| other.ifindex != link.ifindex);
    let others: Vec<IpNet> = others
        .filter(|other| is_ppp(facts, other))
        .flat_map(|other| facts.addresses(other))
        .collect();
    let own = |net: &IpNet| {
        let shared = others.iter().any(|other| other.addr() == net.addr());
        !shared && !is_private(&net.addr())
    };
    is_ppp(facts, link) && facts.addresses(link).iter().all(own)
}

/// Returns the router of a lease, if the interface has no default route of it.
pub(super) fn leased(facts: &Facts, link: &Link) -> Option<IpAddr> {
    let client = facts.clients.get(&link.name)?;
    // A server without one may say 0.0.0.0.
    let is_host = |router: &&IpAddr| host(&router.to_string()) == Some(**router);
    let router = client.routers.iter().filter(is_host).find(|router| router.is_ipv4())?;
    let near = facts.addresses(link).iter().any(|net| net.contains(router));
    // A server of addresses may have been a client once.
    let own = facts.snapshot.addresses.iter().any(|own| own.address == *router);
    (near && !own).then_some(*router)
}
