//! Checks between sections.

use std::collections::BTreeMap;

use ipnet::IpNet;
use linkbal_common::uplink::Family;
use toml::Spanned;

use super::read_uplink::ReadUplink;
use crate::config::{
    Gateway, OnUp, Uplink,
    diagnostics::problem::{Fault, Span},
    parse::reader::Section,
};

/// Checks that each interface is used for the LAN or for uplinks only, and that uplinks which share
/// one can be told apart.
pub(in crate::config) fn interfaces(
    lan: &[Spanned<String>],
    uplinks: &[ReadUplink],
    root: &Section,
) {
    for (index, uplink) in uplinks.iter().enumerate() {
        let Some(at) = uplink.interface_at.clone() else { continue };
        let interface = &uplink.uplink.interface;
        if let Some(lan) = lan.iter().find(|lan| lan.get_ref() == interface) {
            let message = format!("{interface} is an interface of the LAN and of an uplink");
            let help = format!("take it out of one; VLANs like \"{interface}.2\" can be in both");
            let fault = Fault::new(message, help);
            root.problems().report_related(at.clone(), fault, lan.span(), "of the LAN here");
        }
        for first in &uplinks[..index] {
            report_twins(first, uplink, &at, root);
        }
    }
}

/// Reports two uplinks whose packets would leave by the same interface to the same gateway.
fn report_twins(first: &ReadUplink, second: &ReadUplink, at: &Span, root: &Section) {
    let Some(first_at) = first.interface_at.clone() else { return };
    let (a, b) = (&first.uplink, &second.uplink);
    if a.interface != b.interface || !first.gateways_valid || !second.gateways_valid {
        return;
    }
    if let Some(shared) = shared_gateway(a, b) {
        let message =
            format!("uplinks {} and {} on {} share {shared}", a.name, b.name, a.interface);
        let help = "give each its own gateway, like gateway = \"192.0.2.1\", or its own interface";
        let fault = Fault::new(message, help);
        root.problems().report_related(at.clone(), fault, first_at, "the other one");
    }
}

/// Returns the gateway for which two uplinks on one interface cannot be told apart. Gateways that
/// differ in one family are enough if the other family is left to be found out, as on a line
/// without it.
fn shared_gateway(a: &Uplink, b: &Uplink) -> Option<String> {
    let pairs = Family::ALL.map(|family| (a.gateway[family], b.gateway[family]));
    let address = pairs.iter().find_map(|(a, b)| match a {
        Gateway::Address(address) if a == b => Some(format!("the gateway {address}")),
        _ => None,
    });
    let all_auto = pairs.iter().all(|(a, b)| a == b).then(|| "the gateway \"auto\"".to_owned());
    address.or(all_auto)
}

/// Checks that some uplink of every tier takes flows.
pub(in crate::config) fn tiers(uplinks: &[ReadUplink], root: &Section) {
    let mut tiers: BTreeMap<u32, Vec<(&Uplink, &Span)>> = BTreeMap::new();
    for ReadUplink { uplink, weight_at, .. } in uplinks {
        if let Some(at) = weight_at {
            tiers.entry(uplink.tier).or_default().push((uplink, at));
        }
    }
    for (tier, members) in tiers {
        if members.iter().all(|(uplink, _)| uplink.weight == 0) {
            let names: Vec<_> = members.iter().map(|(uplink, _)| &*uplink.name).collect();
            let message = format!("no uplink of tier {tier} has a weight above 0");
            let help = format!("give a weight of 1 or more to one of: {}", names.join(", "));
            root.problems().report(members[0].1.clone(), Fault::new(message, help));
        }
    }
}

/// Warns of uplinks that are to give flows back, though no other is better.
pub(in crate::config) fn reclaims(uplinks: &[ReadUplink], root: &Section) {
    for ReadUplink { uplink, on_up_at, .. } in uplinks {
        let mut others = uplinks.iter().map(|other| &other.uplink);
        let reclaims = matches!(uplink.on_up, OnUp::Reclaim { .. });
        if let Some(at) = on_up_at.clone().filter(|_| reclaims)
            && !others.any(|other| other.is_better_than(uplink))
        {
            let message = "nothing is reclaimed, for no uplink is better";
            let help = "give this one a higher tier than those that it stands in for, or remove it";
            root.warn(format!("uplink.{}.on_up", uplink.name), at, Fault::new(message, help));
        }
    }
}

/// Checks that prefixes of uplinks do not overlap, and that an inner prefix to translate overlaps
/// none of them.
pub(in crate::config) fn prefixes(uplinks: &[ReadUplink], root: &Section) {
    let mut before: Vec<(&str, Spanned<IpNet>)> = Vec::new();
    for ReadUplink { uplink, ipv6, .. } in uplinks {
        for prefix in &ipv6.prefixes {
            let help = "each prefix belongs to one uplink: take it out of one of the two";
            report_overlap("prefix", uplink, prefix, help, &before, root);
            before.push((&uplink.name, prefix.clone()));
        }
    }
    for ReadUplink { uplink, ipv6, .. } in uplinks {
        if let Some(npt) = &ipv6.npt {
            let help = "write the prefix that is used inside only, like \"fd00::/64\"";
            let npt = Spanned::new(npt.span(), IpNet::from(*npt.get_ref()));
            report_overlap("npt", uplink, &npt, help, &before, root);
        }
    }
}

fn report_overlap(
    key: &str,
    uplink: &Uplink,
    prefix: &Spanned<IpNet>,
    help: &str,
    others: &[(&str, Spanned<IpNet>)],
    root: &Section,
) {
    let net = prefix.get_ref();
    let overlaps = |other: &IpNet| other.contains(net) || net.contains(other);
    if let Some((name, other)) = others.iter().find(|(_, other)| overlaps(other.get_ref())) {
        let key = format!("uplink.{}.{key}", uplink.name);
        let message = format!("{net} overlaps {} of uplink {name}", other.get_ref());
        root.report_related(&key, prefix.span(), Fault::new(message, help), other.span(), "here");
    }
}
