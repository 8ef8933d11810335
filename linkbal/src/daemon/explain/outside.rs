//! Routes, rules and policies of others on the way of a flow, as the kernel reports them.

use std::{collections::BTreeMap, io, net::IpAddr};

use linkbal_common::mark::MarkMask;

use super::Daemon;
use crate::{
    api::explain::{Decision, DecisionOutcome, FlowQuestion},
    engine::kernel::network::{Link, PROTOCOL},
    sys::{
        ipsec::{self, Leaving},
        netlink::{
            Netlink,
            lookup::{FoundRoute, Lookup},
        },
    },
};

/// Questions to the kernel.
pub(super) struct Outside {
    /// The look-ups, and the interface and the name of the uplink that each should lead to.
    lookups: Vec<(Lookup, u32, String)>,
    /// The packet, as IPsec policies see it.
    leaving: Leaving,
    /// Names of interfaces.
    links: BTreeMap<u32, String>,
    /// ip rules of others that come before linkbal's.
    rules: Vec<String>,
    /// Settings of others that conflict with linkbal, which may divert it in a way that a look-up does not
    /// tell.
    conflicts: Vec<String>,
}

impl Daemon {
    /// Collects what is to be asked for a decision.
    pub(super) fn outside(
        &self,
        question: &FlowQuestion,
        link: Option<&Link>,
        decision: &Decision,
    ) -> Outside {
        let snapshot = self.engine.snapshot();
        let links: BTreeMap<u32, String> = snapshot
            .into_iter()
            .flat_map(|snapshot| snapshot.links.values())
            .map(|link| (link.ifindex, link.name.clone()))
            .collect();
        let is_ipv4 = question.destination.is_ipv4();
        let first = self.config.kernel.rule_priority;
        let before = snapshot.into_iter().flat_map(|snapshot| &snapshot.rules).filter(|rule| {
            let of_family = (rule.family == linkbal_common::uplink::Family::Ipv4) == is_ipv4;
            of_family && rule.protocol != PROTOCOL && rule.priority < first && rule.priority != 0
        });
        let rules = before.map(ToString::to_string).collect();
        let chosen = decision.uplink.iter().filter(|_| decision.outcome == DecisionOutcome::Uplink);
        let names = chosen.chain(decision.shares.keys());
        let uplinks = names.filter_map(|name| self.engine.uplinks().by_name(name));
        let lookups = uplinks.filter_map(|uplink| {
            let device = snapshot?.link(&uplink.config.interface)?.ifindex;
            let mask = MarkMask(self.config.kernel.fwmark_mask);
            let lookup = Lookup {
                source: question.source,
                destination: question.destination,
                ifindex: link.map_or(0, |link| link.ifindex),
                fwmark: mask.encode(uplink.index),
                protocol: question.protocol,
                ports: [question.source_port, question.destination_port],
                dscp: question.dscp.unwrap_or(0) & 0x3f,
            };
            Some((lookup, device, uplink.config.name.clone()))
        });
        let lookups = lookups.collect();
        let leaving = Leaving {
            source: question.source,
            destination: question.destination,
            ports: [question.source_port, question.destination_port],
            protocol: question.protocol,
        };
        let conflicts = self.engine.conflicts().iter().filter(|conflict| !conflict.compatible);
        let conflicts =
            conflicts.map(|conflict| format!("it may be diverted: {conflict}")).collect();
        Outside { lookups, leaving, links, rules, conflicts }
    }
}

impl Outside {
    /// Asks the kernel; returns what it says, each in a sentence.
    pub(super) async fn ask(&self) -> Vec<String> {
        let mut said = Vec::new();
        for (lookup, device, uplink) in &self.lookups {
            let found = match Netlink::connect() {
                Ok(netlink) => netlink.route_of(lookup).await,
                Err(error) => Err(io::Error::other(format!("{error:#}"))),
            };
            said.extend(self.judge(found, *device, uplink, lookup.source));
        }
        said.extend(self.conflicts.iter().cloned());
        match ipsec::policy_of(&self.leaving) {
            Ok(what) => said.extend(what),
            Err(error) => tracing::debug!("IPsec is not known: {error}"),
        }
        said
    }

    /// Compares what a look-up found with the interface of the uplink.
    fn judge(
        &self,
        found: io::Result<FoundRoute>,
        device: u32,
        uplink: &str,
        source: IpAddr,
    ) -> Option<String> {
        let rules = match &self.rules[..] {
            [] => String::new(),
            rules => format!("; ip rules before linkbal's: {}", rules.join("; ")),
        };
        match found {
            Ok(found) if found.ifindex == Some(device) => None,
            Ok(found) if found.is_local => {
                Some(format!("the kernel keeps the packet: its destination is local{rules}"))
            }
            Ok(found) => {
                let way = found.ifindex.and_then(|ifindex| self.links.get(&ifindex));
                let way = way.map_or("nowhere", String::as_str);
                let table = found.table;
                Some(format!(
                    "the kernel would send it to {way} (table {table}), though {uplink} is chosen{rules}"
                ))
            }
            Err(error) if error.raw_os_error() == Some(libc::EXDEV) => Some(format!(
                "the kernel drops it: {source} is no valid source at that interface (rp_filter){rules}"
            )),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Some(format!(
                "the kernel drops it: {source} is no valid source at that interface, or a black hole \
                 takes it{rules}"
            )),
            Err(error) => Some(format!("the kernel finds no route by {uplink}: {error}{rules}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diversion_is_told_with_the_ip_rules_that_may_be_its_cause() {
        let outside = Outside {
            lookups: Vec::new(),
            leaving: Leaving {
                source: [10, 0, 0, 1].into(),
                destination: [192, 0, 2, 1].into(),
                ports: [None; 2],
                protocol: 6,
            },
            links: [(7, "vpn0".to_owned())].into(),
            rules: vec!["100: ipv4 lookup 51820".into()],
            conflicts: Vec::new(),
        };
        let source = "10.0.0.1".parse().expect("an address");
        let found =
            |ifindex, table| Ok(FoundRoute { ifindex: Some(ifindex), table, is_local: false });
        assert_eq!(outside.judge(found(3, 2601), 3, "isp-a", source), None);
        let said = outside.judge(found(7, 51_820), 3, "isp-a", source).expect("a diversion");
        assert_eq!(
            said,
            "the kernel would send it to vpn0 (table 51820), though isp-a is chosen; ip rules \
             before linkbal's: 100: ipv4 lookup 51820"
        );
        let refused = Err(io::Error::from_raw_os_error(libc::EXDEV));
        assert!(outside.judge(refused, 3, "isp-a", source).expect("a drop").contains("rp_filter"));
    }
}
