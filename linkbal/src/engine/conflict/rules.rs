//! ip rules of others.

use std::collections::BTreeSet;

use ipnet::IpNet;
use linkbal_common::{mark::BLOCKED, uplink::MAX_UPLINKS};

use super::{Conflict, products::is_known};
use crate::{
    config::{Config, TUNNEL_TABLES},
    engine::network::{IpRule, PROTOCOL, Route, RouteKind, Snapshot, TABLE_LOCAL},
};

/// Priorities from the configured one on that are linkbal's.
const PRIORITIES: u32 = 200;

/// Whether a table is linkbal's.
pub(super) fn is_our_table(config: &Config, table: u32) -> bool {
    let base = config.kernel.table_base;
    let tunnels = base.saturating_add(TUNNEL_TABLES);
    (base..=base + (MAX_UPLINKS + BLOCKED.len()) as u32).contains(&table)
        || (tunnels..tunnels.saturating_add(MAX_UPLINKS as u32)).contains(&table)
}

/// Who uses a routing protocol number (include/uapi/linux/rtnetlink.h).
pub(super) fn installer(protocol: u8) -> String {
    let name = match protocol {
        0 => "nobody says who",
        2 => "the kernel",
        3 => "`ip` without a protocol: a script, or by hand",
        4 => "an administrator: protocol static",
        9 => "a router advertisement",
        11 => "FRR or Quagga: protocol zebra",
        12 => "BIRD",
        16 => "a DHCP client",
        18 => "keepalived",
        84 => "Open Virtual Network",
        PROTOCOL => "somebody with linkbal's protocol number",
        186 => "FRR: protocol bgp",
        188 => "FRR: protocol ospf",
        number => return format!("routing protocol {number}"),
    };
    name.into()
}

/// Rules that clash, but for those of known products.
pub(super) fn find(config: &Config, snapshot: &Snapshot) -> Vec<Conflict> {
    let foreign = snapshot.rules.iter().filter(|rule| rule.protocol != PROTOCOL);
    let unknown = foreign.filter(|rule| !is_known(rule));
    let clashes = unknown.filter_map(|rule| clash(config, snapshot, rule));
    clashes.chain(misnumbered(snapshot)).collect()
}

fn clash(config: &Config, snapshot: &Snapshot, rule: &IpRule) -> Option<Conflict> {
    let first = config.kernel.rule_priority;
    let mask = config.kernel.fwmark_mask;
    let (meaning, advice) = if is_our_table(config, rule.table) {
        (
            format!("it sends packets to table {}, which is linkbal's", rule.table),
            "use another table, or set kernel.table_base to numbers that nobody uses".into(),
        )
    } else if rule.priority < first && catches_everything(rule, snapshot) {
        (
            format!(
                "it comes before linkbal's rules ({first} to {}) and catches everything, so that \
                 they never match: all traffic goes {}",
                first + PRIORITIES - 1,
                target(rule)
            ),
            format!(
                "give it a priority from {} on, or set kernel.rule_priority below {}",
                first + PRIORITIES,
                rule.priority
            ),
        )
    } else if (first..first + PRIORITIES).contains(&rule.priority) {
        (
            format!("its priority is among linkbal's, {first} to {}", first + PRIORITIES - 1),
            "give it another priority, or set kernel.rule_priority".into(),
        )
    } else if let Some((_, used)) = rule.fwmark.filter(|(_, used)| is_exact_part(*used, mask)) {
        (
            format!("its mask {used:#x} has bits of linkbal's, {mask:#x}: one marks for the other"),
            "set kernel.fwmark_mask to bits that nobody uses".into(),
        )
    } else {
        return None;
    };
    let who = installer(rule.protocol);
    Some(Conflict { what: format!("ip rule {rule}"), who, meaning, advice, compatible: false })
}

/// A whole mark (all 32 bits) cannot be linkbal's by accident: packets that carry one of both never
/// match the other.
const fn is_exact_part(used: u32, mask: u32) -> bool {
    used & mask != 0 && used != u32::MAX
}

fn target(rule: &IpRule) -> String {
    if rule.table == 0 { "nowhere".into() } else { format!("by table {}", rule.table) }
}

/// Rules that only look like linkbal's; they are left alone, as there is no telling them apart from
/// linkbal's own when they are deleted.
fn misnumbered(snapshot: &Snapshot) -> impl Iterator<Item = Conflict> {
    let rules = snapshot.rules.iter();
    let misnumbered = rules.filter(|rule| rule.protocol == PROTOCOL && !rule.more.is_empty());
    misnumbered.map(|rule| Conflict {
        what: format!("ip rule {rule}"),
        who: installer(PROTOCOL),
        meaning: format!("it carries protocol {PROTOCOL}, but linkbal makes no such rules"),
        advice: "delete it, or give it another protocol".into(),
        compatible: false,
    })
}

/// Whether nothing passes a rule by.
pub(super) fn catches_everything(rule: &IpRule, snapshot: &Snapshot) -> bool {
    let any = |prefix: Option<IpNet>| prefix.is_none_or(|prefix| prefix.prefix_len() == 0);
    let all = any(rule.source) && any(rule.destination) && !rule.from_here;
    let unmarked = rule.more == "not" && rule.fwmark.is_some_and(|(fwmark, _)| fwmark != 0);
    if rule.table == 0 {
        return all && rule.fwmark.is_none() && is_refusal(&rule.more);
    }
    let selects = all && (rule.fwmark.is_none() && rule.more.is_empty() || unmarked);
    selects
        && rule.table != TABLE_LOCAL
        && rule.suppress_prefix_length.is_none()
        && has_default(snapshot, rule)
}

fn is_refusal(action: &str) -> bool {
    ["blackhole", "unreachable", "prohibit"].contains(&action)
}

/// Whether the table of a rule has a route for every destination: a default route, or one for each
/// half, as VPN clients make them.
fn has_default(snapshot: &Snapshot, rule: &IpRule) -> bool {
    let routes = snapshot.routes.iter().filter(|route| {
        route.table == rule.table && route.family() == rule.family && route.kind != RouteKind::Local
    });
    let halves: BTreeSet<IpNet> =
        routes.clone().map(|route| route.destination).filter(|net| net.prefix_len() == 1).collect();
    halves.len() == 2 || routes.clone().any(Route::is_default)
}
