//! `ipv6`, `prefix` and `npt` of an uplink: how it carries IPv6, and whose addresses belong to it.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use linkbal_common::uplink::Family;
use toml::{Spanned, de::DeValue};

use super::{Uplink, problem::Fault, reader::Section, rule::prefix, value};

/// Most prefixes of one uplink: all of them fit the datapath's map.
const MAX_PREFIXES: usize = 16;

/// Nobody gives out more than this: the regional registries get a /12, a provider a /20 or less.
const SHORTEST: u8 = 16;

/// Nor more of IPv4 than this.
const SHORTEST_IPV4: u8 = 8;

const PREFIX_HELP: &str = "write what the provider gave out to you, like \"2001:db8:a::/56\" or \
                           \"198.51.100.64/28\"";

const NPT_HELP: &str = "write the prefix that is used inside only, like \"fd00::/64\"";

/// How an uplink carries IPv6.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Ipv6 {
    /// With the uplink's own address in place of every source.
    #[default]
    Masquerade,
    /// As without (with `nat = "off"` the others stay, too), but sources of the provider's own
    /// prefixes stay as they are, and use no other uplink.
    Prefix {
        /// The prefixes: at least one; none overlaps another, of whatever uplink.
        prefixes: Vec<Ipv6Net>,
        /// What else is translated address by address.
        npt: Option<Npt>,
    },
    /// With the sources as they are.
    Routed,
    /// Not at all.
    Off,
}

/// A translation between two prefixes of the same length that keeps the rest of each address, as
/// RFC 6296 does but for the checksums, which connection tracking mends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Npt {
    /// What hosts of the LAN have.
    pub internal: Ipv6Net,
    /// What the internet sees: one of the uplink's prefixes.
    pub external: Ipv6Net,
}

impl Uplink {
    /// Whether it may carry packets of `family`.
    pub fn carries(&self, family: Family) -> bool {
        family == Family::Ipv4 || self.ipv6 != Ipv6::Off
    }

    /// Whether sources that are not of its own prefixes are translated to its address.
    pub fn translates(&self, family: Family) -> bool {
        match (family, &self.ipv6) {
            (Family::Ipv4, _) | (Family::Ipv6, Ipv6::Prefix { .. }) => self.nat,
            (Family::Ipv6, Ipv6::Masquerade) => true,
            (Family::Ipv6, Ipv6::Routed | Ipv6::Off) => false,
        }
    }

    /// What the provider gave out to hosts of the LAN: it is routed here.
    pub fn prefixes(&self) -> impl Iterator<Item = IpNet> {
        let ipv6: &[Ipv6Net] = match &self.ipv6 {
            Ipv6::Prefix { prefixes, .. } => prefixes,
            Ipv6::Masquerade | Ipv6::Routed | Ipv6::Off => &[],
        };
        let ipv4 = self.prefixes_ipv4.iter().copied().map(IpNet::from);
        ipv4.chain(ipv6.iter().copied().map(IpNet::from))
    }

    /// The inner prefix that is translated to one of the provider's.
    pub const fn npt(&self) -> Option<Npt> {
        match self.ipv6 {
            Ipv6::Prefix { npt, .. } => npt,
            Ipv6::Masquerade | Ipv6::Routed | Ipv6::Off => None,
        }
    }
}

/// The values of `ipv6`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Masquerade,
    Prefix,
    Routed,
    Off,
}

/// What an uplink says of IPv6, and where.
pub(super) struct ReadIpv6 {
    /// `None` if it is refused.
    mode: Option<Mode>,
    /// Of both families.
    pub(super) prefixes: Vec<Spanned<IpNet>>,
    pub(super) npt: Option<Spanned<Ipv6Net>>,
}

