//! `ipv6`, `prefix` and `npt` of an uplink: how it carries IPv6.

use ipnet::{IpNet, Ipv6Net};
use linkbal_common::uplink::Family;
use toml::{Spanned, de::DeValue};

use super::{Uplink, problem::Fault, reader::Section, rule::prefix, value};

/// Most prefixes of one uplink: all of them fit the datapath's map.
const MAX_PREFIXES: usize = 16;

/// Nobody gives out more than this: the regional registries get a /12, a provider a /20 or less.
const SHORTEST: u8 = 16;

const PREFIX_HELP: &str = "write what the provider gave out to you, like \"2001:db8:a::/56\"";

const NPT_HELP: &str = "write the prefix that is used inside only, like \"fd00::/64\"";

/// How an uplink carries IPv6.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Ipv6 {
    /// With the uplink's own address in place of every source.
    #[default]
    Masquerade,
    /// As [`Ipv6::Masquerade`], but sources of the provider's own prefixes stay as they are, and
    /// use no other uplink.
    Prefix {
        /// The prefixes: at least one; none overlaps another, of whatever uplink.
        prefixes: Vec<Ipv6Net>,
        /// What else is translated address by address.
        npt: Option<Npt>,
    },
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

    /// What the provider gave out to hosts of the LAN.
    pub fn prefixes(&self) -> &[Ipv6Net] {
        match &self.ipv6 {
            Ipv6::Prefix { prefixes, .. } => prefixes,
            Ipv6::Masquerade | Ipv6::Off => &[],
        }
    }

    /// The inner prefix that is translated to one of the provider's.
    pub const fn npt(&self) -> Option<Npt> {
        match self.ipv6 {
            Ipv6::Prefix { npt, .. } => npt,
            Ipv6::Masquerade | Ipv6::Off => None,
        }
    }
}

/// The values of `ipv6`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Masquerade,
    Prefix,
    Off,
}

/// What an uplink says of IPv6, and where.
pub(super) struct ReadIpv6 {
    /// `None` if it is refused.
    mode: Option<Mode>,
    pub(super) prefixes: Vec<Spanned<Ipv6Net>>,
    pub(super) npt: Option<Spanned<Ipv6Net>>,
}

impl ReadIpv6 {
    pub(super) fn value(&self) -> Ipv6 {
        match self.mode {
            None | Some(Mode::Masquerade) => Ipv6::Masquerade,
            Some(Mode::Off) => Ipv6::Off,
            Some(Mode::Prefix) => Ipv6::Prefix {
                prefixes: self.prefixes.iter().map(|prefix| *prefix.get_ref()).collect(),
                npt: self.npt.as_ref().and_then(|internal| self.npt(*internal.get_ref())),
            },
        }
    }

    /// The translation of `internal`: to the first prefix of the same length.
    fn npt(&self, internal: Ipv6Net) -> Option<Npt> {
        let mut external = self.prefixes.iter().map(|prefix| *prefix.get_ref());
        let external = external.find(|prefix| prefix.prefix_len() == internal.prefix_len())?;
        Some(Npt { internal, external })
    }
}

pub(super) fn read(section: &Section) -> ReadIpv6 {
    let mode = if section.has("ipv6") {
        section.get("ipv6", mode).map(Spanned::into_inner)
    } else {
        Some(Mode::Masquerade)
    };
    if mode == Some(Mode::Prefix) {
        let fault = Fault::new("ipv6 = \"prefix\", but no prefix is given", PREFIX_HELP);
        section.require("prefix", fault);
    } else if mode.is_some() {
        ["prefix", "npt"].iter().for_each(|key| refuse(section, key));
    }
    let list = section.one_or_more("prefix", net(PREFIX_HELP));
    let complete = list.as_ref().is_none_or(|list| list.complete);
    let prefixes = list.map_or(Vec::new(), |list| list.items);
    if let Some(extra) = prefixes.get(MAX_PREFIXES) {
        let message = format!("{} prefixes, at most {MAX_PREFIXES} are possible", prefixes.len());
        let help = "join neighbours to a shorter prefix";
        section.report("prefix", extra.span(), Fault::new(message, help));
    }
    let read = ReadIpv6 { mode, prefixes, npt: section.get("npt", net(NPT_HELP)) };
    if let Some(npt) = &read.npt
        && mode == Some(Mode::Prefix)
        && complete
        && !read.prefixes.is_empty()
        && read.npt(*npt.get_ref()).is_none()
    {
        let length = npt.get_ref().prefix_len();
        let message = format!("{} has no prefix of its length to be translated to", npt.get_ref());
        let help = format!("write a /{length} of the provider under `prefix`, or another length");
        section.report("npt", npt.span(), Fault::new(message, help));
    }
    read
}

/// Reports a key that would mean nothing.
fn refuse(section: &Section, key: &str) {
    if let Some(value) = section.get(key, |_| Ok(())) {
        let help = format!("write ipv6 = \"prefix\", or remove `{key}`");
        let fault = Fault::new("it is used with ipv6 = \"prefix\" only", help);
        section.report(key, value.span(), fault);
    }
}

fn mode(value: &DeValue<'_>) -> Result<Mode, Fault> {
    match value::text(value)? {
        "masquerade" => Ok(Mode::Masquerade),
        "prefix" => Ok(Mode::Prefix),
        "off" => Ok(Mode::Off),
        other => Err(Fault::new(
            format!("{other:?} is unknown"),
            "write \"masquerade\" (one address for all), \"prefix\" (hosts have addresses of the \
             provider) or \"off\" (no IPv6)",
        )),
    }
}

/// A prefix that hosts can have global addresses of; `help` says whose to write.
fn net(help: &'static str) -> impl Fn(&DeValue<'_>) -> Result<Ipv6Net, Fault> {
    move |value| {
        let text = value.as_str().ok_or_else(|| value::wrong_type("a prefix", value, help))?;
        let net = match prefix::prefix(text)? {
            IpNet::V6(net) if text.contains('/') => net,
            IpNet::V6(_) => return Err(Fault::new(format!("{text:?} has no prefix length"), help)),
            IpNet::V4(net) => return Err(Fault::new(format!("{net} is an IPv4 prefix"), help)),
        };
        let address = net.addr();
        if address.is_multicast() || address.is_unicast_link_local() || address.segments()[0] == 0 {
            return Err(Fault::new(format!("{net} is not for hosts of a network"), help));
        }
        if net.prefix_len() < SHORTEST {
            return Err(Fault::new(format!("{net} is more than a provider has"), help));
        }
        Ok(net)
    }
}
