//! The mode of IPv6 of an uplink, and the addresses that belong to it.

use ipnet::{IpNet, Ipv6Net};
use linkbal_common::uplink::Family;

use super::Uplink;

/// The mode of IPv6 of an uplink.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Ipv6 {
    /// The uplink's own address replaces every source.
    #[default]
    Masquerade,
    /// Sources of the provider's own prefixes are not translated, and use no other uplink. All
    /// others are treated as by [`Ipv6::Masquerade`], or not translated either with `nat = "off"`.
    Prefix {
        /// The prefixes: at least one; none overlaps another, of whatever uplink.
        prefixes: Vec<Ipv6Net>,
        /// Translation of further sources, address by address.
        npt: Option<Npt>,
    },
    /// No source is translated.
    Routed,
    /// IPv6 is off.
    Off,
}

/// A translation between two prefixes of the same length that keeps the rest of each address, like
/// RFC 6296, but not checksum-neutral: connection tracking corrects the checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Npt {
    /// The prefix in the LAN.
    pub internal: Ipv6Net,
    /// The prefix in the internet: one of the uplink's prefixes.
    pub external: Ipv6Net,
}

impl Uplink {
    /// Returns whether the uplink may carry packets of `family`.
    pub fn carries(&self, family: Family) -> bool {
        family == Family::Ipv4 || self.ipv6 != Ipv6::Off
    }

    /// Returns whether sources that are not of the uplink's own prefixes are translated to its
    /// address.
    pub fn translates(&self, family: Family) -> bool {
        match (family, &self.ipv6) {
            (Family::Ipv4, _) | (Family::Ipv6, Ipv6::Prefix { .. }) => self.nat,
            (Family::Ipv6, Ipv6::Masquerade) => true,
            (Family::Ipv6, Ipv6::Routed | Ipv6::Off) => false,
        }
    }

    /// Returns the prefixes that the provider gave out for hosts of the LAN, and routes here.
    pub fn prefixes(&self) -> impl Iterator<Item = IpNet> {
        let ipv6: &[Ipv6Net] = match &self.ipv6 {
            Ipv6::Prefix { prefixes, .. } => prefixes,
            Ipv6::Masquerade | Ipv6::Routed | Ipv6::Off => &[],
        };
        let ipv4 = self.prefixes_ipv4.iter().copied().map(IpNet::from);
        ipv4.chain(ipv6.iter().copied().map(IpNet::from))
    }

    /// Returns the translation of an inner prefix to one of the provider's.
    pub const fn npt(&self) -> Option<Npt> {
        match self.ipv6 {
            Ipv6::Prefix { npt, .. } => npt,
            Ipv6::Masquerade | Ipv6::Routed | Ipv6::Off => None,
        }
    }
}
