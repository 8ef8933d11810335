//! Targets of probes, and resolvers, that are not beyond the uplink.

use std::{collections::BTreeSet, net::IpAddr};

use super::{Facts, of_uplink};
use crate::{
    config::{Config, Finding, Place, Severity, Target, Uplink},
    engine::kernel::lan,
};

/// Finds targets and resolvers that are here, in the LAN or at another uplink.
pub(super) fn find(config: &Config, facts: &Facts, found: &mut Vec<Finding>) {
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
}

fn judge(
    config: &Config,
    facts: &Facts,
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
