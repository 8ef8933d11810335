//! `over` and `endpoint` of an uplink: the path of the outer packets of a tunnel.

use toml::Spanned;

use super::read_uplink::{ReadTunnel, ReadUplink};
use crate::config::{
    diagnostics::problem::Fault,
    keys,
    parse::{
        reader::{Section, names_help},
        value,
    },
};

const ENDPOINT_HELP: &str = "write the address of the tunnel's other end, like \"203.0.113.9\"";

/// Reads `over` and `endpoint`: one value or a list of them.
pub(in crate::config) fn read(section: &Section) -> ReadTunnel {
    let over = section
        .one_or_more(&keys::uplink::OVER, value::text)
        .map(|list| list.items)
        .unwrap_or_default();
    section.report_repeated(&keys::uplink::OVER, &over);
    let endpoints = section.one_or_more(&keys::uplink::ENDPOINT, value::address(ENDPOINT_HELP));
    let endpoints = endpoints.map(|list| list.items).unwrap_or_default();
    section.report_repeated(&keys::uplink::ENDPOINT, &endpoints);
    let owned = |name: Spanned<&str>| Spanned::new(name.span(), (*name.get_ref()).to_owned());
    ReadTunnel {
        over: over.into_iter().map(owned).collect(),
        endpoints: endpoints.into_iter().map(Spanned::into_inner).collect(),
    }
}

/// Checks that the outer packets of a tunnel use other uplinks, and none that uses the tunnel
/// itself.
pub(in crate::config) fn check(uplinks: &[ReadUplink], root: &Section) {
    let names: Vec<&str> = uplinks.iter().map(|read| read.uplink.name.as_str()).collect();
    for own in uplinks {
        let key = format!("uplink.{}.over", own.uplink.name);
        for name in &own.tunnel.over {
            let other = uplinks.iter().find(|other| other.uplink.name == *name.get_ref());
            let fault = match other {
                None => {
                    let help = names_help(name.get_ref(), "the uplinks", &names);
                    Fault::new(format!("there is no uplink {:?}", name.get_ref()), help)
                }
                Some(other) => match loops(own, other, uplinks) {
                    Some(message) => Fault::new(message, "name an uplink that is no such tunnel"),
                    None => continue,
                },
            };
            root.report(&key, name.span(), fault);
        }
    }
}

/// Returns why a tunnel cannot use an uplink, if it cannot.
fn loops(own: &ReadUplink, other: &ReadUplink, uplinks: &[ReadUplink]) -> Option<String> {
    if own.uplink.name == other.uplink.name {
        return Some("a tunnel cannot go over itself".into());
    }
    if !own.uplink.interface.is_empty() && own.uplink.interface == other.uplink.interface {
        let interface = &own.uplink.interface;
        return Some(format!("{} is on {interface}, the tunnel itself", other.uplink.name));
    }
    // All uplinks that the other one uses, and those that these use, and so on.
    let mut below = vec![other];
    let mut at = 0usize;
    while let Some(next) = below.get(at).copied() {
        for name in &next.uplink.over {
            if *name == own.uplink.name {
                let (a, b) = (&other.uplink.name, &own.uplink.name);
                return Some(format!("{a} itself goes over {b}"));
            }
            let seen = below.iter().any(|seen| seen.uplink.name == *name);
            let found = uplinks.iter().find(|read| read.uplink.name == *name);
            below.extend(found.filter(|_| !seen));
        }
        at = at.saturating_add(1);
    }
    None
}
