//! Networks and addresses that two interfaces have, and an MTU that none has.

use std::{collections::BTreeSet, net::Ipv4Addr};

use ipnet::IpNet;
use linkbal_common::uplink::Family;

use super::{MachineFacts, NeighbourQuestion, of_uplink, overlap};
use crate::{
    config::{Config, Finding, Place, Severity, Uplink},
    engine::kernel::{
        lan,
        network::{Address, Link, Snapshot},
        nexthop,
    },
};

/// Returns the questions whether other hosts have this machine's addresses, as RFC 5227 asks them.
/// Where two interfaces are in one network, each would answer for the other.
pub fn claims(config: &Config, snapshot: &Snapshot) -> Vec<NeighbourQuestion> {
    let uplinks = config.uplinks.iter().filter_map(|uplink| snapshot.link(&uplink.interface));
    let links = uplinks.chain(lan::present(config, snapshot));
    let links = links.filter(|link| {
        link.up && link.carrier && link.ethernet && !link.point_to_point && !link.port
    });
    let own = |link: &Link| {
        let ifindex = link.ifindex;
        snapshot.addresses.iter().filter(move |own| own.ifindex == ifindex && own.address.is_ipv4())
    };
    let alone = |own: &&Address| {
        let network = IpNet::new(own.address, own.prefix_length).ok();
        let mut others = snapshot.addresses.iter().filter(|other| other.ifindex != own.ifindex);
        !others.any(|other| network.is_some_and(|network| network.contains(&other.address)))
    };
    let each = links.flat_map(|link| own(link).filter(alone));
    let questions = each.map(|own| NeighbourQuestion {
        ifindex: own.ifindex,
        gateway: own.address,
        local: Ipv4Addr::UNSPECIFIED.into(),
    });
    let questions: BTreeSet<NeighbourQuestion> = questions.collect();
    questions.into_iter().collect()
}

/// Finds addresses that another host has, too.
fn find_claimed(config: &Config, facts: &MachineFacts, found: &mut Vec<Finding>) {
    let claimed = facts.claimed.iter().filter(|(_, answered)| **answered);
    for ((ifindex, address), _) in claimed {
        let name = facts.name(*ifindex);
        let uplink = config.uplinks.iter().find(|uplink| uplink.interface == name);
        let place = match uplink {
            Some(uplink) => of_uplink(uplink, "interface"),
            None => Place::key(&["lan", "interfaces"]).of(&name),
        };
        let message = format!("another host on {name} has this machine's address {address}");
        let help = format!(
            "give one of them another address: `arping -D -I {name} {address}` shows the other one"
        );
        found.push(Finding::new(Severity::Error, place, message, help));
    }
}

/// Finds networks that overlap, addresses that are there twice, and an MTU beyond the device's.
pub(super) fn find(config: &Config, facts: &MachineFacts, found: &mut Vec<Finding>) {
    find_claimed(config, facts, found);
    for (at, uplink) in config.uplinks.iter().enumerate() {
        let Some(link) = facts.snapshot.link(&uplink.interface) else { continue };
        find_mtu(uplink, link, found);
        for lan in lan::present(config, &facts.snapshot) {
            if lan.ifindex != link.ifindex {
                found.extend(with_lan(facts, uplink, link, lan));
            }
        }
        for other in config.uplinks.iter().take(at) {
            if let Some(first) = facts.snapshot.link(&other.interface)
                && first.ifindex != link.ifindex
            {
                found.extend(with_uplink(facts, (uplink, link), (other, first)));
            }
        }
    }
}

/// Returns the first pair of networks of two interfaces that overlap.
fn common(facts: &MachineFacts, a: &Link, b: &Link) -> Option<(IpNet, IpNet)> {
    let of_b: BTreeSet<IpNet> = facts.networks(b).map(|(_, network)| network).collect();
    let pairs = facts.networks(a).flat_map(|(_, a)| of_b.iter().map(move |b| (a, *b)));
    // A single address of a point-to-point line is no network.
    let mut pairs = pairs.filter(|(a, b)| {
        a.prefix_len() < a.max_prefix_len() && b.prefix_len() < b.max_prefix_len()
    });
    pairs.find(|(a, b)| overlap(a, b))
}

/// Returns an address that two interfaces have.
fn twice(facts: &MachineFacts, a: &Link, b: &Link) -> Option<std::net::IpAddr> {
    let of_b: BTreeSet<_> = facts.networks(b).map(|(own, _)| own.address).collect();
    facts.networks(a).map(|(own, _)| own.address).find(|address| of_b.contains(address))
}

fn with_lan(facts: &MachineFacts, uplink: &Uplink, link: &Link, lan: &Link) -> Option<Finding> {
    let place = Place::key(&["lan", "interfaces"]).of(&lan.name);
    let (a, b) = (&lan.name, &link.name);
    if let Some(address) = twice(facts, link, lan) {
        let message =
            format!("address {address} is on {a} of the LAN and on {b} of uplink {}", uplink.name);
        let help = format!("delete one of them: `ip address delete {address} dev {a}`");
        return Some(Finding::new(Severity::Error, place, message, help));
    }
    let (theirs, ours) = common(facts, link, lan)?;
    let message = format!(
        "the network {ours} of the LAN, on {a}, overlaps {theirs} of uplink {}, on {b}",
        uplink.name
    );
    let help = "give the LAN, or the provider's router, another network, like 192.168.77.0/24: what \
                is in both is reached by one of them alone";
    Some(Finding::new(Severity::Error, place, message, help))
}

fn with_uplink(
    facts: &MachineFacts,
    (uplink, link): (&Uplink, &Link),
    (other, first): (&Uplink, &Link),
) -> Option<Finding> {
    let place = of_uplink(uplink, "interface");
    let (a, b) = (&other.name, &uplink.name);
    let help = "give the router of one of them another network; connections of the LAN are kept \
                apart, but what this machine sends by unconnected sockets uses the best of them";
    if let Some(address) = twice(facts, link, first) {
        let message = format!(
            "uplinks {a} and {b} have the same address {address}, on {} and {}",
            first.name, link.name
        );
        return Some(Finding::new(Severity::Warning, place, message, help));
    }
    let (network, _) = common(facts, link, first)?;
    let message = format!(
        "uplinks {a} and {b} are in the same network {network}, on {} and {}",
        first.name, link.name
    );
    Some(Finding::new(Severity::Hint, place, message, help))
}

/// Reports an MTU that the device cannot carry.
fn find_mtu(uplink: &Uplink, link: &Link, found: &mut Vec<Finding>) {
    let device = nexthop::link_mtu(link, Family::Ipv4);
    let Some((wanted, device)) = uplink.mtu.zip(device).filter(|(wanted, device)| wanted > device)
    else {
        return;
    };
    let message = format!("mtu = {wanted} is more than {} carries: {device} bytes", link.name);
    let help = format!(
        "write mtu = {device} or leave it out; or `ip link set {} mtu {wanted}`",
        link.name
    );
    found.push(Finding::new(Severity::Warning, of_uplink(uplink, "mtu"), message, help));
}
