//! Changes of a plan that repair what others have undone.

use super::{
    super::{
        drift::{LastState, subject::Subject},
        network::{Change, Snapshot},
        refusal::Resource,
    },
    Bonding, plan,
};

/// Returns the resources whose changes restore what was in force at the last observation.
pub(in crate::engine) fn undone(
    changes: &[Change],
    last: &LastState<'_>,
    now: &Snapshot,
) -> Vec<Subject> {
    let old = last.snapshot.and_then(|snapshot| snapshot.bonding.as_ref());
    let (Some(requested), Some(old), Some(now)) = (last.requested, old, now.bonding.as_ref())
    else {
        return Vec::new();
    };
    // Changes that were under way then, or waited for a bond to be created, were not in force.
    let waited = old.ports.values().any(|port| port.ifindex == 0);
    if waited || !plan(&requested.bonds, old).is_empty() {
        return Vec::new();
    }
    // Nothing was undone on an interface that was created anew.
    let index = |bonding: &Bonding, name: &str| bonding.ports.get(name).map(|port| port.ifindex);
    let undone = changes.iter().filter(|change| match change {
        Change::Bond(change) => {
            let of = change.interface();
            !change.is_memory() && index(old, of) == index(now, of)
        }
        _ => false,
    });
    let undone = undone.map(Resource::from).filter(|of| !last.refusals.is_refused(of));
    undone.map(Subject::from).collect()
}
