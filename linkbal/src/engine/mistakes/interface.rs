//! Interfaces that do not exist, are down or are part of others.

use super::{MachineFacts, is_ours, of_uplink};
use crate::{
    config::{Config, Finding, Place, Severity, Uplink, names_help},
    engine::kernel::{
        network::{LOOPBACK, Link},
        unready::is_dialled,
    },
};

/// Finds mistakes of an uplink's interface; returns it if more can be said of it.
pub(super) fn find<'a>(
    config: &Config,
    facts: &'a MachineFacts,
    uplink: &Uplink,
    found: &mut Vec<Finding>,
) -> Option<&'a Link> {
    let place = of_uplink(uplink, "interface");
    let link = existing(config, facts, &uplink.interface, &place, found)?;
    let addressed = facts.snapshot.addresses.iter().any(|own| own.ifindex == link.ifindex);
    let addressed = addressed && facts.networks(link).next().is_some();
    // The addresses of a bond come with it, those of a partner when it fails.
    let expected = !is_ours(config, &link.name) && uplink.virtual_addresses.is_empty();
    if link.up && link.carrier && !addressed && expected {
        let message = format!("interface {} has no address", link.name);
        let help = format!(
            "start its DHCP client or pppd, or set the address from the provider: `ip address add \
             ADDRESS/LENGTH dev {}`",
            link.name
        );
        found.push(Finding::new(Severity::Warning, place, message, help));
        return None;
    }
    Some(link)
}

/// Finds mistakes that any interface can have; returns it if it exists and stands for itself.
pub(super) fn existing<'a>(
    config: &Config,
    facts: &'a MachineFacts,
    name: &str,
    place: &Place,
    found: &mut Vec<Finding>,
) -> Option<&'a Link> {
    let Some(link) = facts.snapshot.link(name) else {
        if !is_ours(config, name) {
            found.push(missing(facts, name, place.clone()));
        }
        return None;
    };
    if let Some(master) = master(facts, link) {
        let message = format!("interface {name} is part of {master}, which takes its packets");
        let help = format!("write \"{master}\" instead of \"{name}\"");
        found.push(Finding::new(Severity::Error, place.clone(), message, help));
        return None;
    }
    if let Some(vrf) = facts.snapshot.vrf(link) {
        let message = format!("interface {name} is in VRF {vrf}, whose table routes its packets");
        let help = format!("take it out: `ip link set {name} nomaster`; or leave it out here");
        found.push(Finding::new(Severity::Error, place.clone(), message, help));
        return None;
    }
    let trouble = match (link.up, link.carrier) {
        (false, _) => Some(("is down".to_owned(), format!("`ip link set {name} up`"))),
        (true, false) => Some((
            "has no carrier".to_owned(),
            "plug the cable in, or switch on what is at its other end".to_owned(),
        )),
        (true, true) => None,
    };
    if let Some((state, help)) = trouble.filter(|_| !is_ours(config, name)) {
        let message = format!("interface {name} {state}");
        found.push(Finding::new(Severity::Warning, place.clone(), message, help));
    }
    Some(link)
}

/// Finds members of bonds that do not exist.
pub(super) fn find_members(config: &Config, facts: &MachineFacts, found: &mut Vec<Finding>) {
    for bond in &config.bonds {
        for member in bond.members.iter().filter(|name| facts.snapshot.link(name).is_none()) {
            let place = Place::key(&["bond", &bond.name, "members"]).of(member);
            found.push(missing(facts, member, place));
        }
    }
}

/// Returns the name of the interface that takes over the packets of another one.
fn master(facts: &MachineFacts, link: &Link) -> Option<String> {
    if !link.port {
        return None;
    }
    let master = facts.devices.get(&link.ifindex)?.master?;
    Some(facts.name(master))
}

fn missing(facts: &MachineFacts, name: &str, place: Place) -> Finding {
    let dialled = is_dialled(name);
    let severity = if dialled { Severity::Warning } else { Severity::Error };
    let message = format!("interface {name} does not exist");
    Finding::new(severity, place, message, advice(facts, name, dialled))
}

fn advice(facts: &MachineFacts, name: &str, dialled: bool) -> String {
    let links = facts.snapshot.links.values();
    let alternative = links.clone().find(|link| {
        let device = facts.devices.get(&link.ifindex);
        device.is_some_and(|device| device.alternative_names.iter().any(|known| known == name))
    });
    if let Some(link) = alternative {
        return format!("write \"{}\": {name} is another name of it", link.name);
    }
    let vlan = name.rsplit_once('.').and_then(|(below, id)| {
        let id: u16 = id.parse().ok()?;
        facts.snapshot.link(below).map(|_| (below, id))
    });
    if let Some((below, id)) = vlan {
        return format!("`ip link add link {below} name {name} type vlan id {id}` creates it");
    }
    if dialled {
        return format!(
            "start the program that creates it (pppd, openvpn, wg-quick): linkbal uses it as soon as \
             it exists; or {}",
            names(facts, name)
        );
    }
    names(facts, name)
}

/// Returns advice with the names that there are, the most similar one first.
fn names(facts: &MachineFacts, name: &str) -> String {
    let known = free(facts);
    if known.is_empty() {
        return "there is no interface but lo: load the driver of the network card".into();
    }
    names_help(name, "the interfaces here", &known)
}

/// Returns the names of interfaces that stand for themselves.
fn free(facts: &MachineFacts) -> Vec<&str> {
    let links = facts.snapshot.links.values();
    links.filter(|link| link.name != LOOPBACK && !link.port).map(|link| &*link.name).collect()
}
