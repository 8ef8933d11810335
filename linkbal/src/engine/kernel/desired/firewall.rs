//! The firewall: packets that may come in by an uplink.

use std::collections::BTreeSet;

use ipnet::IpNet;
use linkbal_common::uplink::Family;

use super::{Indexed, segments};
use crate::{
    config::{Config, Inbound},
    engine::kernel::{
        network::{LOOPBACK, Snapshot, forwarding},
        nft_text::{NftFirewall, is_quotable},
    },
};

/// Longest prefix length of routes that lead to the internet.
const WIDE: u8 = 1;

/// Returns the families in which connections from outside reach hosts behind this machine by
/// forwarded ports alone: by default those where nothing was forwarded before linkbal, and no other
/// firewall filters forwarded packets.
pub fn established(config: &Config, snapshot: &Snapshot) -> Vec<Family> {
    let closed = |family: &Family| match config.firewall.inbound {
        Inbound::Established => true,
        Inbound::Open => false,
        Inbound::Auto => opened(snapshot, *family) && !snapshot.filtered.contains(family),
    };
    Family::ALL.into_iter().filter(closed).collect()
}

/// Returns whether linkbal turns forwarding on, or has done so.
fn opened(snapshot: &Snapshot, family: Family) -> bool {
    let path = forwarding(family);
    let is_off = |value: Option<&String>| value.is_some_and(|value| value == "0");
    is_off(snapshot.sysctls.get(path)) || is_off(snapshot.sysctls_before.get(path))
}

/// Returns the firewall's part of the nft table.
pub(super) fn firewall(config: &Config, snapshot: &Snapshot) -> NftFirewall {
    let uplinks: BTreeSet<&str> =
        config.uplinks.iter().map(|uplink| uplink.interface.as_str()).collect();
    let wide: BTreeSet<u32> = snapshot
        .routes
        .iter()
        .filter(|route| route.destination.prefix_len() <= WIDE)
        .filter_map(|route| route.ifindex)
        .collect();
    let wide = snapshot.links.values().filter(|link| {
        let name = link.name.as_str();
        wide.contains(&link.ifindex) && name != LOOPBACK && !uplinks.contains(name)
    });
    NftFirewall {
        established: established(config, snapshot),
        transit: config.firewall.transit,
        wide: wide.map(|link| link.name.clone()).collect(),
    }
}

/// Returns the networks of the interfaces of other uplinks, except those that this one's interface
/// has, too: private networks behind two routers, or one segment.
pub(super) fn foreign_networks(
    uplinks: &[Indexed],
    indexed: &Indexed,
    snapshot: &Snapshot,
) -> Vec<IpNet> {
    let of = |interface: &str| -> Vec<IpNet> {
        let Some(link) = snapshot.link(interface) else { return Vec::new() };
        let own = snapshot.addresses.iter().filter(|address| address.ifindex == link.ifindex);
        let network = own.filter_map(|address| {
            let network = IpNet::new(address.address, address.prefix_length).ok()?;
            let everywhere = match network.trunc() {
                IpNet::V4(_) => false,
                IpNet::V6(network) => network.addr().is_unicast_link_local(),
            };
            (!everywhere).then(|| network.trunc())
        });
        network.collect()
    };
    let interface = &indexed.config.interface;
    let own = of(interface);
    let shared =
        |network: &IpNet| own.iter().any(|own| own.contains(network) || network.contains(own));
    let others = uplinks.iter().map(|other| other.config.interface.as_str());
    let others: BTreeSet<&str> = others.filter(|other| other != interface).collect();
    let others = others.into_iter().flat_map(of);
    others.filter(|network| !shared(network)).collect()
}

/// Returns the interfaces of other uplinks that are not in one segment with that of this one.
pub(super) fn strangers(
    uplinks: &[Indexed],
    indexed: &Indexed,
    snapshot: &Snapshot,
) -> Vec<String> {
    let interface = &indexed.config.interface;
    let others = uplinks.iter().map(|other| &other.config.interface);
    let others: BTreeSet<&String> =
        others.filter(|other| *other != interface && is_quotable(other)).collect();
    let apart = |other: &&String| !segments::is_one(interface, other, uplinks, snapshot);
    others.into_iter().filter(apart).cloned().collect()
}
