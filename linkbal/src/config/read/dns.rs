//! `[dns]`: DNS servers from whose replies the addresses of domains are learned.

use std::net::IpAddr;

use toml::Spanned;

use crate::config::{
    Dns, keys,
    parse::{reader::Section, value},
};

pub(in crate::config) const RESOLVERS_HELP: &str =
    "write addresses of DNS servers as a list, like [\"192.0.2.53\", \"2001:db8::53\"]";

/// Reads `[dns]`.
pub(in crate::config) fn read(root: &Section) -> Dns {
    let Some(section) = root.section(&keys::root::DNS, "write it as the section [dns]") else {
        return Dns::default();
    };
    Dns { resolvers: read_resolvers(&section.knowing(&keys::dns::KEYS)) }
}

fn read_resolvers(section: &Section) -> Option<Vec<IpAddr>> {
    let list =
        section.list(&keys::dns::RESOLVERS, RESOLVERS_HELP, value::address(RESOLVERS_HELP))?;
    section.report_repeated(&keys::dns::RESOLVERS, &list.items);
    Some(list.items.into_iter().map(Spanned::into_inner).collect())
}
