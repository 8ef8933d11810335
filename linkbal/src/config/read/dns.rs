//! `[dns]`: DNS servers from whose replies the addresses of domains are learned.

use std::net::IpAddr;

use linkbal_common::{
    maps::{self, Map as _},
    uplink::MAX_UPLINKS,
};
use toml::Spanned;

use crate::config::{
    Dns,
    diagnostics::problem::Fault,
    keys,
    parse::{reader::Section, value},
};

pub(in crate::config) const RESOLVERS_HELP: &str =
    "write addresses of DNS servers as a list, like [\"192.0.2.53\", \"2001:db8::53\"]";

/// Most resolvers of an uplink.
pub(super) const MAX_OF_UPLINK: usize = 8;

/// Most resolvers: those of the uplinks share the table with them.
const MAX_RESOLVERS: usize = maps::RESOLVERS::ENTRIES - MAX_UPLINKS * MAX_OF_UPLINK;

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
    if let Some(extra) = list.items.get(MAX_RESOLVERS) {
        let message = format!("{} servers, at most {MAX_RESOLVERS} are possible", list.items.len());
        let fault = Fault::new(message, "name those that hosts of the LAN ask");
        section.report(&keys::dns::RESOLVERS, extra.span(), fault);
    }
    Some(list.items.into_iter().map(Spanned::into_inner).collect())
}
