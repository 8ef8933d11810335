//! The difference between changes that repair what others undid and all other changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    super::{
        desired::Desired,
        network::{Change, Route, Snapshot},
    },
    name,
};

/// The state before: what was last asked of the kernel, and the observation of that time.
pub(in super::super) struct Before<'a> {
    pub(in super::super) asked: Option<&'a Desired>,
    pub(in super::super) snapshot: Option<&'a Snapshot>,
    /// The changes that the kernel refused, by name, with the reason.
    pub(in super::super) refused: &'a BTreeMap<String, String>,
    /// Set if linkbal's routes were heard to be deleted: the kernel itself may do that, too.
    pub(in super::super) routes_touched: bool,
}

impl Before<'_> {
    /// Returns whether a change only leads back to what was in force.
    pub(super) fn is_repair(
        &self,
        change: &Change,
        desired: &Desired,
        now: &Snapshot,
        fallen: &BTreeMap<u32, Duration>,
    ) -> bool {
        let (Some(asked), Some(before)) = (self.asked, self.snapshot) else { return false };
        if self.refused.contains_key(&name(change)) {
            return false;
        }
        match change {
            Change::Bond(_) => false,
            Change::AddRule(rule) => asked.rules.contains(rule),
            Change::ReplaceRoute(route) => {
                self.routes_touched
                    && asked.routes.contains(route)
                    && is_steady(route, before, now, fallen)
            }
            Change::ReplaceNft(_) => before.nft_current && asked.nft == desired.nft,
            Change::SetSysctl(path, value) => {
                before.sysctls.get(path) == Some(value) && is_same_interface(path, before, now)
            }
            Change::DeleteRule(rule) => !asked.rules.contains(rule) && !before.rules.contains(rule),
            Change::DeleteRoute(route) => {
                !asked.routes.contains(route) && !before.routes.contains(route)
            }
        }
    }
}

/// Returns whether nothing happened to the interface of a route that would make the kernel drop it.
fn is_steady(
    route: &Route,
    before: &Snapshot,
    now: &Snapshot,
    fallen: &BTreeMap<u32, Duration>,
) -> bool {
    let Some(ifindex) = route.ifindex else { return true };
    let addresses = |snapshot: &Snapshot| -> BTreeSet<_> {
        let own = snapshot.addresses.iter().filter(|address| address.ifindex == ifindex);
        own.copied().collect()
    };
    let link = |snapshot: &Snapshot| snapshot.links.get(&ifindex).map(|link| link.up);
    !fallen.contains_key(&ifindex)
        && link(before) == link(now)
        && addresses(before) == addresses(now)
}

/// Returns whether a sysctl is that of the same interface as before: those of a new interface begin
/// anew.
fn is_same_interface(path: &str, before: &Snapshot, now: &Snapshot) -> bool {
    let Some(name) = path.split('/').nth(3) else { return true };
    let index = |snapshot: &Snapshot| snapshot.link(name).map(|link| link.ifindex);
    index(before) == index(now)
}
