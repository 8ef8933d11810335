//! The difference between changes that repair what others undid and all other changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::super::{
    desired::Desired,
    network::{Change, Route, Snapshot},
    refusal::tracker::RefusalTracker,
};

/// The last state: what was last asked of the kernel, and the observation of that time.
pub(in crate::engine) struct LastState<'a> {
    pub(in crate::engine) requested: Option<&'a Desired>,
    pub(in crate::engine) snapshot: Option<&'a Snapshot>,
    /// The changes that the kernel refused.
    pub(in crate::engine) refusals: &'a RefusalTracker,
    /// Set if linkbal's routes were reported to be deleted: the kernel itself may do that, too.
    pub(in crate::engine) routes_changed: bool,
}

impl LastState<'_> {
    /// Returns whether a change only leads back to what was in force.
    pub(in crate::engine) fn is_repair(
        &self,
        change: &Change,
        desired: &Desired,
        now: &Snapshot,
        recently_down: &BTreeMap<u32, Duration>,
    ) -> bool {
        let (Some(requested), Some(before)) = (self.requested, self.snapshot) else { return false };
        if self.refusals.is_refused(&change.into()) {
            return false;
        }
        match change {
            Change::Bond(_) => false,
            Change::AddRule(rule) => requested.rules.contains(rule),
            Change::ReplaceRoute(route) => {
                self.routes_changed
                    && requested.routes.contains(route)
                    && is_steady(route, before, now, recently_down)
            }
            Change::ReplaceNft(_) => before.nft_current && requested.nft == desired.nft,
            Change::SetFlowtable(_) => {
                !before.flowtable_stale && requested.flowtable == desired.flowtable
            }
            Change::SetSysctl(path, value) => {
                before.sysctls.get(path) == Some(value) && is_same_interface(path, before, now)
            }
            Change::DeleteRule(rule) => {
                !requested.rules.contains(rule) && !before.rules.contains(rule)
            }
            Change::DeleteRoute(route) => {
                !requested.routes.contains(route) && !before.routes.contains(route)
            }
        }
    }
}

/// Returns whether nothing happened to the interface of a route that would make the kernel drop it.
fn is_steady(
    route: &Route,
    before: &Snapshot,
    now: &Snapshot,
    recently_down: &BTreeMap<u32, Duration>,
) -> bool {
    let Some(ifindex) = route.ifindex else { return true };
    let addresses = |snapshot: &Snapshot| -> BTreeSet<_> {
        let own = snapshot.addresses.iter().filter(|address| address.ifindex == ifindex);
        own.copied().collect()
    };
    let link = |snapshot: &Snapshot| snapshot.links.get(&ifindex).map(|link| link.up);
    !recently_down.contains_key(&ifindex)
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
