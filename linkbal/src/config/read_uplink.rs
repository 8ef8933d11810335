//! Uplinks as they are read, with the places of keys that other sections can clash with.

use std::net::IpAddr;

use toml::Spanned;

use super::{Uplink, ipv6::ReadIpv6, problem::Span};

/// An uplink, with the places of keys that other sections can clash with.
pub(super) struct ReadUplink {
    pub(super) uplink: Uplink,
    /// Place of the interface; `None` if it is missing or refused.
    pub(super) interface_at: Option<Span>,
    /// Set if the gateways are as written, not defaults in place of refused ones.
    pub(super) gateways_valid: bool,
    /// The keys of IPv6.
    pub(super) ipv6: ReadIpv6,
    /// The resolvers, with their places.
    pub(super) resolvers: Vec<Spanned<IpAddr>>,
    /// Place of the weight, or of the uplink's header; `None` if the tier is refused.
    pub(super) weight_at: Option<Span>,
    /// The keys of a tunnel.
    pub(super) tunnel: ReadTunnel,
}

/// The keys of a tunnel.
pub(super) struct ReadTunnel {
    pub(super) over: Vec<Spanned<String>>,
    pub(super) endpoints: Vec<IpAddr>,
}

impl ReadTunnel {
    /// Returns the names of the uplinks, in order.
    pub(super) fn over(&self) -> Vec<String> {
        self.over.iter().map(|name| name.get_ref().clone()).collect()
    }

    /// Returns the addresses.
    pub(super) fn endpoints(&self) -> Vec<IpAddr> {
        self.endpoints.clone()
    }
}
