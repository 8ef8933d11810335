//! `[firewall]`: the policy for connections from outside.

use toml::Spanned;

use crate::config::{
    Firewall, Inbound,
    diagnostics::problem::Fault,
    keys,
    parse::{reader::Section, value},
};

/// Reads `[firewall]`.
pub(in crate::config) fn read(root: &Section) -> Firewall {
    const HELP: &str = "write \"established\" (from outside, hosts behind this machine are reached by forwarded \
             ports alone), \"open\" (other firewalls decide), or \"auto\"";
    let help = "write the section [firewall] and in it inbound = \"established\"";
    let Some(section) = root.section(&keys::root::FIREWALL, help) else {
        return Firewall::default();
    };
    let section = section.knowing(&keys::firewall::KEYS);
    let inbound = section.get(&keys::firewall::INBOUND, |value| match value::word(value, HELP)? {
        "auto" => Ok(Inbound::Auto),
        "established" => Ok(Inbound::Established),
        "open" => Ok(Inbound::Open),
        other => Err(Fault::new(format!("{other:?} is unknown"), HELP)),
    });
    let transit = section.value(&keys::firewall::TRANSIT);
    Firewall {
        inbound: inbound.map_or(Inbound::default(), Spanned::into_inner),
        transit: transit.is_some_and(Spanned::into_inner),
    }
}
