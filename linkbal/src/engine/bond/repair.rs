//! What of a plan puts right what somebody undid.

use super::{
    super::{
        network::{Change, Snapshot},
        repair::{Before, name},
    },
    Bonding, plan,
};

/// Names the changes that lead back to what was in force when the kernel was observed `before`.
pub(in super::super) fn undone(
    changes: &[Change],
    before: &Before<'_>,
    now: &Snapshot,
) -> Vec<String> {
    let old = before.snapshot.and_then(|snapshot| snapshot.bonding.as_ref());
    let (Some(asked), Some(old), Some(now)) = (before.asked, old, now.bonding.as_ref()) else {
        return Vec::new();
    };
    // What was under way then was not in force, nor what waited for a bond to be made.
    let waited = old.ports.values().any(|port| port.ifindex == 0);
    if waited || !plan(&asked.bonds, old).is_empty() {
        return Vec::new();
    }
    // An interface that was made anew was not undone by anybody.
    let index = |bonding: &Bonding, name: &str| bonding.ports.get(name).map(|port| port.ifindex);
    let undone = changes.iter().filter(|change| match change {
        Change::Bond(change) => {
            let of = change.interface();
            !change.is_memory() && index(old, of) == index(now, of)
        }
        _ => false,
    });
    undone.map(name).filter(|what| !before.refused.contains_key(what)).collect()
}
