//! Uplinks that cannot be tried, since something of them is missing.

use std::collections::BTreeMap;

use linkbal_common::uplink::Family;

use super::{Complaint, command_in};
use crate::{
    config::{Config, Severity, Uplink},
    engine::{
        health::State,
        kernel::{
            network::{Link, PROTOCOL, Route, RouteKind, Snapshot, TABLE_MAIN, route_command},
            nexthop::{configured_gateway, nexthop},
            unready::Unready,
        },
    },
    per_family::other,
};

/// States of uplinks as the daemon has them, by name and family; those that it does not know of are
/// left out.
pub type States = BTreeMap<(String, Family), State>;

/// Returns what is missing of uplinks, so that there is no way to try them. `states` are those of the
/// daemon, if it runs: what it has as down is told by its reason.
pub fn missing(config: &Config, snapshot: &Snapshot, states: Option<&States>) -> Vec<Complaint> {
    let each = config.uplinks.iter().flat_map(|uplink| Family::ALL.map(|family| (uplink, family)));
    let found = each.filter_map(|(uplink, family)| {
        let unready = nexthop(snapshot, uplink, family).err()?;
        let expected = match states {
            Some(states) => {
                let state = states.get(&(uplink.name.clone(), family));
                state.is_some_and(|state| matches!(state, State::Init | State::Up))
            }
            None => is_expected(snapshot, uplink, family, &unready),
        };
        expected.then(|| complaint(snapshot, uplink, family, &unready))
    });
    found.collect()
}

/// Returns whether an uplink should have a family, as far as the configuration and the kernel tell.
fn is_expected(snapshot: &Snapshot, uplink: &Uplink, family: Family, unready: &Unready) -> bool {
    let alone = family == Family::Ipv4 && nexthop(snapshot, uplink, other(family)).is_err()
        || !uplink.carries(other(family));
    match unready {
        Unready::Off(_) => false,
        // What is nowhere is a mistake of the configuration, and reported as one.
        Unready::Missing(_) | Unready::LinkDown(_) | Unready::NoCarrier(_) => false,
        Unready::NoGateway(..) => former(snapshot, uplink, family).is_some(),
        Unready::NoAddress(..) => alone || configured_gateway(uplink, family).is_some(),
    }
}

fn complaint(snapshot: &Snapshot, uplink: &Uplink, family: Family, unready: &Unready) -> Complaint {
    let what = format!("{} {}: {unready}", uplink.name, family.name());
    let lost = matches!(unready, Unready::NoGateway(..))
        .then(|| former(snapshot, uplink, family))
        .flatten();
    if let Some(route) = lost {
        let gateway = route.nexthop.map_or(String::new(), |gateway| format!(" {gateway}"));
        let advice = format!("the gateway{gateway} was used until then: set its route again");
        let command = route_command(&route, &uplink.interface);
        return Complaint::new(Severity::Error, what, advice, command);
    }
    let advice = unready.remedy().map_or_else(String::new, |remedy| remedy.to_string());
    let command = command_in(&advice);
    Complaint::new(Severity::Error, what, advice, command)
}

/// Returns the default route that an uplink had, as linkbal's own table still has it, with a metric
/// that is free in the main table.
fn former(snapshot: &Snapshot, uplink: &Uplink, family: Family) -> Option<Route> {
    let link: &Link = snapshot.link(&uplink.interface)?;
    let defaults = || {
        let of_family = snapshot.routes.iter().filter(|route| route.kind == RouteKind::Unicast);
        of_family.filter(|route| route.is_default() && route.family() == family)
    };
    let ours = defaults().find(|route| {
        let here = route.ifindex == Some(link.ifindex) && route.protocol == PROTOCOL;
        here && route.nexthop.is_some()
    })?;
    let main = defaults().filter(|route| route.table == TABLE_MAIN);
    let metric = main.map(|route| route.metric.saturating_add(1)).max().unwrap_or_default();
    Some(Route { metric, ..ours.clone() })
}
