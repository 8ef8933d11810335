//! `ipv6`, `prefix` and `npt` of an uplink: its mode of IPv6, and the addresses that belong to it.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use toml::{Spanned, de::DeValue};

use super::rule::prefix;
use crate::config::{
    Ipv6, Npt,
    diagnostics::problem::Fault,
    keys,
    parse::{reader::Section, value},
};

/// Most prefixes of one uplink: all of them fit the datapath's map.
const MAX_PREFIXES: usize = 16;

/// Shortest IPv6 prefix that is accepted: a regional registry gets a /12, a provider less.
const MIN_PREFIX_LENGTH: u8 = 16;

/// Shortest IPv4 prefix that is accepted.
const SHORTEST_IPV4: u8 = 8;

const PREFIX_HELP: &str = "write what the provider gave out to you, like \"2001:db8:a::/56\" or \
                           \"198.51.100.64/28\"";

const NPT_HELP: &str = "write the prefix that is used inside only, like \"fd00::/64\"";

/// The values of `ipv6`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Masquerade,
    Prefix,
    Routed,
    Off,
}

/// The keys of IPv6 of an uplink, with their places.
pub(in crate::config) struct ReadIpv6 {
    /// The mode; `None` if it is refused.
    mode: Option<Mode>,
    /// Prefixes of both families.
    pub(in crate::config) prefixes: Vec<Spanned<IpNet>>,
    pub(in crate::config) npt: Option<Spanned<Ipv6Net>>,
}

impl ReadIpv6 {
    pub(in crate::config) fn value(&self) -> Ipv6 {
        match self.mode {
            None | Some(Mode::Masquerade) => Ipv6::Masquerade,
            Some(Mode::Routed) => Ipv6::Routed,
            Some(Mode::Off) => Ipv6::Off,
            Some(Mode::Prefix) => Ipv6::Prefix {
                prefixes: self.of_ipv6().collect(),
                npt: self.npt.as_ref().and_then(|internal| self.npt(*internal.get_ref())),
            },
        }
    }

    /// Returns the IPv4 prefixes.
    pub(in crate::config) fn prefixes_ipv4(&self) -> Vec<Ipv4Net> {
        let ipv4 = |prefix: &Spanned<IpNet>| match prefix.get_ref() {
            IpNet::V4(prefix) => Some(*prefix),
            IpNet::V6(_) => None,
        };
        self.prefixes.iter().filter_map(ipv4).collect()
    }

    fn of_ipv6(&self) -> impl Iterator<Item = Ipv6Net> {
        self.prefixes.iter().filter_map(|prefix| match prefix.get_ref() {
            IpNet::V6(prefix) => Some(*prefix),
            IpNet::V4(_) => None,
        })
    }

    /// Returns the translation of `internal`: to the first prefix of the same length.
    fn npt(&self, internal: Ipv6Net) -> Option<Npt> {
        let external =
            self.of_ipv6().find(|prefix| prefix.prefix_len() == internal.prefix_len())?;
        Some(Npt { internal, external })
    }
}

/// Reads the mode of IPv6 of an uplink. `nat` tells whether the uplink translates sources by
/// default.
pub(in crate::config) fn read(section: &Section, nat: bool) -> ReadIpv6 {
    let mode = if section.has(&keys::uplink::IPV6) {
        section.get(&keys::uplink::IPV6, mode).map(Spanned::into_inner)
    } else {
        Some(if nat { Mode::Masquerade } else { Mode::Routed })
    };
    if mode == Some(Mode::Prefix) {
        let fault = Fault::new("ipv6 = \"prefix\", but no prefix is given", PREFIX_HELP);
        section.require(&keys::uplink::PREFIX, fault);
    } else if mode.is_some()
        && let Some(npt) = section.get(&keys::uplink::NPT, |_| Ok(()))
    {
        section.report(&keys::uplink::NPT, npt.span(), unused("npt"));
    }
    let list = section.one_or_more(&keys::uplink::PREFIX, net(PREFIX_HELP));
    let complete = list.as_ref().is_none_or(|list| list.complete);
    let prefixes = list.map_or(Vec::new(), |list| list.items);
    if let Some(extra) = prefixes.get(MAX_PREFIXES) {
        let message = format!("{} prefixes, at most {MAX_PREFIXES} are possible", prefixes.len());
        let help = "join neighbours to a shorter prefix";
        section.report(&keys::uplink::PREFIX, extra.span(), Fault::new(message, help));
    }
    let read = ReadIpv6 { mode, prefixes, npt: section.get(&keys::uplink::NPT, inner_net) };
    check_family(&read, section, complete);
    if let Some(npt) = &read.npt
        && mode == Some(Mode::Prefix)
        && complete
        && read.of_ipv6().next().is_some()
        && read.npt(*npt.get_ref()).is_none()
    {
        let length = npt.get_ref().prefix_len();
        let message = format!("{} has no prefix of its length to be translated to", npt.get_ref());
        let help = format!("write a /{length} of the provider under `prefix`, or another length");
        section.report(&keys::uplink::NPT, npt.span(), Fault::new(message, help));
    }
    read
}

