//! The uplinks that routes and ip rules lead to.

use std::net::IpAddr;

use super::facts::{DefaultRoute, Facts, IpRule};
use crate::import::{
    model::{Member, Policy},
    note::Lines,
};

/// Returns the name by which an uplink is known before it has one.
pub(super) fn id_of(
    facts: &Facts,
    gateway: Option<IpAddr>,
    device: Option<&str>,
) -> Option<String> {
    let shared = |device: &str| {
        let mut gateways: Vec<IpAddr> = facts
            .defaults
            .iter()
            .filter(|route| route.device.as_deref() == Some(device))
            .filter_map(|route| route.gateway)
            // An uplink has one router of each family.
            .filter(|other| gateway.is_none_or(|gateway| gateway.is_ipv6() == other.is_ipv6()))
            .collect();
        gateways.sort_unstable();
        gateways.dedup();
        gateways.len() > 1
    };
    match (device, gateway) {
        (Some(device), Some(gateway)) if shared(device) => {
            Some(format!("{device}-{gateway}").replace(['.', ':'], "-"))
        }
        (Some(device), _) => Some(device.to_owned()),
        (None, Some(gateway)) => {
            let same =
                |route: &&DefaultRoute| route.gateway == Some(gateway) && route.device.is_some();
            match facts.defaults.iter().find(same) {
                Some(route) => id_of(facts, Some(gateway), route.device.as_deref()),
                None => Some(format!("gw-{gateway}").replace(['.', ':'], "-")),
            }
        }
        (None, None) => None,
    }
}

/// Returns the uplinks of the default route that an ip rule leads to; `None` for that of the main
/// table.
///
/// # Errors
/// The reason why there are none.
pub(super) fn policy_of(facts: &Facts, rule: &IpRule) -> Result<Option<Policy>, String> {
    if rule.table.is_empty() {
        return Ok(None);
    }
    let same = |route: &&DefaultRoute| route.table == rule.table && route.ipv6 == rule.ipv6;
    let member = |route: &DefaultRoute| {
        Some(Member {
            uplink: id_of(facts, route.gateway, route.device.as_deref())?,
            tier: 1,
            weight: route.weight.unwrap_or(1),
            lines: route.lines.clone(),
        })
    };
    let members: Vec<Member> = facts.defaults.iter().filter(same).filter_map(member).collect();
    if members.is_empty() {
        let family = if rule.ipv6 { " of IPv6" } else { "" };
        let table = &rule.table;
        return Err(format!("the script makes no default route{family} in the table `{table}`"));
    }
    let lines: Lines = rule.lines.clone();
    Ok(Some(Policy { members, lines, ..Policy::default() }))
}
