//! The files of `examples/ha`, and what an administrator changes in them.

use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{LAN_INTERFACE, Lab, StandbyGateway};

use crate::shipped::Replacements;

pub(super) const KEEPALIVED: &str = include_str!("../../../../examples/ha/keepalived.conf");
pub(super) const NOTIFY: &str = include_str!("../../../../examples/ha/notify.sh");
pub(super) const CONNTRACKD: &str = include_str!("../../../../examples/ha/conntrackd.conf");
pub(super) const LINKBAL: &str = include_str!("../../../../examples/ha/linkbal.toml");
pub(super) const FIREWALL: &str = include_str!("../../../../examples/ha/nftables.conf");

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