/// Reports IPv6 prefixes that would have no effect, and a mode that lacks its prefixes.
fn check_family(read: &ReadIpv6, section: &Section, complete: bool) {
    let first = read.prefixes.iter().find(|prefix| matches!(prefix.get_ref(), IpNet::V6(_)));
    match (read.mode, first) {
        (Some(Mode::Prefix), None) if complete => {
            if let Some(ipv4) = read.prefixes.first() {
                let message = "ipv6 = \"prefix\", but no prefix of IPv6 is given";
                section.report(
                    &keys::uplink::PREFIX,
                    ipv4.span(),
                    Fault::new(message, PREFIX_HELP),
                );
            }
        }
        (Some(Mode::Masquerade | Mode::Routed | Mode::Off), Some(ipv6)) => {
            section.report(&keys::uplink::PREFIX, ipv6.span(), unused("prefix"));
        }
        _ => {}
    }
}

/// Returns the fault of a key that would have no effect.
fn unused(key: &str) -> Fault {
    let what = if key == "prefix" { "one of IPv6" } else { "it" };
    let help = format!("write ipv6 = \"prefix\", or remove `{key}`");
    Fault::new(format!("{what} is used with ipv6 = \"prefix\" only"), help)
}

fn mode(value: &DeValue<'_>) -> Result<Mode, Fault> {
    const HELP: &str = "write \"masquerade\" (one address for all), \"prefix\" (hosts have addresses of the \
             provider), \"routed\" (no translation) or \"off\" (no IPv6)";
    match value::word(value, HELP)? {
        "masquerade" => Ok(Mode::Masquerade),
        "prefix" => Ok(Mode::Prefix),
        "routed" => Ok(Mode::Routed),
        "off" => Ok(Mode::Off),
        other => Err(Fault::new(format!("{other:?} is unknown"), HELP)),
    }
}

/// Returns a parser of a prefix for hosts; `help` says which one to write.
fn net(help: &'static str) -> impl Fn(&DeValue<'_>) -> Result<IpNet, Fault> {
    move |value| {
        let text = value.as_str().ok_or_else(|| value::wrong_type("a prefix", value, help))?;
        let net = prefix::prefix(text)?;
        if !text.contains('/') {
            return Err(Fault::new(format!("{text:?} has no prefix length"), help));
        }
        let (for_hosts, shortest) = match net {
            IpNet::V4(net) => (is_for_hosts(net), SHORTEST_IPV4),
            IpNet::V6(net) => {
                let address = net.addr();
                let other = address.is_multicast() || address.is_unicast_link_local();
                (!other && address.segments()[0] != 0, MIN_PREFIX_LENGTH)
            }
        };
        if !for_hosts {
            return Err(Fault::new(format!("{net} is not for hosts of a network"), help));
        }
        if net.prefix_len() < shortest {
            return Err(Fault::new(format!("{net} is more than a provider has"), help));
        }
        Ok(net)
    }
}

fn is_for_hosts(net: Ipv4Net) -> bool {
    let address = net.addr();
    let none = address.is_loopback() || address.is_link_local() || address.is_multicast();
    // The last ones are reserved (RFC 1112 section 4), the first ones mean this host (RFC 791).
    !none && !matches!(address.octets()[0], 0 | 240..)
}

/// Parses an IPv6 prefix of the inner side.
fn inner_net(value: &DeValue<'_>) -> Result<Ipv6Net, Fault> {
    match net(NPT_HELP)(value)? {
        IpNet::V6(net) => Ok(net),
        IpNet::V4(net) => Err(Fault::new(format!("{net} is an IPv4 prefix"), NPT_HELP)),
    }
}
