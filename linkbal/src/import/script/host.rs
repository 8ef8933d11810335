//! Routes to single destinations by one of the uplinks.

use super::{
    facts::{DefaultRoute, Facts, HostRoute},
    uplink::id_of,
};
use crate::import::{
    model::{Draft, Member, Policy, Rule, Setting},
    note::Lines,
    values::{self, one_or_list, quote},
};

/// Makes a rule of a route to a destination by one of the uplinks.
pub(super) fn rule(draft: &mut Draft, facts: &Facts, route: &HostRoute) {
    let lines = route.lines.clone();
    let uplink = by(facts, route).and_then(|one| id_of(facts, one.gateway, one.device.as_deref()));
    // What has a gateway of its own is no network of a device.
    let contains_gateway = route.gateway.is_none()
        && values::prefixes(&route.destination).is_ok_and(|nets| {
            let gateways = facts.defaults.iter().filter_map(|one| one.gateway);
            gateways.into_iter().any(|gateway| nets.iter().any(|net| net.contains(&gateway)))
        });
    let Some(uplink) = uplink.filter(|_| route.table.is_empty() && !contains_gateway) else {
        let why = "routes to networks of your own stay in the main table, where linkbal looks them up; \
                   its own tables need none";
        return draft.unneeded(lines, why);
    };
    let mut rule = Rule { lines: lines.clone(), ..Rule::default() };
    let setting = match values::prefixes(&route.destination) {
        Ok(nets) if !nets.is_empty() => {
            Setting::new("destination", one_or_list(&values::prefix_texts(&nets)), lines.clone())
        }
        _ => Setting::new("domain", quote(&route.destination.to_lowercase()), lines.clone()),
    };
    rule.matches.push(setting);
    let member = Member { uplink, tier: 1, weight: 1, lines: Lines::default() };
    rule.policy = Some(Policy { members: vec![member], ..Policy::default() });
    let why = "remove this route from the main table: the rule takes its place, and destinations with \
               a route of their own are not balanced";
    draft.changed(lines, why);
    draft.rules.push(rule);
}

/// Returns the default route with the router of a route, or with its device. Another router on the
/// device of an uplink is none of its.
pub(super) fn by<'a>(facts: &'a Facts, route: &HostRoute) -> Option<&'a DefaultRoute> {
    let on_device = |one: &&DefaultRoute| {
        route.device.is_none() || one.device.is_none() || one.device == route.device
    };
    let of_gateway = facts
        .defaults
        .iter()
        .filter(on_device)
        .find(|one| route.gateway.is_some() && one.gateway == route.gateway);
    let of_device = || {
        facts.defaults.iter().find(|one| {
            let free = route.gateway.is_none() || one.gateway.is_none();
            free && route.device.is_some() && one.device == route.device
        })
    };
    of_gateway.or_else(of_device)
}
