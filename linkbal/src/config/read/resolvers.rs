//! `resolvers` of an uplink: DNS servers that answer only the customers of its provider.

use std::net::IpAddr;

use ipnet::IpNet;
use linkbal_common::uplink::Family;
use toml::Spanned;

use super::{
    dns::{MAX_OF_UPLINK, RESOLVERS_HELP},
    read_uplink::ReadUplink,
};
use crate::config::{
    MAX_RULES, Match, Member, Otherwise, Rule,
    diagnostics::problem::Fault,
    keys,
    parse::{reader::Section, value},
};

/// Reads the resolvers of an uplink.
pub(in crate::config) fn read(section: &Section) -> Vec<Spanned<IpAddr>> {
    let list =
        section.list(&keys::uplink::RESOLVERS, RESOLVERS_HELP, value::address(RESOLVERS_HELP));
    let Some(list) = list else { return Vec::new() };
    section.report_repeated(&keys::uplink::RESOLVERS, &list.items);
    if let Some(extra) = list.items.get(MAX_OF_UPLINK) {
        let message = format!("{} servers, at most {MAX_OF_UPLINK} are possible", list.items.len());
        let fault = Fault::new(message, "name those that the provider tells its customers");
        section.report(&keys::uplink::RESOLVERS, extra.span(), fault);
    }
    list.items
}

/// Returns the rules, after those for the resolvers of each uplink.
pub(in crate::config) fn with_rules(
    rules: Vec<Rule>,
    uplinks: &[ReadUplink],
    root: &Section,
) -> Vec<Rule> {
    check(uplinks, root);
    let own = uplinks.iter().filter(|read| !read.resolvers.is_empty());
    let number = own.clone().count();
    // More rules than that have been reported already.
    if let Some(first) = own.clone().next()
        && rules.len() <= MAX_RULES
        && rules.len().saturating_add(number) > MAX_RULES
    {
        let message = format!(
            "{} rules and {number} for resolvers, at most {MAX_RULES} are possible",
            rules.len()
        );
        let help = "join rules with the same `use`: every key of `match` can be a list";
        root.problems().report(first.resolvers[0].span(), Fault::new(message, help));
    }
    own.map(rule).chain(rules).collect()
}

/// Returns the rule for the resolvers of an uplink. No other uplink gets an answer from them: while
/// this one is down, clients get an error at once, and ask another server.
fn rule(read: &ReadUplink) -> Rule {
    let hosts = read.resolvers.iter().map(|resolver| IpNet::from(*resolver.get_ref()));
    Rule {
        matches: Match { destination: hosts.collect(), ..Match::default() },
        members: vec![Member { uplink: read.uplink.name.clone(), weight: 1, tier: 1 }],
        otherwise: Otherwise::Reject,
        sticky: None,
    }
}

/// Checks that a resolver belongs to one uplink only, which carries its family.
fn check(uplinks: &[ReadUplink], root: &Section) {
    let mut before: Vec<(&str, &Spanned<IpAddr>)> = Vec::new();
    for ReadUplink { uplink, resolvers, .. } in uplinks {
        let key = format!("uplink.{}.resolvers", uplink.name);
        for resolver in resolvers {
            let address = resolver.get_ref();
            if address.is_ipv6() && !uplink.carries(Family::Ipv6) {
                let message = format!("{address} is an IPv6 address, and ipv6 is off here");
                let help = "remove it, or let the uplink carry IPv6";
                root.report(&key, resolver.span(), Fault::new(message, help));
            }
            if let Some((name, first)) = before.iter().find(|known| known.1.get_ref() == address) {
                let message = format!("{address} is a resolver of uplink {name}, too");
                let help = "one that answers all clients belongs into `resolvers` of [dns]; take it \
                            out of one of the two";
                let fault = Fault::new(message, help);
                root.report_related(&key, resolver.span(), fault, first.span(), "here");
            }
        }
        before.extend(resolvers.iter().map(|resolver| (uplink.name.as_str(), resolver)));
    }
}
