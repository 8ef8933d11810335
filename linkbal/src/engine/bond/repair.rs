//! What of a plan puts right what somebody undid.

use super::{
    super::{
        message::Report,
        network::{Change, Snapshot},
        repair::{Before, Touch, name},
    },
    Bonding, plan,
};

/// Most changes that are named.
const NAMED: usize = 3;

/// Tells of the changes that lead back to what was in force when the kernel was observed `before`.
pub(in super::super) fn repairs(
    changes: &[Change],
    before: &Before<'_>,
    now: &Snapshot,
) -> Option<Report> {
    let (asked, old) = (before.asked?, before.snapshot?.bonding.as_ref()?);
    let now = now.bonding.as_ref()?;
    // What was under way then was not in force, nor what waited for a bond to be made.
    let waited = old.ports.values().any(|port| port.ifindex == 0);
    if waited || !plan(&asked.bonds, old).is_empty() {
        return None;
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
    let undone = undone.map(name).filter(|what| !before.refused.contains_key(what));
    let mut what: Vec<String> = undone.collect();
    let more = what.len().saturating_sub(NAMED);
    what.truncate(NAMED);
    (!what.is_empty()).then_some(Report::Repair { kind: Touch::Bonds, what, more, by: None })
}
