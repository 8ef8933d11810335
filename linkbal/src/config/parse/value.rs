//! Values of keys: parsed from TOML, and checked against their ranges.

use std::{
    net::{IpAddr, Ipv4Addr},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use toml::de::{DeArray, DeTable, DeValue};

use super::quoted;
use crate::{config::diagnostics::problem::Fault, mac};

/// Longest interface name (`IFNAMSIZ` without the end mark).
const INTERFACE_LENGTH: usize = 15;

const DURATION_HELP: &str =
    "write a number and a unit in double quotes, like \"200ms\", \"5s\" or \"10m\"";

const INTERFACE_HELP: &str = "write a name that `ip link` shows, like \"eth0\"";

/// Parses a text.
pub(in crate::config) fn text<'a>(value: &'a DeValue<'a>) -> Result<&'a str, Fault> {
    value.as_str().ok_or_else(|| wrong_type("a text", value, "write it in double quotes"))
}

/// Parses a word of a few; `help` says which there are.
pub(in crate::config) fn word<'a>(value: &'a DeValue<'a>, help: &str) -> Result<&'a str, Fault> {
    value.as_str().ok_or_else(|| wrong_type("a word", value, help))
}

/// Parses a boolean.
pub(in crate::config) fn boolean(value: &DeValue<'_>) -> Result<bool, Fault> {
    value.as_bool().ok_or_else(|| {
        let meant = quoted::boolean(value).map(|meant| meant.to_string());
        let meant = meant.unwrap_or_else(|| "true or false".into());
        wrong_type("true or false", value, format!("write {meant}, without quotes"))
    })
}

/// Returns a parser of a path from the root; `example` is one.
pub(in crate::config) fn path(
    example: &'static str,
) -> impl Fn(&DeValue<'_>) -> Result<PathBuf, Fault> {
    move |value| {
        let path = Path::new(text(value)?);
        if path.is_absolute() {
            return Ok(path.to_owned());
        }
        let message = format!("{} is no path from the root", path.display());
        Err(Fault::new(message, format!("write it whole, like {example:?}")))
    }
}

/// Returns a parser of a table; `help` says how to write it.
pub(in crate::config) fn table<'a>(
    help: &'static str,
) -> impl Fn(&'a DeValue<'a>) -> Result<&'a DeTable<'a>, Fault> {
    move |value| value.as_table().ok_or_else(|| wrong_type("a section", value, help))
}

/// Returns a parser of an array; `help` says how to write it.
pub(in crate::config) fn array<'a>(
    help: &'static str,
) -> impl Fn(&'a DeValue<'a>) -> Result<&'a DeArray<'a>, Fault> {
    move |value| value.as_array().ok_or_else(|| wrong_type("a list", value, help))
}

/// Returns a parser of an integer within `range`.
pub(in crate::config) fn integer(
    range: RangeInclusive<u32>,
) -> impl Fn(&DeValue<'_>) -> Result<u32, Fault> {
    move |value| {
        let (low, high) = (range.start(), range.end());
        let help = format!("write a number from {low} to {high}");
        let Some(integer) = value.as_integer() else {
            let help = match quoted::number(value, &range) {
                Some(number) => format!("write {number}, without quotes"),
                None => help + ", without quotes",
            };
            return Err(wrong_type("a whole number", value, help));
        };
        u32::from_str_radix(integer.as_str(), integer.radix())
            .ok()
            .filter(|number| range.contains(number))
            .ok_or_else(|| Fault::new(format!("{integer} is not within {low} to {high}"), help))
    }
}

/// Returns a duration as people write it: a day is `1d`.
pub(in crate::config) fn time_text(time: Duration) -> String {
    humantime::format_duration(time).to_string().replace("days", "d").replace("day", "d")
}

/// Returns a parser of a duration within `range`, as text with units.
pub(in crate::config) fn duration(
    range: RangeInclusive<Duration>,
) -> impl Fn(&DeValue<'_>) -> Result<Duration, Fault> {
    move |value| {
        let help = match quoted::duration(value, &range) {
            Some(duration) => format!("write {duration}: with a unit, in double quotes"),
            None => DURATION_HELP.into(),
        };
        let Some(text) = value.as_str() else {
            return Err(wrong_type("a duration", value, help));
        };
        let duration = humantime::parse_duration(text)
            .map_err(|_| Fault::new(format!("{text:?} is not a duration"), help.clone()))?;
        if range.contains(&duration) {
            return Ok(duration);
        }
        let [low, high] = [range.start(), range.end()].map(|time| time_text(*time));
        Err(Fault::new(
            format!("{text:?} is not within {low} to {high}"),
            format!("write a duration from {low} to {high}"),
        ))
    }
}

/// Returns a parser of `None` for `"auto"`, or of what `read` accepts.
pub(in crate::config) fn auto_or<'a, T>(
    read: impl Fn(&'a DeValue<'a>) -> Result<T, Fault>,
) -> impl Fn(&'a DeValue<'a>) -> Result<Option<T>, Fault> {
    move |value| {
        if value.as_str() == Some("auto") {
            return Ok(None);
        }
        read(value).map(Some).map_err(|fault| {
            Fault::new(fault.message, format!("{}; or write \"auto\"", fault.help))
        })
    }
}

/// Returns a parser of a unicast IP address that other machines can have; `help` says which one to
/// write.
pub(in crate::config) fn address<'a>(
    help: &'static str,
) -> impl Fn(&'a DeValue<'a>) -> Result<IpAddr, Fault> {
    move |value| {
        let Some(text) = value.as_str() else {
            return Err(wrong_type("an IP address", value, help));
        };
        parse_address(text, help)
    }
}

