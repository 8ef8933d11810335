//! The changes that lead from the observed to the desired state.

use std::collections::BTreeSet;

use super::{
    bond,
    desired::Desired,
    network::{Change, IpRule, PROTOCOL, Route, Snapshot},
};

/// Computes the changes, in an order that never leaves a gap: bonds, sysctls that are given back, the
/// nft table, routes and ip rules that are added, sysctls, the flowtable, deletions. The kernel
/// validates sources again before the table no longer does. Forwarding begins when the translation of addresses is
/// in place, or a first packet would be tracked without it for as long as its connection lives.
/// Only routes and rules with linkbal's protocol number are ever deleted.
pub fn diff(desired: &Desired, observed: &Snapshot) -> Vec<Change> {
    let ours = |route: &&Route| route.protocol == PROTOCOL;
    let routes: BTreeSet<Route> = observed.routes.iter().filter(ours).cloned().collect();
    let ours = |rule: &&IpRule| rule.protocol == PROTOCOL;
    let rules: BTreeSet<IpRule> = observed.rules.iter().filter(ours).cloned().collect();

    let bonding = observed.bonding.as_ref();
    let bonds = bonding.map(|bonding| bond::plan(&desired.bonds, bonding)).unwrap_or_default();
    let mut changes: Vec<Change> = bonds.into_iter().map(Change::Bond).collect();
    let given_back = desired.given_back.iter();
    changes.extend(given_back.map(|(path, value)| Change::SetSysctl(path.clone(), value.clone())));
    if !observed.nft_current {
        changes.push(Change::ReplaceNft(desired.nft.clone()));
    }
    let missing = desired.routes.difference(&routes).cloned();
    changes.extend(missing.map(Change::ReplaceRoute));
    let missing = desired.rules.difference(&rules);
    let missing = missing.filter(|rule| !stands(observed, rule)).cloned();
    changes.extend(missing.map(Change::AddRule));
    let sysctls = desired.sysctls.iter();
    let wrong = sysctls.filter(|(path, value)| observed.sysctls.get(path) != Some(value));
    changes.extend(wrong.map(|(path, value)| Change::SetSysctl(path.clone(), value.clone())));
    // Last of what is added: connections are added to it with the routes that they have.
    if observed.flowtable_stale {
        changes.push(Change::SetFlowtable(desired.flowtable.clone()));
    }
    let surplus = rules.difference(&desired.rules);
    // The deletion of a rule with more selectors could hit ours, which has fewer.
    let surplus = surplus.filter(|rule| rule.more.is_empty()).cloned();
    changes.extend(surplus.map(Change::DeleteRule));
    let surplus = routes.difference(&desired.routes);
    changes.extend(
        surplus.filter(|route| !replaced(desired, route)).cloned().map(Change::DeleteRoute),
    );
    changes
}

/// Returns whether others have added the same rule: the kernel takes no second one.
fn stands(observed: &Snapshot, rule: &IpRule) -> bool {
    observed.rules.iter().any(|other| IpRule { protocol: PROTOCOL, ..other.clone() } == *rule)
}

/// Returns whether a route was replaced by one with its table, destination and metric.
fn replaced(desired: &Desired, gone: &Route) -> bool {
    let key = |route: &Route| (route.table, route.destination, route.metric);
    desired.routes.iter().any(|route| key(route) == key(gone))
}

/// Puts changes into a snapshot as if the kernel had made them, so that they are requested once.
/// The next observation shows their real outcome.
pub fn assume(snapshot: &mut Snapshot, changes: &[Change]) {
    for change in changes {
        match change {
            Change::Bond(change) => {
                snapshot.bonding.iter_mut().for_each(|bonding| bonding.apply(change));
            }
            Change::SetSysctl(path, value) => {
                set_sysctl(snapshot, path, value);
            }
            Change::ReplaceRoute(route) => {
                let key = |route: &Route| (route.table, route.destination, route.metric);
                snapshot.routes.retain(|known| key(known) != key(route));
                snapshot.routes.push(route.clone());
            }
            Change::AddRule(rule) => snapshot.rules.push(rule.clone()),
            Change::ReplaceNft(_) => snapshot.nft_current = true,
            Change::SetFlowtable(_) => snapshot.flowtable_stale = false,
            Change::DeleteRule(rule) => snapshot.rules.retain(|known| known != rule),
            Change::DeleteRoute(route) => snapshot.routes.retain(|known| known != route),
        }
    }
}

fn set_sysctl(snapshot: &mut Snapshot, path: &str, value: &str) {
    let Some(present) = snapshot.sysctls.insert(path.into(), value.into()) else { return };
    let before = snapshot.sysctls_before.entry(path.into()).or_insert(present);
    if before == value {
        // It is linkbal's no more.
        snapshot.sysctls_before.remove(path);
        snapshot.sysctls_set.remove(path);
    } else {
        snapshot.sysctls_set.insert(path.into(), value.into());
    }
}
