//! `linkbal health`: whether this gateway can carry packets, for keepalived, FRR and load balancers.

use std::net::IpAddr;

use anyhow::{Result, bail, ensure};
use clap::ValueEnum;
use linkbal_common::uplink::Family;
use nix::{ifaddrs::getifaddrs, sys::socket::SockaddrStorage};

use crate::{
    api::status::{Status, Uplink},
    words::count,
};

/// Families of which the uplinks must be up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Families {
    /// IPv4, or IPv6 if no uplink has IPv4
    Auto,
    /// IPv4
    Ipv4,
    /// IPv6
    Ipv6,
    /// Both IPv4 and IPv6
    Both,
}

impl Families {
    /// Returns the families that decide.
    fn decisive(self, status: &Status) -> &'static [Family] {
        match self {
            Families::Auto if !status.uplinks.iter().any(|uplink| uplink.ipv4.is_some()) => {
                &[Family::Ipv6]
            }
            Families::Auto | Families::Ipv4 => &[Family::Ipv4],
            Families::Ipv6 => &[Family::Ipv6],
            Families::Both => &Family::ALL,
        }
    }
}

/// Conditions that a healthy gateway meets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Needed {
    /// Number of uplinks.
    pub uplinks: usize,
    /// Families of which they must be up.
    pub families: Families,
    /// The LAN's virtual address, if it is here: then those of the uplinks must be, too.
    pub master_of: Option<IpAddr>,
}

/// Returns whether an address is one of this machine, in the network namespace of the calling thread.
pub(super) fn is_own(address: IpAddr) -> bool {
    let mut own = getifaddrs().into_iter().flatten().filter_map(|it| ip_of(&it.address?));
    own.any(|own| own == address)
}

fn ip_of(address: &SockaddrStorage) -> Option<IpAddr> {
    let ipv4 = address.as_sockaddr_in().map(|it| IpAddr::V4(it.ip()));
    ipv4.or_else(|| address.as_sockaddr_in6().map(|it| IpAddr::V6(it.ip())))
}

/// Returns why this gateway can carry packets. An uplink on standby counts: only the virtual addresses
/// are missing, which the master has; but not if this gateway is the master.
///
/// # Errors
///
/// If fewer uplinks than needed can, in one of the families; the error names the others, and why.
pub(super) fn judge(status: &Status, needed: Needed) -> Result<String> {
    ensure!(status.installed, "unhealthy: linkbal is still setting up its routes and programs");
    let decisive = needed.families.decisive(status).iter();
    let judged: Result<Vec<String>> =
        decisive.map(|family| judge_family(status, needed, *family)).collect();
    Ok(format!("healthy: {}\n", judged?.join("; ")))
}

fn judge_family(status: &Status, needed: Needed, family: Family) -> Result<String> {
    let states = || status.uplinks.iter().filter_map(|uplink| uplink.family(family));
    let up = states().filter(|health| health.state.is_up()).count();
    let waiting = states().filter(|health| !health.state.is_up() && health.standby).count();
    let on_standby = if waiting == 0 { String::new() } else { format!(", {waiting} on standby") };
    let (name, uplinks) = (family.name(), count(status.uplinks.len(), "uplink"));
    let counted = format!("{up} of {uplinks} up for {name}{on_standby}");
    let Needed { uplinks: needed, master_of, .. } = needed;
    let excused = if master_of.is_some() { 0 } else { waiting };
    if up.saturating_add(excused) >= needed {
        return Ok(counted);
    }
    let each = status.uplinks.iter();
    let mut reasons: Vec<String> = each.filter_map(|uplink| failing(uplink, family)).collect();
    if let Some(address) = master_of.filter(|_| waiting > 0) {
        reasons.push(format!("{address} is here, but not the virtual addresses of the uplinks"));
    }
    let reasons =
        if reasons.is_empty() { String::new() } else { format!(": {}", reasons.join("; ")) };
    bail!("unhealthy: {counted}, {needed} needed{reasons}")
}

