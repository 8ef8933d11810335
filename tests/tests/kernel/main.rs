//! Tests of `linkbal::sys` against the real kernel, judged by `ip`, `nft` and `conntrack`. Needs
//! root.

mod api_socket;
mod change_events;
mod events;
mod namespace;
mod netfilter;
mod router_solicitation;
mod routing;
mod teardown;

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use linkbal::engine::kernel::network::{PROTOCOL, Route, RouteKind, Snapshot};

/// Returns a unicast default route of linkbal's.
fn default_route(family_any: &str, nexthop: Option<&str>, ifindex: u32) -> Result<Route> {
    Ok(Route {
        table: 2601,
        destination: family_any.parse::<IpNet>()?,
        metric: 10,
        kind: RouteKind::Unicast,
        nexthop: nexthop.map(str::parse::<IpAddr>).transpose()?,
        ifindex: Some(ifindex),
        onlink: false,
        protocol: PROTOCOL,
        mtu: None,
    })
}

fn wan_ifindex(snapshot: &Snapshot) -> Result<u32> {
    Ok(snapshot.link("wan0").context("no wan0")?.ifindex)
}