/// Parses an IP address from a text, like [`address`].
pub(in crate::config) fn parse_address(text: &str, help: &str) -> Result<IpAddr, Fault> {
    let address: IpAddr = text.parse().map_err(|_| {
        Fault::new(format!("{text:?} is not an IP address"), address_help(text, help))
    })?;
    check_address(address, help).map(|()| address)
}

/// Checks that an address is one that another machine can answer at.
pub(in crate::config) fn check_address(address: IpAddr, help: &str) -> Result<(), Fault> {
    match unusable_kind(address) {
        Some(kind) => Err(Fault::new(format!("{address} is {kind}"), help)),
        None => Ok(()),
    }
}

/// Returns advice for a text that is not an IP address.
fn address_help(text: &str, help: &str) -> String {
    let rest = |mark| text.find(mark).map(|at| &text[at..]);
    if let Some(prefix) = rest('/') {
        format!("leave out the prefix length {prefix:?}")
    } else if let Some(zone) = rest('%') {
        format!("leave out the interface {zone:?}: linkbal adds the uplink's")
    } else if text.contains(|c: char| c.is_ascii_alphabetic() && !c.is_ascii_hexdigit()) {
        format!("{help}; names cannot be looked up while an uplink is down")
    } else {
        help.to_owned()
    }
}

/// Returns the kind of an address at which no other machine answers.
fn unusable_kind(address: IpAddr) -> Option<&'static str> {
    if address.is_unspecified() {
        Some("the unspecified address")
    } else if address.is_loopback() {
        Some("a loopback address")
    } else if address.is_multicast() {
        Some("a multicast address")
    } else if address == IpAddr::V4(Ipv4Addr::BROADCAST) {
        Some("the broadcast address")
    } else if address.to_canonical() != address {
        Some("an IPv4 address written as IPv6")
    } else {
        None
    }
}

/// Parses the name of a network interface, which may not exist yet.
pub(in crate::config) fn interface(value: &DeValue<'_>) -> Result<String, Fault> {
    let name = value.as_str().ok_or_else(|| wrong_type("a text", value, INTERFACE_HELP))?;
    interface_name(name).map(|()| name.to_owned())
}

/// Parses the name of a network interface, or a pattern of such names.
pub(in crate::config) fn interface_pattern(value: &DeValue<'_>) -> Result<String, Fault> {
    let name = value.as_str().ok_or_else(|| wrong_type("a text", value, INTERFACE_HELP))?;
    // The text that the stars stand for may make a valid name of any rest.
    let rest = name.replace('*', "");
    if rest.len() < name.len() && matches!(&*rest, "" | "." | ".." | "all" | "default" | "lo") {
        return Ok(name.to_owned());
    }
    interface_name(&rest).map(|()| name.to_owned())
}

/// Checks that a name can be that of a network interface other than the loopback device, as the
/// kernel accepts it (`dev_valid_name` in net/core/dev.c, `sysctl_dev_name_is_allowed` in
/// net/ipv4/devinet.c).
pub(in crate::config) fn interface_name(name: &str) -> Result<(), Fault> {
    let bad_character = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    let reason = if name.is_empty() {
        "it is empty"
    } else if name.len() > INTERFACE_LENGTH {
        "it is longer than 15 bytes"
    } else if name.contains(bad_character) {
        "slashes, colons and spaces are not possible"
    } else if matches!(name, "." | ".." | "all" | "default") {
        "the kernel reserves it"
    } else if name == "lo" {
        "it never leaves this machine"
    } else {
        return Ok(());
    };
    let help = alias_help(name).unwrap_or_else(|| INTERFACE_HELP.into());
    Err(Fault::new(format!("{name:?} is not a network interface: {reason}"), help))
}

/// Returns advice for an alias such as `eth0:1`, which is only another address of an interface.
fn alias_help(name: &str) -> Option<String> {
    let (interface, label) = name.split_once(':')?;
    let is_label = !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric());
    (is_label && interface_name(interface).is_ok()).then(|| {
        format!(
            "write {interface:?}: an alias is one more address of it; uplinks that share an \
             interface need a `gateway` of their own each"
        )
    })
}

/// Parses a MAC address.
pub(in crate::config) fn mac(value: &DeValue<'_>) -> Result<[u8; 6], Fault> {
    let help = "write six pairs of hexadecimal digits, like \"02:00:00:00:00:01\"";
    let text = value.as_str().ok_or_else(|| wrong_type("a MAC address", value, help))?;
    let octet = |pair: &str| {
        let digits = pair.len() == 2 && pair.bytes().all(|digit| digit.is_ascii_hexdigit());
        u8::from_str_radix(pair, 16).ok().filter(|_| digits)
    };
    let octets: Option<Vec<u8>> = text.split(':').map(octet).collect();
    octets.and_then(|octets| octets.try_into().ok()).ok_or_else(|| {
        let other = mac::parse(text).map(|octets| format!("write {:?}", mac::show(octets)));
        let help = other.unwrap_or_else(|| help.into());
        Fault::new(format!("{text:?} is not a MAC address"), help)
    })
}

/// Returns the fault of a value that is not `expected`.
pub(in crate::config) fn wrong_type(
    expected: &str,
    found: &DeValue<'_>,
    help: impl Into<String>,
) -> Fault {
    let found = match found {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a decimal number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a section",
    };
    Fault::new(format!("expected {expected}, found {found}"), help)
}

/// Parses a port.
pub(in crate::config) fn port(value: &DeValue<'_>) -> Result<u16, Fault> {
    let port = integer(1..=u16::MAX.into())(value)?;
    Ok(u16::try_from(port).expect("the range ends at the largest port"))
}
