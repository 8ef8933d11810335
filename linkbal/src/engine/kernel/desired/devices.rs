//! Rules for programs that choose a device.

use std::collections::BTreeMap;

use linkbal_common::{
    mark::MarkMask,
    uplink::{Family, UpMask},
};

use super::{Indexed, has_held_address_only, preference, rule, shares_interface};
use crate::{
    config::{
        Config,
        kernel_numbers::{PRIORITY_DEVICE, PRIORITY_SHARED_DEVICE},
    },
    engine::kernel::{
        network::{IpRule, Snapshot},
        nexthop::nexthop,
    },
};

/// Returns the rules for packets that a program sends by the device of an uplink (`ping -I`,
/// `curl --interface`). They use that uplink: the main table may have no default route there. On a
/// device of several uplinks they use the best one, unless their source or mark says otherwise.
///
/// The rule of a device that is an uplink's alone comes first. The eBPF programs for local sockets
/// see neither the device in a control message of a datagram (`IP_PKTINFO`), nor the one that is
/// chosen for unicast (`IP_UNICAST_IF`): they give it another uplink's address, which is then
/// translated, or mark.
pub(super) fn device_rules(
    config: &Config,
    uplinks: &[Indexed],
    snapshot: &Snapshot,
    up: UpMask,
    family: Family,
) -> Vec<IpRule> {
    let mut best: BTreeMap<&str, &Indexed> = BTreeMap::new();
    for indexed in uplinks.iter().filter(|indexed| indexed.config.carries(family)) {
        let known = best.entry(&indexed.config.interface).or_insert(indexed);
        if key(uplinks, indexed, snapshot, up, family) < key(uplinks, known, snapshot, up, family) {
            *known = indexed;
        }
    }
    let mask = MarkMask(config.kernel.fwmark_mask);
    best.into_iter()
        .map(|(interface, indexed)| {
            let (priority, fwmark) = match shares_interface(uplinks, indexed) {
                // A mark says more: probes have both.
                true => (PRIORITY_SHARED_DEVICE + indexed.index, Some((0, mask.number()))),
                false => (PRIORITY_DEVICE, None),
            };
            IpRule {
                device: Some(interface.to_owned()),
                fwmark,
                table: config.kernel.table(indexed.index),
                ..rule(config, family, priority)
            }
        })
        .collect()
}

/// Returns the sort key of an uplink; the least is the best one of a device. One without a next hop
/// or an address is worse than any other.
fn key<'a>(
    uplinks: &[Indexed],
    indexed: &'a Indexed,
    snapshot: &Snapshot,
    up: UpMask,
    family: Family,
) -> (bool, impl Ord + use<'a>) {
    let uplink = &indexed.config;
    let closed = nexthop(snapshot, uplink, family).is_err()
        || has_held_address_only(uplinks, indexed, snapshot, family);
    (closed, preference(indexed, up, family))
}
