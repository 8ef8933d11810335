//! Targets of probes, and resolvers, that are not beyond the uplink.

use std::{collections::BTreeSet, net::IpAddr};

use super::{MachineFacts, of_uplink};
use crate::{
    config::{Config, Finding, Host, Place, Severity, Target, Uplink},
    engine::kernel::lan,
};

/// Finds targets and resolvers that are here, in the LAN or at another uplink.
pub(super) fn find(config: &Config, facts: &MachineFacts, found: &mut Vec<Finding>) {
    let mut told = BTreeSet::new();
    for uplink in &config.uplinks {
        let targets = uplink.probe.targets.iter().filter_map(Target::address);
        for address in targets {
            let place = Place::key(&["uplink", &uplink.name, "probe", "targets"]);
            let place = place.or(&["probe", "targets"]).of(&address);
            // All uplinks without targets of their own have the same ones.
            let Some(mut finding) = judge(config, facts, uplink, address, place) else { continue };
            if told.insert(finding.message.clone()) {
                finding.message = format!("target {}", finding.message);
                found.push(finding);
            }
        }
        for resolver in &uplink.resolvers {
            let place = of_uplink(uplink, "resolvers").of(resolver);
            let finding = judge(config, facts, uplink, *resolver, place);
            found.extend(finding.map(|finding| {
                Finding {
                message: format!("resolver {}", finding.message),
                help: "name a DNS server of this provider, or take it out: one for all uplinks is \
                       written in [dns]"
                    .into(),
                ..finding
            }
            }));
        }
    }
    find_servers_beside(config, facts, found);
}

/// Finds DNS servers that no uplink leads to, if names of targets are looked up there.
fn find_servers_beside(config: &Config, facts: &MachineFacts, found: &mut Vec<Finding>) {
    let is_name = |target: &Target| matches!(target, Target::Http(page) if matches!(page.host, Host::Name(_)));
    let asks =
        |uplink: &&Uplink| uplink.resolvers.is_empty() && uplink.probe.targets.iter().any(is_name);
    let Some(asking) = config.uplinks.iter().find(asks) else { return };
    let place = Place::key(&["dns", "resolvers"]);
    let place = place.or(&["uplink", &asking.name, "probe", "targets"]).or(&["probe", "targets"]);
    let (source, servers) = match &config.dns.resolvers {
        Some(servers) => ("", servers.iter().copied().collect()),
        None => (" of /etc/resolv.conf", facts.resolvers.clone()),
    };
    for server in servers {
        let Some(place_of_server) = beside(config, facts, server) else { continue };
        let message =
            format!("DNS server {server}{source} is {place_of_server}: no uplink leads there");
        let help = "names of targets are looked up there all the same, but while it does not answer, \
                    uplinks are not judged by them: name public servers as `resolvers` of [dns], or add a \
                    target that is an address";
        let place = if source.is_empty() { place.clone().of(&server) } else { place.clone() };
        found.push(Finding::new(Severity::Hint, place, message, help));
    }
}

/// Says where an address is that no uplink leads to.
fn beside(config: &Config, facts: &MachineFacts, address: IpAddr) -> Option<&'static str> {
    if address.is_loopback() || facts.holder(address).is_some() {
        return Some("on this machine");
    }
    let lan = lan::present(config, &facts.snapshot).into_iter();
    let mut networks = lan.flat_map(|link| facts.on_link(link));
    networks.any(|network| network.contains(&address)).then_some("in the LAN")
}

fn judge(
    config: &Config,
    facts: &MachineFacts,
    uplink: &Uplink,
    address: IpAddr,
    place: Place,
) -> Option<Finding> {
    let help = "ask a host on the internet, or the provider's: without `targets`, six public resolvers \
                are asked";
    if let Some(holder) = facts.holder(address) {
        let message = format!("{address} is this machine's own address, on {holder}");
        return Some(Finding::new(Severity::Error, place, message, help));
    }
    let at = |name: &str| {
        let link = facts.snapshot.link(name)?;
        facts.on_link(link).into_iter().find(|network| network.contains(&address))
    };
    if at(&uplink.interface).is_some() {
        return None;
    }
    let lan = lan::present(config, &facts.snapshot).into_iter();
    let lan = lan.filter_map(|link| Some((link, at(&link.name)?))).next();
    if let Some((link, network)) = lan {
        let message = format!(
            "{address} is inside of the LAN ({network} on {}): no uplink leads there",
            link.name
        );
        return Some(Finding::new(Severity::Error, place, message, help));
    }
    let mut others = config.uplinks.iter().filter(|other| other.name != uplink.name);
    let other = others.find(|other| at(&other.interface).is_some())?;
    let message = format!(
        "{address} is in the network of uplink {}: by {} it is reached through that provider, if at all",
        other.name, uplink.name
    );
    Some(Finding::new(Severity::Warning, place, message, help))
}
