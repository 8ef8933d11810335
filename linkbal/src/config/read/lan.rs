//! `[lan]`: the interfaces that flows come from.

use toml::{Spanned, de::DeValue};

use crate::config::{
    diagnostics::problem::Fault,
    keys,
    parse::{
        reader::{Section, names_help},
        value,
    },
    pattern::{is_match, is_pattern},
};

const HELP: &str = "write the section [lan] and in it a list, like interfaces = [\"br-lan\"]";

/// Reads the interfaces of the LAN; if they are `required`, it is a problem that there are none.
pub(in crate::config) fn read(root: &Section, required: bool) -> Vec<Spanned<String>> {
    if required {
        root.require(&keys::root::LAN, none_given());
    }
    let lan = root.section(&keys::root::LAN, HELP).map(|lan| lan.knowing(&keys::lan::KEYS));
    lan.map_or(Vec::new(), |lan| read_interfaces(&lan, required))
}

fn read_interfaces(lan: &Section, required: bool) -> Vec<Spanned<String>> {
    if required {
        lan.require(&keys::lan::INTERFACES, none_given());
    }
    let Some(list) = lan.list(&keys::lan::INTERFACES, HELP, value::interface_pattern) else {
        return Vec::new();
    };
    if required && list.items.is_empty() && list.complete {
        lan.problems().report(list.span, none_given());
    }
    lan.report_repeated(&keys::lan::INTERFACES, &list.items);
    list.items.iter().for_each(|name| warn_plus(lan, name));
    list.items
}

/// Warns of a name that would be a pattern for iptables. It may be that of an interface.
fn warn_plus(section: &Section, name: &Spanned<String>) {
    if let Some(start) = name.get_ref().strip_suffix('+').filter(|start| !start.is_empty()) {
        let message = format!("\"{start}+\" is the name of one interface, and no pattern");
        let help = format!("if all are meant that begin with {start}, write \"{start}*\"");
        section.problems().warn(name.span(), Fault::new(message, help));
    }
}

/// Parses an interface of the LAN, or a pattern of some.
///
/// # Errors
/// If none of the LAN's `interfaces` can be meant; an empty list has a problem of its own.
pub(in crate::config) fn interface(
    value: &DeValue<'_>,
    interfaces: &[&str],
) -> Result<String, Fault> {
    let name = value::interface_pattern(value)?;
    // Two patterns may have names in common.
    let meet = |lan: &&str| {
        is_match(lan, &name) || is_match(&name, lan) || is_pattern(lan) && is_pattern(&name)
    };
    if interfaces.is_empty() || interfaces.iter().any(meet) {
        return Ok(name);
    }
    let help = names_help(&name, "the interfaces of [lan]", interfaces);
    Err(Fault::new(format!("{name} is not an interface of the LAN"), help))
}

fn none_given() -> Fault {
    Fault::new("no LAN interface is given", HELP)
}