impl ReadIpv6 {
    pub(super) fn value(&self) -> Ipv6 {
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

    /// The prefixes of IPv4.
    pub(super) fn prefixes_ipv4(&self) -> Vec<Ipv4Net> {
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

    /// The translation of `internal`: to the first prefix of the same length.
    fn npt(&self, internal: Ipv6Net) -> Option<Npt> {
        let external =
            self.of_ipv6().find(|prefix| prefix.prefix_len() == internal.prefix_len())?;
        Some(Npt { internal, external })
    }
}

/// Reads how an uplink carries IPv6; `nat` is whether it translates what nothing else is said of.
pub(super) fn read(section: &Section, nat: bool) -> ReadIpv6 {
    let mode = if section.has("ipv6") {
        section.get("ipv6", mode).map(Spanned::into_inner)
    } else {
        Some(if nat { Mode::Masquerade } else { Mode::Routed })
    };
    if mode == Some(Mode::Prefix) {
        let fault = Fault::new("ipv6 = \"prefix\", but no prefix is given", PREFIX_HELP);
        section.require("prefix", fault);
    } else if mode.is_some()
        && let Some(npt) = section.get("npt", |_| Ok(()))
    {
        section.report("npt", npt.span(), unused("npt"));
    }
    let list = section.one_or_more("prefix", net(PREFIX_HELP));
    let complete = list.as_ref().is_none_or(|list| list.complete);
    let prefixes = list.map_or(Vec::new(), |list| list.items);
    if let Some(extra) = prefixes.get(MAX_PREFIXES) {
        let message = format!("{} prefixes, at most {MAX_PREFIXES} are possible", prefixes.len());
        let help = "join neighbours to a shorter prefix";
        section.report("prefix", extra.span(), Fault::new(message, help));
    }
    let read = ReadIpv6 { mode, prefixes, npt: section.get("npt", inner_net) };
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
        section.report("npt", npt.span(), Fault::new(message, help));
    }
    read
}

/// Reports prefixes of IPv6 that would mean nothing, and a mode that would.
fn check_family(read: &ReadIpv6, section: &Section, complete: bool) {
    let first = read.prefixes.iter().find(|prefix| matches!(prefix.get_ref(), IpNet::V6(_)));
    match (read.mode, first) {
        (Some(Mode::Prefix), None) if complete => {
            if let Some(ipv4) = read.prefixes.first() {
                let message = "ipv6 = \"prefix\", but no prefix of IPv6 is given";
                section.report("prefix", ipv4.span(), Fault::new(message, PREFIX_HELP));
            }
        }
        (Some(Mode::Masquerade | Mode::Routed | Mode::Off), Some(ipv6)) => {
            section.report("prefix", ipv6.span(), unused("prefix"));
        }
        _ => {}
    }
}

/// The fault of a key that would mean nothing.
fn unused(key: &str) -> Fault {
    let what = if key == "prefix" { "one of IPv6" } else { "it" };
    let help = format!("write ipv6 = \"prefix\", or remove `{key}`");
    Fault::new(format!("{what} is used with ipv6 = \"prefix\" only"), help)
}

fn mode(value: &DeValue<'_>) -> Result<Mode, Fault> {
    match value::text(value)? {
        "masquerade" => Ok(Mode::Masquerade),
        "prefix" => Ok(Mode::Prefix),
        "routed" => Ok(Mode::Routed),
        "off" => Ok(Mode::Off),
        other => Err(Fault::new(
            format!("{other:?} is unknown"),
            "write \"masquerade\" (one address for all), \"prefix\" (hosts have addresses of the \
             provider), \"routed\" (no translation) or \"off\" (no IPv6)",
        )),
    }
}

/// A prefix that hosts can have addresses of; `help` says whose to write.
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
                (!other && address.segments()[0] != 0, SHORTEST)
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

/// An IPv6 prefix of the inner side.
fn inner_net(value: &DeValue<'_>) -> Result<Ipv6Net, Fault> {
    match net(NPT_HELP)(value)? {
        IpNet::V6(net) => Ok(net),
        IpNet::V4(net) => Err(Fault::new(format!("{net} is an IPv4 prefix"), NPT_HELP)),
    }
}
