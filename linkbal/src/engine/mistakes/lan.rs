//! Interfaces of the LAN that do not exist, or of which none is named.

use super::{MachineFacts, interface};
use crate::{
    config::{
        Config, Finding, Place, Severity,
        pattern::{is_match, is_pattern},
    },
    engine::kernel::{
        lan,
        network::{Link, Snapshot, TABLE_MAIN},
    },
};

/// Finds mistakes of the LAN.
pub(super) fn find(config: &Config, facts: &MachineFacts, found: &mut Vec<Finding>) {
    if config.lan_interfaces.is_empty() {
        found.extend(forgotten(config, facts));
    }
    for name in &config.lan_interfaces {
        let place = Place::key(&["lan", "interfaces"]).of(name);
        if is_pattern(name) {
            found.extend(unmatched(facts, name, place));
            continue;
        }
        let Some(link) = interface::existing(config, facts, name, &place, found) else { continue };
        // A gateway on standby reaches the internet by its partner in the LAN.
        if config.uplinks.iter().all(|uplink| uplink.virtual_addresses.is_empty()) {
            found.extend(leads_out(&facts.snapshot, link, &place));
        }
        if facts.networks(link).next().is_none() && link.up {
            let message = format!("interface {name} has no address: no host of the LAN can use it");
            let help = format!(
                "set the address that hosts have as their gateway: `ip address add ADDRESS/LENGTH dev {name}`"
            );
            found.push(Finding::new(Severity::Warning, place, message, help));
        }
    }
}

/// Reports a pattern that matches nothing.
fn unmatched(facts: &MachineFacts, pattern: &str, place: Place) -> Option<Finding> {
    let matches = facts.snapshot.links.values().any(|link| is_match(pattern, &link.name));
    let message = format!("no interface matches {pattern} now");
    let help = "nothing need be done if such interfaces appear later, as with containers";
    (!matches).then(|| Finding::new(Severity::Hint, place, message, help))
}

/// Reports an interface of the LAN that leads to the internet.
fn leads_out(snapshot: &Snapshot, link: &Link, place: &Place) -> Option<Finding> {
    let mut routes = snapshot.routes.iter().filter(|route| route.table == TABLE_MAIN);
    let route = routes.find(|route| route.is_default() && route.ifindex == Some(link.ifindex))?;
    let by = route.nexthop.map_or(String::new(), |gateway| format!(" via {gateway}"));
    let name = &link.name;
    let message = format!("a default route{by} leads by {name}, which is an interface of the LAN");
    let help = format!(
        "make it an uplink, like [uplink.{name}], or delete the route: `ip route delete default \
         dev {name}`"
    );
    Some(Finding::new(Severity::Warning, place.clone(), message, help))
}

/// Reports that no LAN is named, though an interface looks like one.
fn forgotten(config: &Config, facts: &MachineFacts) -> Option<Finding> {
    let candidates: Vec<String> = lan::candidates(config, &facts.snapshot)
        .into_iter()
        // A PC that has one is no gateway.
        .filter(|(link, _)| lan::container_network(&link.name).is_none())
        .map(|(link, address)| format!("{} ({address})", link.name))
        .collect();
    let first = candidates.first()?.split(' ').next()?;
    let message = format!(
        "no LAN is named: what other machines send is not balanced, and {} looks like a LAN",
        candidates.join(", ")
    );
    let help =
        format!("write [lan] and in it interfaces = [\"{first}\"]; nothing, if this is no gateway");
    let place = Place::key(&["lan", "interfaces"]);
    Some(Finding::new(Severity::Warning, place, message, help))
}
