//! `nat` of an uplink, and `[nat]`: exemptions from NAT.

use ipnet::IpNet;
use toml::{Spanned, de::DeValue};

use super::{read_uplink::ReadUplink, rule::prefix};
use crate::config::{
    Exempt,
    diagnostics::problem::Fault,
    keys::{
        self,
        exempt::{DESTINATION, SOURCE},
    },
    parse::{
        key::{Key, Other},
        reader::{List, Section, names_help},
        value,
    },
};

/// Most entries: every new connection is compared with each.
const MAX_EXEMPT: usize = 64;

/// Most prefixes of one entry.
const MAX_PREFIXES: usize = 1024;

const HELP: &str = "write each one in braces, like exempt = [{ source = \"10.0.0.0/24\", \
                    destination = \"192.168.50.0/24\" }]";

const PREFIX_HELP: &str = "write an address or a prefix, like \"192.168.50.0/24\"";

/// Reads whether an uplink translates sources by default.
pub(in crate::config) fn of_uplink(section: &Section) -> bool {
    const CHOICE_HELP: &str = "write \"masquerade\" (hosts leave with the uplink's address) or \"off\" (they keep \
             theirs: the provider, or a router behind, knows them)";
    let read = section.get(&keys::uplink::NAT, |value| match value::word(value, CHOICE_HELP)? {
        "masquerade" => Ok(true),
        "off" => Ok(false),
        other => Err(Fault::new(format!("{other:?} is unknown"), CHOICE_HELP)),
    });
    read.is_none_or(Spanned::into_inner)
}

/// Reads `[nat]`.
pub(in crate::config) fn read(root: &Section, uplinks: &[ReadUplink]) -> Vec<Exempt> {
    let Some(section) = root.section(&keys::root::NAT, "write it as the section [nat]") else {
        return Vec::new();
    };
    let section = section.knowing(&keys::nat::KEYS);
    let Some(list) = section.list(&keys::nat::EXEMPT, HELP, value::table(HELP)) else {
        return Vec::new();
    };
    if let Some(extra) = list.items.get(MAX_EXEMPT) {
        let message = format!("{} entries, at most {MAX_EXEMPT} are possible", list.items.len());
        let help = "join entries: source and destination can be lists";
        section.report(&keys::nat::EXEMPT, extra.span(), Fault::new(message, help));
    }
    let names: Vec<&str> = uplinks.iter().map(|read| read.uplink.name.as_str()).collect();
    let read_one =
        |table| read_exempt(&section.child("exempt", table).knowing(&keys::exempt::KEYS), &names);
    list.items.iter().map(read_one).collect()
}

fn read_exempt(section: &Section, names: &[&str]) -> Exempt {
    let uplinks = section.one_or_more(&keys::exempt::UPLINK, |value| {
        let name = value::text(value)?;
        if names.contains(&name) {
            return Ok(name.to_owned());
        }
        let help = names_help(name, "the uplinks", names);
        Err(Fault::new(format!("there is no uplink {name:?}"), help))
    });
    if let Some(uplinks) = &uplinks {
        section.report_repeated(&keys::exempt::UPLINK, &uplinks.items);
    }
    let [source, destination] = [&SOURCE, &DESTINATION].map(|key| prefixes(section, key));
    if source.is_none() && destination.is_none() {
        let help = match &uplinks {
            Some(_) => "write nat = \"off\" in the section of the uplink, or add `destination`",
            None => HELP,
        };
        let fault = Fault::new("it names neither source nor destination", help);
        section.problems().report(section.span(), fault);
    }
    check_families(section, source.as_ref(), destination.as_ref());
    let items = |list: Option<List<IpNet>>| {
        let items = list.map_or(Vec::new(), |list| list.items);
        items.into_iter().map(Spanned::into_inner).collect()
    };
    let uplinks = uplinks.map_or(Vec::new(), |list| list.items);
    Exempt {
        source: items(source),
        destination: items(destination),
        uplinks: uplinks.into_iter().map(Spanned::into_inner).collect(),
    }
}

fn prefixes(section: &Section, key: &Key<Other>) -> Option<List<IpNet>> {
    let list = section.one_or_more(key, |value: &DeValue<'_>| {
        let text =
            value.as_str().ok_or_else(|| value::wrong_type("a prefix", value, PREFIX_HELP))?;
        prefix::prefix(text)
    })?;
    if let Some(extra) = list.items.get(MAX_PREFIXES) {
        let message = format!("{} prefixes, at most {MAX_PREFIXES} are possible", list.items.len());
        section.report(key, extra.span(), Fault::new(message, "join neighbours"));
    }
    section.report_repeated(key, &list.items);
    Some(list)
}

/// Checks that sources and destinations have families in common: a packet has both of one family.
fn check_families(
    section: &Section,
    source: Option<&List<IpNet>>,
    destination: Option<&List<IpNet>>,
) {
    let (Some(source), Some(destination)) = (source, destination) else { return };
    let is_ipv4 = |prefix: &Spanned<IpNet>| prefix.get_ref().addr().is_ipv4();
    for (key, list, others) in [(&SOURCE, source, destination), (&DESTINATION, destination, source)]
    {
        let alone = |item: &&Spanned<IpNet>| {
            !others.items.iter().any(|other| is_ipv4(other) == is_ipv4(item))
        };
        if others.complete
            && let Some(item) = list.items.iter().find(alone)
        {
            let family = if is_ipv4(item) { "IPv4" } else { "IPv6" };
            let other = if key.name == SOURCE.name { DESTINATION.name } else { SOURCE.name };
            let message = format!("{} has no {other} of {family} to go with", item.get_ref());
            let help = format!("add a {other} of {family}, or remove it");
            section.report(key, item.span(), Fault::new(message, help));
            return;
        }
    }
}
