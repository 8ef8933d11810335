//! Programs that choose a device.

use std::collections::BTreeMap;

use linkbal_common::{
    mark::MarkMask,
    uplink::{Family, UpMask},
};

use super::{
    Indexed, PRIORITY_DEVICE, PRIORITY_SHARED_DEVICE, is_bare, nexthop, preference, rule,
    shares_interface, table,
};
use crate::{
    config::Config,
    engine::network::{IpRule, Snapshot},
};

/// What a program sends by the device of an uplink (`ping -I`, `curl --interface`) goes by that
/// uplink: the main table may have no default route there. On a device of several it goes by the
/// best one, unless its source or its mark says otherwise.
///
/// The rule of a device that is an uplink's alone comes before those of sources: of a datagram
/// whose device is in a control message (`IP_PKTINFO`), the programs for own sockets see nothing,
/// and give it another uplink's address, which is then translated.
pub(super) fn device_rules(
    config: &Config,
    uplinks: &[Indexed],
    snapshot: &Snapshot,
    up: UpMask,
    family: Family,
) -> Vec<IpRule> {
    let mut best: BTreeMap<&str, &Indexed> = BTreeMap::new();
    for indexed in uplinks.iter().filter(|indexed| indexed.uplink.carries(family)) {
        let known = best.entry(&indexed.uplink.interface).or_insert(indexed);
        if key(indexed, snapshot, up, family) < key(known, snapshot, up, family) {
            *known = indexed;
        }
    }
    let mask = MarkMask(config.kernel.fwmark_mask);
    best.into_iter()
        .map(|(interface, indexed)| {
            let priority = match shares_interface(uplinks, indexed) {
                true => PRIORITY_SHARED_DEVICE + indexed.index,
                false => PRIORITY_DEVICE,
            };
            IpRule {
                device: Some(interface.to_owned()),
                // A mark says more: probes have both.
                fwmark: Some((0, mask.0)),
                table: table(config, indexed),
                ..rule(config, family, priority)
            }
        })
        .collect()
}

/// The least is the best uplink of a device; one without a way out is worse than any other.
fn key<'a>(
    indexed: &'a Indexed,
    snapshot: &Snapshot,
    up: UpMask,
    family: Family,
) -> (bool, impl Ord + use<'a>) {
    let uplink = &indexed.uplink;
    let closed = nexthop(snapshot, uplink, family).is_err() || is_bare(snapshot, uplink, family);
    (closed, preference(indexed, up, family))
}
