//! What must hold between sections.

use std::collections::BTreeMap;

use toml::Spanned;

use super::{
    Gateway,
    problem::{Fault, Span},
    reader::Section,
    uplink::ReadUplink,
};

/// An interface has one job, and uplinks that share one can be told apart.
pub(super) fn interfaces(lan: &[Spanned<String>], uplinks: &[ReadUplink], root: &Section) {
    for (index, uplink) in uplinks.iter().enumerate() {
        let Some(at) = uplink.interface_at.clone() else { continue };
        let interface = &uplink.uplink.interface;
        if let Some(lan) = lan.iter().find(|lan| lan.get_ref() == interface) {
            let message = format!("{interface} is an interface of the LAN and of an uplink");
            let help =
                "take it out of one of the two; VLANs of it, like \"eth0.2\", can be in both";
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
    if a.interface != b.interface {
        return;
    }
    let pairs = [(a.gateway_ipv4, b.gateway_ipv4), (a.gateway_ipv6, b.gateway_ipv6)];
    let same = pairs.iter().find_map(|(a, b)| match a {
        Gateway::Address(address) if a == b => Some(format!("the gateway {address}")),
        _ => None,
    });
    let Some(same) = same
        .or((pairs[0].0 == pairs[0].1 && pairs[1].0 == pairs[1].1)
            .then(|| "gateway auto".to_owned()))
    else {
        return;
    };
    let message = format!("uplinks {} and {} both have {same} on {}", a.name, b.name, a.interface);
    let help = "give each its own gateway, like gateway = \"192.0.2.1\", or its own interface";
    root.problems().report_related(
        at.clone(),
        Fault::new(message, help),
        first_at,
        "the other one",
    );
}

/// Some uplink of every tier takes flows.
pub(super) fn tiers(uplinks: &[ReadUplink], root: &Section) {
    let mut tiers: BTreeMap<u32, Vec<&ReadUplink>> = BTreeMap::new();
    for uplink in uplinks {
        tiers.entry(uplink.uplink.tier).or_default().push(uplink);
    }
    for (tier, members) in tiers {
        if members.iter().all(|member| member.uplink.weight == 0) {
            let names: Vec<_> = members.iter().map(|member| &*member.uplink.name).collect();
            let message = format!("no uplink of tier {tier} has a weight above 0");
            let help = format!("give a weight of 1 or more to one of: {}", names.join(", "));
            let at = members[0].weight_at.clone();
            root.problems().report(at, Fault::new(message, help));
        }
    }
}
