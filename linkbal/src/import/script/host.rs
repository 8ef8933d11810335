//! Routes to single destinations by one of the uplinks.

use ipnet::IpNet;
use linkbal_common::rule::MAX_RULES;

use super::{
    facts::{DefaultRoute, Facts, HostRoute},
    shares,
    uplink::id_of,
};
use crate::import::{
    excluded,
    model::{Draft, Member, Policy, Rule, Setting},
    note::Lines,
    values::{self, one_or_list, quote},
};

/// Says what becomes of the route itself.
const REMOVE: &str = "remove this route from the main table: the rule takes its place, and destinations with \
                      a route of their own are not balanced";

/// Tells of routes that become no rules, and of what becomes of the others.
pub(super) fn tell(draft: &mut Draft, facts: &Facts) {
    for route in &facts.hosts {
        let lines = route.lines.clone();
        match (choice(facts, route), route.table.is_empty()) {
            (Some(_), true) => draft.changed(lines, REMOVE),
            (Some(uplink), false) if is_alike(facts, route, &uplink) => {
                draft.unneeded(lines, "the default route of its table leads to the same uplink");
            }
            (Some(_), false) => {}
            (None, true) => {
                let why = "routes to networks of your own stay in the main table, where linkbal looks \
                           them up; its own tables need none";
                draft.unneeded(lines, why);
            }
            (None, false) => {
                let why = "linkbal's own tables need no routes to networks of your own: it looks them up \
                           in the main table, so put them there if they are not";
                draft.unneeded(lines, why);
            }
        }
    }
}

/// Tells of routes of other tables that no rule has become of.
pub(super) fn tell_unused(draft: &mut Draft, facts: &Facts) {
    for route in facts.hosts.iter().filter(|route| !route.table.is_empty()) {
        let Some(uplink) = choice(facts, route) else { continue };
        let has = |rule: &Rule| {
            let lines: Vec<usize> = rule.lines.iter().collect();
            route.lines.iter().all(|line| lines.contains(&line))
        };
        if !is_alike(facts, route, &uplink) && !draft.rules.iter().any(has) {
            let why = "an exception within its table: no rule here is for the flows that meet it";
            draft.untranslated(route.lines.clone(), why);
        }
    }
}

/// Returns the uplink that a route leads to, if it is no network of one's own.
pub(super) fn choice(facts: &Facts, route: &HostRoute) -> Option<String> {
    // What has a gateway of its own is no network of a device.
    let contains_gateway = route.gateway.is_none()
        && values::prefixes(&route.destination).is_ok_and(|nets| {
            let gateways = facts.defaults.iter().filter_map(|one| one.gateway);
            gateways.into_iter().any(|gateway| nets.iter().any(|net| net.contains(&gateway)))
        });
    let by = by(facts, route).filter(|_| !contains_gateway)?;
    id_of(facts, by.gateway, by.device.as_deref())
}

/// Returns whether flows to other destinations by the route's table use the same uplink.
fn is_alike(facts: &Facts, route: &HostRoute, uplink: &str) -> bool {
    let members = shares::of_table(facts, &route.table, is_ipv6(route));
    members.iter().all(|member| member.uplink == uplink) && !members.is_empty()
}

/// Returns whether a route is of IPv6.
fn is_ipv6(route: &HostRoute) -> bool {
    let nets = values::prefixes(&route.destination).unwrap_or_default();
    match nets.first() {
        Some(net) => net.addr().is_ipv6(),
        None => route.gateway.is_some_and(|gateway| gateway.is_ipv6()),
    }
}

/// Makes rules of the routes of a table and a family to single destinations, for the flows of the rule
/// `around`, which looks up that table: it comes behind them.
pub(super) fn rules(draft: &mut Draft, facts: &Facts, around: &Rule, table: &str, ipv6: bool) {
    let of = facts.hosts.iter().filter(|route| route.table == table && is_ipv6(route) == ipv6);
    for route in of {
        let Some(uplink) = choice(facts, route) else { continue };
        if !table.is_empty() && is_alike(facts, route, &uplink) {
            continue;
        }
        if table.is_empty() && is_made(draft, route) {
            continue;
        }
        if draft.rules.len() > MAX_RULES.saturating_mul(2) {
            draft.untranslated(
                route.lines.clone(),
                format!("linkbal has at most {MAX_RULES} rules"),
            );
            continue;
        }
        let mut rule = Rule {
            lines: around.lines.clone().and(&route.lines),
            matches: around.matches.clone(),
            broken: around.broken.clone(),
            ..Rule::default()
        };
        if narrow(&mut rule, route) {
            let member = Member { uplink, tier: 1, weight: 1, lines: Lines::default() };
            rule.policy = Some(Policy { members: vec![member], ..Policy::default() });
            draft.rules.push(rule);
        }
    }
}

/// Returns whether there is a rule of a route for all flows.
fn is_made(draft: &Draft, route: &HostRoute) -> bool {
    let mut whole = Rule::default();
    narrow(&mut whole, route);
    let value = whole.matches.first().map(|one| &one.value);
    let of_route = |rule: &&Rule| rule.lines == route.lines && rule.matches.len() == 1;
    draft.rules.iter().filter(of_route).any(|rule| Some(&rule.matches[0].value) == value)
}

/// Narrows a rule to the destination of a route; returns whether any flow of it goes there.
fn narrow(rule: &mut Rule, route: &HostRoute) -> bool {
    let lines = route.lines.clone();
    let own = rule.matches.iter().find(|one| one.key == "destination");
    let own = own.map(|one| excluded::nets_of(&one.value).flatten().collect::<Vec<IpNet>>());
    let own = own.filter(|nets| !nets.iter().any(values::is_whole_family));
    let mut named = rule.matches.iter().any(|one| one.key == "domain");
    let setting = match (values::prefixes(&route.destination), own) {
        (Ok(nets), own) if !nets.is_empty() => {
            let nets = match own {
                Some(own) => common(&own, &nets),
                None => nets,
            };
            if nets.is_empty() {
                return false;
            }
            Setting::new("destination", one_or_list(&values::prefix_texts(&nets)), lines)
        }
        (_, own) => {
            named |= own.is_some();
            Setting::new("domain", quote(&route.destination.to_lowercase()), lines)
        }
    };
    if named {
        rule.broken.push("a name and another destination must fit".into());
    }
    rule.matches.retain(|one| one.key != "destination");
    rule.matches.push(setting);
    true
}

/// Returns what is in both of two lists of prefixes.
fn common(one: &[IpNet], other: &[IpNet]) -> Vec<IpNet> {
    let both = |net: &IpNet| {
        let within = |other: &IpNet| match (net.contains(other), other.contains(net)) {
            (_, true) => Some(*net),
            (true, _) => Some(*other),
            _ => None,
        };
        other.iter().filter_map(within).collect::<Vec<IpNet>>()
    };
    one.iter().flat_map(both).collect()
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