fn failing(uplink: &Uplink, family: Family) -> Option<String> {
    let name = &uplink.name;
    match uplink.family(family) {
        None => Some(format!("{name} has no {}", family.name())),
        Some(health) if health.state.is_up() || health.standby => None,
        Some(health) => Some(format!("{name} is {}, {}", health.state, health.reason)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::status::tests::status;

    fn with(changes: impl Fn(&mut serde_json::Value)) -> Status {
        status(|status| {
            status["installed"] = json!(true);
            changes(status);
        })
    }

    /// Puts every uplink into a state.
    fn all(status: &mut serde_json::Value, families: &[&str], state: &str, standby: bool) {
        for uplink in status["uplinks"].as_array_mut().expect("uplinks") {
            for family in families {
                let up = uplink["ipv4"].clone();
                uplink[family] = up;
                uplink[family]["state"] = json!(state);
                uplink[family]["standby"] = json!(standby);
                uplink[family]["reason"] = json!("no carrier on wan-a");
            }
        }
    }

    const fn needed(uplinks: usize, families: Families) -> Needed {
        Needed { uplinks, families, master_of: None }
    }

    const BOTH: [&str; 2] = ["ipv4", "ipv6"];

    #[test]
    fn so_many_uplinks_must_be_up_or_wait_for_their_addresses() {
        let up = with(|status| all(status, &BOTH, "up", false));
        let said = judge(&up, needed(1, Families::Both)).expect("healthy");
        assert!(said.starts_with("healthy: ") && said.contains("up for ipv6"), "{said}");
        let down = with(|status| all(status, &BOTH, "down", false));
        let error = judge(&down, needed(1, Families::Auto)).expect_err("unhealthy");
        assert!(error.to_string().contains("no carrier on wan-a"), "{error}");
        let standby = with(|status| all(status, &BOTH, "down", true));
        assert!(
            judge(&standby, needed(1, Families::Auto)).expect("healthy").contains("on standby")
        );
        let error = judge(&up, needed(99, Families::Auto)).expect_err("unhealthy").to_string();
        assert!(error.ends_with("99 needed"), "{error}");
    }

    #[test]
    fn a_master_waits_for_no_addresses() {
        let lan = "192.168.1.1".parse().expect("an address");
        let master = Needed { master_of: Some(lan), ..needed(1, Families::Auto) };
        let standby = with(|status| all(status, &BOTH, "down", true));
        let error = judge(&standby, master).expect_err("unhealthy").to_string();
        assert!(error.contains("192.168.1.1 is here, but not the virtual addresses"), "{error}");
        let up = with(|status| all(status, &BOTH, "up", false));
        judge(&up, master).expect("healthy");
        // One uplink that works is enough, as for any other fault.
        let one = with(|status| {
            all(status, &BOTH, "up", false);
            status["uplinks"][0]["ipv4"]["state"] = json!("down");
            status["uplinks"][0]["ipv4"]["standby"] = json!(true);
        });
        judge(&one, master).expect("healthy");
    }

    #[test]
    fn addresses_of_this_machine_are_known() {
        assert!(is_own("127.0.0.1".parse().expect("an address")));
        assert!(!is_own("192.0.2.77".parse().expect("an address")));
    }

    #[test]
    fn a_family_that_works_does_not_hide_one_that_does_not() {
        let only_ipv6 = with(|status| {
            all(status, &["ipv6"], "up", false);
            all(status, &["ipv4"], "down", false);
        });
        assert!(judge(&only_ipv6, needed(1, Families::Auto)).is_err());
        assert!(judge(&only_ipv6, needed(1, Families::Both)).is_err());
        judge(&only_ipv6, needed(1, Families::Ipv6)).expect("healthy");
        // Most networks can live without IPv6, and many have none.
        let only_ipv4 = with(|status| {
            all(status, &["ipv4"], "up", false);
            all(status, &["ipv6"], "down", false);
        });
        judge(&only_ipv4, needed(1, Families::Auto)).expect("healthy");
        assert!(judge(&only_ipv4, needed(1, Families::Both)).is_err());
        let without_ipv4 = with(|status| {
            all(status, &["ipv6"], "up", false);
            for uplink in status["uplinks"].as_array_mut().expect("uplinks") {
                uplink["ipv4"] = json!(null);
            }
        });
        judge(&without_ipv4, needed(1, Families::Auto)).expect("healthy");
    }

    #[test]
    fn a_gateway_that_is_not_set_up_yet_is_unhealthy() {
        let status = with(|status| status["installed"] = json!(false));
        assert!(judge(&status, needed(1, Families::Auto)).is_err());
    }
}
