//! Uplinks as they are read, with the places of keys that other sections can clash with.

use std::net::IpAddr;

use toml::Spanned;

use super::ipv6::ReadIpv6;
use crate::config::{Uplink, diagnostics::problem::Span};

/// An uplink, with the places of keys that other sections can clash with.
pub(in crate::config) struct ReadUplink {
    pub(in crate::config) uplink: Uplink,
    /// Place of the interface; `None` if it is missing or refused.
    pub(in crate::config) interface_at: Option<Span>,
    /// Set if the gateways are as written, not defaults in place of refused ones.
    pub(in crate::config) gateways_valid: bool,
    /// The keys of IPv6.
    pub(in crate::config) ipv6: ReadIpv6,
    /// The resolvers, with their places.
    pub(in crate::config) resolvers: Vec<Spanned<IpAddr>>,
    /// Place of the weight, or of the uplink's header; `None` if the tier is refused.
    pub(in crate::config) weight_at: Option<Span>,
    /// Place of `on_up`, if it is there and accepted.
    pub(in crate::config) on_up_at: Option<Span>,
    /// The keys of a tunnel.
    pub(in crate::config) tunnel: ReadTunnel,
}

/// The keys of a tunnel.
pub(in crate::config) struct ReadTunnel {
    pub(in crate::config) over: Vec<Spanned<String>>,
    pub(in crate::config) endpoints: Vec<IpAddr>,
}

impl ReadTunnel {
    /// Returns the names of the uplinks, in order.
    pub(in crate::config) fn over(&self) -> Vec<String> {
        self.over.iter().map(|name| name.get_ref().clone()).collect()
    }

    /// Returns the addresses.
    pub(in crate::config) fn endpoints(&self) -> Vec<IpAddr> {
        self.endpoints.clone()
    }
}
