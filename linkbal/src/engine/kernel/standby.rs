//! Two gateways, of which one has the virtual addresses.
//!
//! keepalived (VRRP) moves addresses between two gateways, and conntrackd carries connections
//! along, marks included. The gateway without the virtual addresses is on standby. Its lines have
//! not failed: none of their flows is ended, reset or deleted, since the connections live on at the
//! partner. The entries of its flow table go out of date, so they are dropped: when the addresses
//! are back, each flow is looked up once by its connection's mark.

use std::net::IpAddr;

use linkbal_common::uplink::{Family, UpMask};

use super::{
    network::Snapshot,
    nexthop::{Nexthop, configured_gateway},
};
use crate::{
    config::Uplink,
    engine::{
        command::Command,
        context::{Context, Output},
    },
};

impl Uplink {
    /// Returns the addresses of a family that move between two gateways.
    pub fn virtual_of(&self, family: Family) -> impl Iterator<Item = &IpAddr> {
        let is_ipv4 = family == Family::Ipv4;
        self.virtual_addresses.iter().filter(move |address| address.is_ipv4() == is_ipv4)
    }
}

/// Returns whether an interface works, and all virtual addresses of its uplink are elsewhere.
pub(in crate::engine) fn is_standby(snapshot: &Snapshot, uplink: &Uplink, family: Family) -> bool {
    let Some(link) = snapshot.link(&uplink.interface).filter(|link| link.up && link.carrier) else {
        return false;
    };
    let is_here = |wanted: &IpAddr| {
        let mut own = snapshot.addresses.iter();
        own.any(|own| own.ifindex == link.ifindex && own.address == *wanted)
    };
    uplink.virtual_of(family).next().is_some() && !uplink.virtual_of(family).any(is_here)
}

/// Returns the next hop for packets once the virtual addresses are here, if the configuration has
/// it: the first packets then find the way.
pub(in crate::engine) fn nexthop(
    snapshot: &Snapshot,
    uplink: &Uplink,
    family: Family,
) -> Option<Nexthop> {
    if !is_standby(snapshot, uplink, family) {
        return None;
    }
    let ifindex = snapshot.link(&uplink.interface)?.ifindex;
    let gateway = configured_gateway(uplink, family)?;
    Some(Nexthop { ifindex, gateway: Some(gateway) })
}

/// Notes which uplinks the partner has, and lets the flow table forget those that were handed over.
pub(in crate::engine) fn update(context: &mut Context, snapshot: &Snapshot, output: &mut Output) {
    for family in Family::ALL {
        let mut handed_over = false;
        for uplink in context.uplinks.iter_mut() {
            let standby = is_standby(snapshot, &uplink.config, family);
            let before = uplink.standby[family].replace(standby);
            handed_over |= standby && before == Some(false);
        }
        if handed_over {
            output.push(Command::ForgetFlows { family });
        }
    }
}

/// Returns the uplinks that the datapath should use: also those that will be up once their address
/// is here. Packets come before we know; no host sends any while this gateway is on standby.
pub(in crate::engine) fn usable(context: &Context) -> UpMask {
    let promised = context.uplinks.mask(|uplink, family| uplink.health[family].is_promised());
    context.up.union(promised)
}
