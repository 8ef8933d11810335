//! Hosts that begin more than their quota: they are reported by name.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use anyhow::Result;
use linkbal_common::{
    counter::Counter,
    quota::{Quota, WINDOW_S, address},
};

use super::{Daemon, warn_of};
use crate::{
    api::status::LimitedHost,
    engine::{Host, Report},
};

/// Time between two polls.
const INTERVAL: Duration = Duration::from_secs(2);

/// Maximum number of hosts that are reported: a flood with spoofed addresses has many.
const MAX_REPORTED: usize = 8;

/// Hosts of which something was not stored in the present window.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    due: Duration,
    /// Value of the counter at the last check.
    refused: u64,
    limited: BTreeMap<IpAddr, Quota>,
}

impl Hosts {
    /// Returns the reported hosts, for the status.
    pub(super) fn limited(&self) -> Vec<LimitedHost> {
        let each = self.limited.iter().map(|(host, quota)| LimitedHost {
            host: name(*host),
            flows: quota.flows,
            sessions: quota.sessions,
            not_stored: quota.refused,
        });
        each.collect()
    }
}

/// Formats a host: for IPv4 its address, for IPv6 its /64 network.
fn name(host: IpAddr) -> String {
    if host.is_ipv4() { host.to_string() } else { format!("{host}/64") }
}

/// Returns the hosts that are limited now and are to be reported.
fn limited(quotas: Vec<(u64, Quota)>, now_s: u32) -> BTreeMap<IpAddr, Quota> {
    let recent = |quota: &Quota| now_s.wrapping_sub(quota.since_s) < WINDOW_S;
    let limited = quotas.into_iter().filter(|(_, quota)| quota.refused > 0 && recent(quota));
    let named = limited.filter_map(|(host, quota)| Some((address(host)?, quota)));
    let mut named: Vec<_> = named.collect();
    named.sort_by_key(|(_, quota)| std::cmp::Reverse(quota.refused));
    named.into_iter().take(MAX_REPORTED).collect()
}

impl Daemon {
    /// Checks which hosts begin more than their quota, if the datapath has counted any since, or
    /// some were limited before.
    pub(super) fn poll_hosts(&mut self, now: Duration) {
        if self.hosts.due > now {
            return;
        }
        self.hosts.due = now + INTERVAL;
        let found = self.limited_hosts();
        match found {
            Ok(Some(limited)) => self.report_hosts(limited),
            Ok(None) => {}
            Err(error) => warn_of(Err(error)),
        }
    }

    fn limited_hosts(&mut self) -> Result<Option<BTreeMap<IpAddr, Quota>>> {
        let refused = self.datapath.counter(Counter::HostLimited)?;
        if refused == self.hosts.refused && self.hosts.limited.is_empty() {
            return Ok(None);
        }
        self.hosts.refused = refused;
        let now_s = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC_COARSE)?.tv_sec();
        Ok(Some(limited(self.datapath.quotas()?, now_s as u32)))
    }

    fn report_hosts(&mut self, limited: BTreeMap<IpAddr, Quota>) {
        let before = std::mem::replace(&mut self.hosts.limited, limited);
        let now = &self.hosts.limited;
        let new = now.iter().filter(|(host, _)| !before.contains_key(host));
        let stored = |quota: &Quota| Host { flows: quota.flows, sessions: quota.sessions };
        let new = new.map(|(host, quota)| (*host, Some(stored(quota))));
        let gone = before.keys().filter(|host| !now.contains_key(host)).map(|host| (*host, None));
        let reports: Vec<Report> = new
            .chain(gone)
            .map(|(host, limited)| Report::Host { host: name(host), limited })
            .collect();
        reports.iter().for_each(|report| self.report(report));
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use linkbal_common::{
        flow::FlowKey,
        quota::{ALL, host},
        uplink::Family,
    };

    use super::*;

    #[test]
    fn who_was_limited_lately_is_named_and_all_together_are_nobody() {
        let of = |octet: u8| {
            let word = u32::from_ne_bytes([10, 0, 0, octet]);
            let source = [word, 0, 0, 0];
            host(&FlowKey { source, family: Family::Ipv4 as u8, ..FlowKey::default() })
        };
        let quota = |since_s, refused| Quota { since_s, refused, ..Quota::default() };
        let quotas = vec![
            (of(1), quota(1000, 5)),
            (of(2), quota(1000, 0)),
            (of(3), quota(1100 - WINDOW_S, 7)),
            (ALL, quota(1000, 9)),
        ];
        let named = limited(quotas, 1100);
        assert_eq!(Vec::from_iter(named.into_keys()), [IpAddr::from(Ipv4Addr::new(10, 0, 0, 1))]);
        assert_eq!(name("fd77:0:0:1::".parse().expect("an address")), "fd77:0:0:1::/64");
    }
}
