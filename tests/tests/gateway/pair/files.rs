//! The files of `examples/ha`, and what an administrator changes in them.

use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{LAN_INTERFACE, Lab, StandbyGateway};

use crate::shipped::Replacements;

pub(super) const KEEPALIVED: &str = include_str!("../../../../examples/ha/keepalived.conf");
pub(super) const NOTIFY: &str = include_str!("../../../../examples/ha/notify.sh");
pub(super) const CONNTRACKD: &str = include_str!("../../../../examples/ha/conntrackd.conf");
const LINKBAL: &str = include_str!("../../../../examples/ha/linkbal.toml");
const FIREWALL: &str = include_str!("../../../../examples/ha/nftables.conf");

/// Returns what is the same at both gateways.
pub(super) fn replacements(lab: &Lab) -> Replacements {
    let mut all = Replacements::default();
    all.add("eth0", LAN_INTERFACE);
    all.add("eth3", StandbyGateway::sync_interface());
    all.add("192.168.1.1", plan::lan_gateway(Family::V4).to_string());
    all.add("fd00:1::1", plan::lan_gateway(Family::V6).to_string());
    let uplinks = [("eth1", "203.0.113", "2001:db8:a:"), ("eth2", "198.51.100", "2001:db8:b:")];
    for (index, (interface, ipv4, ipv6)) in uplinks.into_iter().enumerate() {
        all.add(interface, &lab.uplinks[index].spec.interface);
        let families = [(Family::V4, format!("{ipv4}.")), (Family::V6, format!("{ipv6}:"))];
        for (family, prefix) in families {
            all.add(format!("{prefix}1"), plan::nexthop(family, index).to_string());
            all.add(format!("{prefix}2"), plan::uplink_address(family, index).to_string());
        }
    }
    all
}

/// Returns linkbal's configuration for the lab, with this path of the seed.
pub(super) fn linkbal(lab: &Lab, seed: &str) -> String {
    let mut replacements = replacements(lab);
    let seed_file = "/etc/linkbal/hash_seed";
    let sync = "192.168.255.0";
    replacements.add(sync, sync);
    replacements.add(seed_file, seed);
    let targets = [
        ("1.1.1.1", Family::V4, 0),
        ("8.8.8.8", Family::V4, 1),
        ("2606:4700:4700::1111", Family::V6, 0),
        ("2001:4860:4860::8888", Family::V6, 1),
    ];
    for (target, family, server) in targets {
        replacements.add(target, plan::server(family, server).to_string());
    }
    let mut wanted = vec!["eth0", "eth1", "eth2", sync, seed_file];
    wanted.extend(targets.map(|(target, ..)| target));
    wanted.extend(["203.0.113.1", "203.0.113.2", "2001:db8:a::1", "2001:db8:a::2"]);
    wanted.extend(["198.51.100.1", "198.51.100.2", "2001:db8:b::1", "2001:db8:b::2"]);
    replacements.apply(LINKBAL, &wanted)
}

/// Returns the part of the firewall for the lab.
pub(super) fn firewall(lab: &Lab) -> String {
    replacements(lab).apply(FIREWALL, &["eth1", "eth2"])
}
