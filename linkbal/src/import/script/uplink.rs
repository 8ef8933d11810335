//! The uplinks that routes and ip rules lead to.

use std::net::IpAddr;

use super::facts::{DefaultRoute, Facts};

/// Returns the name by which an uplink is known before it has one.
pub(super) fn id_of(
    facts: &Facts,
    gateway: Option<IpAddr>,
    device: Option<&str>,
) -> Option<String> {
    match (device, gateway) {
        (Some(device), Some(one)) if is_shared(facts, device, gateway) => {
            Some(format!("{device}-{one}").replace(['.', ':'], "-"))
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

/// Returns whether a device has several gateways, of the family of `gateway` if that is given: an uplink
/// has one router of each family.
pub(super) fn is_shared(facts: &Facts, device: &str, gateway: Option<IpAddr>) -> bool {
    let of_device = facts.defaults.iter().filter(|route| route.device.as_deref() == Some(device));
    let gateways: Vec<IpAddr> = of_device.filter_map(|route| route.gateway).collect();
    let several = |ipv4: bool| {
        let mut of_family = gateways.iter().filter(|one| one.is_ipv4() == ipv4);
        let first = of_family.next();
        of_family.any(|other| Some(other) != first)
    };
    match gateway {
        Some(gateway) => several(gateway.is_ipv4()),
        None => several(true) || several(false),
    }
}
