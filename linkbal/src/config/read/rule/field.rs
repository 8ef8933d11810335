//! Values of the keys of `match`.

use toml::{Spanned, de::DeValue};

use crate::{
    config::{
        diagnostics::problem::Fault,
        dscp::dscp_named,
        parse::{
            reader::{List, names_help},
            value,
        },
    },
    protocol,
};

/// Returns the items of a list; none without one.
pub(super) fn values<T>(list: Option<List<T>>) -> Vec<T> {
    list.map_or(Vec::new(), |list| list.items.into_iter().map(Spanned::into_inner).collect())
}

/// IP protocol numbers by the names of a configuration.
const PROTOCOLS: [(&str, &[u8]); 8] = [
    ("tcp", &[protocol::TCP]),
    ("udp", &[protocol::UDP]),
    ("sctp", &[protocol::SCTP]),
    ("icmp", &[protocol::ICMP, protocol::ICMPV6]),
    ("gre", &[protocol::GRE]),
    ("esp", &[protocol::ESP]),
    ("ah", &[protocol::AH]),
    ("ipip", &[protocol::IPIP]),
];

const PORTS_HELP: &str = "write a port like 443, or a range in double quotes like \"8000-8100\"";

/// Parses a protocol, given by name or number, to its numbers.
pub(in crate::config) fn protocol(value: &DeValue<'_>) -> Result<Vec<u8>, Fault> {
    let names = PROTOCOLS.map(|(name, _)| name);
    let Some(text) = value.as_str() else {
        let help = format!("write one of \"{}\", or a number from 0 to 255", names.join("\", \""));
        return small_number(value, "a protocol", 255, help).map(|number| vec![number]);
    };
    PROTOCOLS
        .iter()
        .find(|(name, _)| *name == text)
        .map(|(_, numbers)| numbers.to_vec())
        .ok_or_else(|| {
            let help = names_help(text, "the names", &names) + "; others are written as numbers";
            Fault::new(format!("there is no protocol {text:?}"), help)
        })
}

/// Returns the name of a protocol that is read as these numbers, or the first of them.
pub(super) fn protocol_text(numbers: &[u8]) -> String {
    let named = PROTOCOLS.iter().find(|(_, known)| *known == numbers);
    let number = || numbers.first().map(u8::to_string).unwrap_or_default();
    named.map_or_else(number, |(name, _)| (*name).to_owned())
}

/// Parses a port or a range of ports, to the first and the last one.
pub(super) fn ports(value: &DeValue<'_>) -> Result<(u16, u16), Fault> {
    match value {
        DeValue::Integer(_) => value::port(value).map(|port| (port, port)),
        DeValue::String(text) => port_range(text),
        _ => Err(value::wrong_type("a port", value, PORTS_HELP)),
    }
}

fn port_range(text: &str) -> Result<(u16, u16), Fault> {
    let port = |text: &str| text.trim().parse().ok().filter(|port| *port > 0);
    let range = text.split_once('-').and_then(|(first, last)| Some((port(first)?, port(last)?)));
    match range {
        Some((first, last)) if first <= last => Ok((first, last)),
        Some((first, last)) => Err(Fault::new(
            format!("the range {text:?} ends before it begins"),
            format!("write \"{last}-{first}\""),
        )),
        None => Err(Fault::new(format!("{text:?} is not a range of ports"), ports_help(text))),
    }
}

/// Returns advice for a text that is not a range of ports.
fn ports_help(text: &str) -> String {
    let number = |text: &str| text.trim().parse::<u16>().ok();
    let others = text.split_once(':').or_else(|| text.split_once(".."));
    match (number(text), others.and_then(|(from, to)| Some((number(from)?, number(to)?)))) {
        (Some(port), _) => format!("write {port}, without quotes"),
        (None, Some((from, to))) => format!("write \"{from}-{to}\""),
        _ if matches!(text, "any" | "all" | "*" | "") => {
            "leave the key out: without it, any port fits".into()
        }
        _ => PORTS_HELP.into(),
    }
}

/// Parses a DSCP value, given by name or number.
pub(super) fn dscp(value: &DeValue<'_>) -> Result<u8, Fault> {
    let help = "write a number from 0 to 63, or a name: \"cs0\" to \"cs7\", \"af11\" to \"af43\", \
                \"ef\", \"va\" or \"le\"";
    match value.as_str() {
        None => small_number(value, "a DSCP value", 63, help.into()),
        Some(text) => dscp_named(text)
            .ok_or_else(|| Fault::new(format!("there is no DSCP value {text:?}"), help)),
    }
}

/// Parses a number up to `high`, of a value that can also be a name.
fn small_number(value: &DeValue<'_>, expected: &str, high: u8, help: String) -> Result<u8, Fault> {
    if value.as_integer().is_none() {
        return Err(value::wrong_type(expected, value, help));
    }
    let number = value::integer(0..=high.into())(value)?;
    Ok(u8::try_from(number).expect("the range ends at an 8-bit number"))
}

/// Parses the number of a VLAN; 0 and 4095 are reserved (IEEE 802.1Q).
pub(super) fn vlan(value: &DeValue<'_>) -> Result<u16, Fault> {
    let vlan = value::integer(1..=4094)(value)?;
    Ok(u16::try_from(vlan).expect("the range ends at a 16-bit number"))
}
