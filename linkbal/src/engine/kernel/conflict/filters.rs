//! Firewall rules of others that keep packets from where linkbal sends them.

use super::{
    Conflict,
    products::{UNKNOWN, owner},
    survey::{Filter, FilterKind, Survey},
};
use crate::config::{Accelerate, Config};

/// Returns the rules that conflict, and those that look like it.
pub(super) fn find(config: &Config, survey: &Survey) -> Vec<Conflict> {
    let concerned = survey.filters.iter().filter(|filter| concerns(config, filter));
    concerned.map(|filter| conflict(config, filter)).chain(unread(survey)).collect()
}

/// Returns whether a rule sees packets of the LAN or of uplinks.
fn concerns(config: &Config, filter: &Filter) -> bool {
    if filter.kind == FilterKind::EachPacket && config.accelerate == Accelerate::Off {
        return false;
    }
    let Some(interface) = filter.interface.as_deref() else { return true };
    if interface.starts_with('!') || interface.contains(['*', '+', '@']) {
        return true;
    }
    let uplink = config.uplinks.iter().any(|uplink| uplink.interface == interface);
    let lan = config.lan_interfaces.iter().any(|lan| lan == interface);
    // What comes from the LAN has a route back to it.
    uplink || lan && filter.kind != FilterKind::ReversePath
}

fn conflict(config: &Config, filter: &Filter) -> Conflict {
    let delete = format!("delete the rule (`{}`)", filter.delete);
    let several = config.uplinks.len() > 1;
    let family = filter.family.as_deref().map_or(String::new(), |family| format!("{family} "));
    let (meaning, advice, compatible) = match filter.kind {
        FilterKind::ReversePath if several => (
            format!(
                "a reverse path filter: {family}answers that come in by another uplink than the best \
                 one are dropped, and their connections time out"
            ),
            reverse_path(filter, &delete),
            false,
        ),
        FilterKind::ReversePath => {
            ("a reverse path filter: with one uplink, it drops nothing".into(), String::new(), true)
        }
        FilterKind::NoTrack if filter.narrow => (
            "compatible as long as it matches nothing that is for the internet: packets without \
             connection tracking are not translated"
                .into(),
            String::new(),
            true,
        ),
        FilterKind::NoTrack => (
            format!(
                "it exempts {family}packets from connection tracking: those are not translated, and \
                 linkbal lets nothing out by an uplink that is not"
            ),
            format!("{delete}, or let it match nothing of the LAN and of the uplinks"),
            false,
        ),
        FilterKind::Forward => (
            "it sends packets out of another interface before they are routed".into(),
            format!("{delete}, or let it match nothing that is for the internet"),
            false,
        ),
        FilterKind::Duplicate => (
            "compatible: it sends copies, and the packets themselves go on".into(),
            String::new(),
            true,
        ),
        FilterKind::Offload => (
            "compatible: a flow table forwards what linkbal has decided; when an uplink dies, its \
             entries go with the connections"
                .into(),
            String::new(),
            true,
        ),
        FilterKind::EachPacket => (
            format!(
                "it counts or reads each packet (limit, quota, queue, bytes of connections): of flows \
                 that take shortcuts, it sees {}",
                if config.accelerate == Accelerate::Flowtable {
                    "none"
                } else {
                    "one a second and way"
                }
            ),
            "leave out what it is for (accelerate = false of the uplinks, or except in [accelerate]), \
             or match new connections alone (ct state new)"
                .into(),
            false,
        ),
    };
    let owner = owner(&filter.chain).unwrap_or(UNKNOWN).into();
    Conflict {
        what: format!("firewall chain {}", filter.chain),
        owner,
        meaning,
        advice,
        compatible,
    }
}

fn reverse_path(filter: &Filter, delete: &str) -> String {
    match owner(&filter.chain) {
        Some("firewalld") => "set IPv6_rpfilter=no in /etc/firewalld/firewalld.conf, and restart \
                              firewalld"
            .into(),
        _ => format!("{delete}; linkbal sets net.ipv4.conf.*.rp_filter as it can stay"),
    }
}

/// Reports rules that cannot be read.
fn unread(survey: &Survey) -> Option<Conflict> {
    survey.unread.then(|| Conflict {
        what: "rules of iptables in nft".into(),
        owner: "iptables-nft".into(),
        meaning: "what they do to marks cannot be read without iptables-save".into(),
        advice: "install the package iptables, and look again".into(),
        compatible: true,
    })
}
