//! Remains of scripts that balanced over the same uplinks: ip rules, marks, masquerading, tables.
//!
//! linkbal works beside most of them. Each comes with the command that deletes it; what belongs to a
//! VPN, to containers or to another known product is none of them.

use std::collections::{BTreeMap, BTreeSet};

use linkbal_common::uplink::Family;

use super::{
    products::{is_known, is_mwan3, owner},
    reach,
    survey::{Masquerade, Survey},
};
use crate::{
    config::{Config, Gateway},
    engine::kernel::network::{
        IpRule, LOOPBACK, Link, PROTOCOL, Route, RouteKind, Snapshot, TABLE_LOCAL, TABLE_MAIN,
        table_name,
    },
    removal::{STOP_MWAN3, Stage, Step, shell_word},
};

/// Protocol numbers of what a script or a person has set: none, `ip` without a protocol, static.
const BY_HAND: [u8; 3] = [0, 3, STATIC];

/// Protocol number of what is configured (`RTPROT_STATIC`), as by systemd-networkd.
const STATIC: u8 = 4;

/// Remark on a rule that systemd-networkd may have made.
const OF_NETWORKD: &str =
    "take [RoutingPolicyRule] (netplan: routing-policy) out of the network's file, too";

/// Number of the table of default routes that count last.
const TABLE_DEFAULT: u32 = 253;

/// Returns the steps that delete them, in their order.
pub fn steps(config: &Config, snapshot: &Snapshot, survey: &Survey) -> Vec<Step> {
    let tables = tables(config, snapshot);
    let rules: Vec<&IpRule> =
        snapshot.rules.iter().filter(|rule| is_old(config, snapshot, &tables, rule)).collect();
    let mwan3 = snapshot.rules.iter().any(|rule| rule.protocol != PROTOCOL && is_mwan3(rule));
    let service =
        mwan3.then(|| Step::new(Stage::Stop, "mwan3, with its rules and tables", STOP_MWAN3));
    let deleted = rules.iter().map(|rule| {
        let what = if rule.protocol == STATIC { OF_NETWORKD } else { "" };
        Step::new(Stage::Rules, what, reach::delete(rule))
    });
    let each = service.into_iter().chain(deleted);
    let of_firewall: Vec<Step> =
        marks(survey, &rules).into_iter().chain(masquerading(config, snapshot, survey)).collect();
    let saved = saved(survey, &of_firewall);
    let each = each.chain(of_firewall).chain(saved);
    each.chain(flushed(&tables, snapshot, &rules)).chain(several_ways(config, snapshot)).collect()
}

/// Returns the steps by which the firewall's service does not set deleted rules again at boot.
fn saved(survey: &Survey, deleted: &[Step]) -> Vec<Step> {
    let by = |program: &str| deleted.iter().any(|step| step.command.contains(program));
    let of_iptables = |file: &&String| file.contains("/iptables");
    let (iptables, nft): (Vec<_>, Vec<_>) = survey.saved.iter().partition(of_iptables);
    let mut steps = Vec::new();
    if by("tables") && !iptables.is_empty() {
        let what = format!("{} would set them again at boot", list(&iptables));
        steps.push(Step::new(Stage::Nat, what, "netfilter-persistent save"));
    }
    if by("nft ") && !nft.is_empty() {
        let what = format!("{} may set them again at boot: take them out there, too", list(&nft));
        steps.push(Step::new(Stage::Nat, what, ""));
    }
    steps
}

fn list(files: &[&String]) -> String {
    files.iter().map(|file| file.as_str()).collect::<Vec<_>>().join(", ")
}

/// Returns the tables, by family, besides the kernel's and linkbal's that lead out by an uplink.
fn tables(config: &Config, snapshot: &Snapshot) -> BTreeSet<(u32, Family)> {
    let old = snapshot.routes.iter().filter(|route| {
        let own = [TABLE_DEFAULT, TABLE_MAIN, TABLE_LOCAL].contains(&route.table);
        let by_uplink = route.ifindex.and_then(|ifindex| snapshot.links.get(&ifindex));
        route.is_default()
            && !own
            && !config.kernel.has_table(route.table)
            && BY_HAND.contains(&route.protocol)
            && by_uplink.is_some_and(|link| is_uplink(config, &link.name))
    });
    old.map(|route| (route.table, route.family())).collect()
}

fn is_uplink(config: &Config, interface: &str) -> bool {
    config.uplinks.iter().any(|uplink| uplink.interface == interface)
}

/// Returns whether a script made a rule: it leads out by an uplink, or it takes marks nowhere any more.
fn is_old(
    config: &Config,
    snapshot: &Snapshot,
    tables: &BTreeSet<(u32, Family)>,
    rule: &IpRule,
) -> bool {
    let by_hand = BY_HAND.contains(&rule.protocol) && !is_known(rule);
    let own = [0, TABLE_DEFAULT, TABLE_MAIN, TABLE_LOCAL].contains(&rule.table);
    if !by_hand || own || config.kernel.has_table(rule.table) {
        return false;
    }
    let of_table = |route: &Route| (route.table, route.family()) == (rule.table, rule.family);
    // Others with an empty table may be those of a VPN that is down.
    let by_mark = rule.fwmark.is_some() && rule.source.is_none() && rule.device.is_none();
    let is_empty = || !snapshot.routes.iter().any(of_table);
    tables.contains(&(rule.table, rule.family)) || by_mark && rule.more.is_empty() && is_empty()
}

/// Returns the steps for firewall rules that set the marks of such rules, or save and restore them.
fn marks(survey: &Survey, rules: &[&IpRule]) -> Vec<Step> {
    let asked: BTreeSet<(u32, u32)> = rules.iter().filter_map(|rule| rule.fwmark).collect();
    let is_asked =
        |value: u32| asked.iter().any(|(mark, mask)| value != 0 && value & mask == *mark);
    let changes = survey.marks.iter().filter(|change| owner(&change.chain).is_none());
    let all = changes.flat_map(|change| &change.rules).filter(|rule| match rule.value {
        Some(value) => is_asked(value),
        None => !asked.is_empty(),
    });
    all.map(|rule| Step::new(Stage::Marks, "", &*rule.delete)).collect()
}

/// Returns the steps for rules that masquerade what leaves by uplinks. Those for one network only, such
/// as Docker's, name no uplink; uplinks without `nat` may need theirs. One for all interfaces may serve
/// tunnels and networks of the LAN among each other, too: it becomes one for those.
fn masquerading(config: &Config, snapshot: &Snapshot, survey: &Survey) -> Vec<Step> {
    let inner = inner(config, snapshot);
    let old =
        survey.masquerades.iter().filter(|Masquerade { chain, interface, narrow, .. }| {
            let everywhere = interface.is_none() && !narrow;
            let by_uplink = interface.as_ref().is_some_and(|name| is_uplink(config, name));
            let needed = config.uplinks.iter().any(|uplink| {
                !uplink.nat && interface.as_ref().is_none_or(|name| *name == uplink.interface)
            });
            owner(chain).is_none() && (everywhere || by_uplink) && !needed
        });
    let step = |Masquerade { interface, delete, .. }: &Masquerade| {
        if interface.is_some() || inner.is_empty() {
            return Step::new(Stage::Nat, "", &**delete);
        }
        let what = format!("it still translates what leaves by {}", inner.join(", "));
        let added = inner.iter().map(|name| masquerade_by(delete, name));
        let commands: Vec<String> = added.chain([delete.clone()]).collect();
        Step::new(Stage::Nat, what, commands.join("; "))
    };
    old.map(step).collect()
}

/// Returns the interfaces besides the uplinks by which forwarded packets may leave: none if there is one
/// alone, by which they come in.
fn inner<'a>(config: &Config, snapshot: &'a Snapshot) -> Vec<&'a str> {
    let addressed = |link: &Link| snapshot.addresses.iter().any(|own| own.ifindex == link.ifindex);
    let others = snapshot.links.values().filter(|link| {
        link.name != LOOPBACK && !link.port && !is_uplink(config, &link.name) && addressed(link)
    });
    let others: Vec<&str> = others.map(|link| &*link.name).collect();
    if others.len() > 1 { others } else { Vec::new() }
}

/// Returns the command for a rule that masquerades what leaves by an interface, in place of one that a
/// command deletes.
fn masquerade_by(delete: &str, interface: &str) -> String {
    let name = shell_word(interface);
    match delete.strip_prefix("nft delete rule ").and_then(|rest| rest.split_once(" handle ")) {
        Some((chain, _)) => format!("nft add rule {chain} oifname {name} masquerade"),
        None => delete.replacen(" -D ", " -A ", 1).replacen(
            " -j MASQUERADE",
            &format!(" -o {name} -j MASQUERADE"),
            1,
        ),
    }
}

/// Returns the steps for tables that no rule but those to delete looks up.
fn flushed(tables: &BTreeSet<(u32, Family)>, snapshot: &Snapshot, rules: &[&IpRule]) -> Vec<Step> {
    let free = tables.iter().filter(|(table, family)| {
        let looks = |rule: &&IpRule| (rule.table, rule.family) == (*table, *family);
        snapshot.rules.iter().filter(looks).all(|rule| rules.contains(&rule))
    });
    let flush = |(table, family): &(u32, Family)| {
        Step::new(Stage::Routes, "", format!("{} route flush table {table}", ip(*family)))
    };
    free.map(flush).collect()
}

/// Returns the steps for default routes by several uplinks at once: one is left for the time in which
/// linkbal does not run. Uplinks that take their gateways from it keep theirs.
fn several_ways(config: &Config, snapshot: &Snapshot) -> Vec<Step> {
    let mut same: BTreeMap<(Family, u32), Vec<(&Route, &str)>> = BTreeMap::new();
    for route in &snapshot.routes {
        let link = route.ifindex.and_then(|ifindex| snapshot.links.get(&ifindex));
        let main = route.table == TABLE_MAIN && route.kind == RouteKind::Unicast;
        if let Some(link) = link.filter(|_| main && route.is_default())
            && BY_HAND.contains(&route.protocol)
        {
            same.entry((route.family(), route.metric)).or_default().push((route, &link.name));
        }
    }
    let several = same.into_iter().filter(|((family, _), ways)| {
        ways.len() > 1 && ways.iter().all(|(route, name)| is_fixed(config, *family, route, name))
    });
    several.flat_map(|((family, _), ways)| keep_first(family, &ways)).collect()
}

/// Returns whether the configuration knows a way out without the main table.
fn is_fixed(config: &Config, family: Family, route: &Route, interface: &str) -> bool {
    config.uplinks.iter().any(|uplink| {
        let known = |address| uplink.gateway[family] == Gateway::Address(address);
        uplink.interface == interface && route.nexthop.is_some_and(known)
    })
}

fn keep_first(family: Family, ways: &[(&Route, &str)]) -> Vec<Step> {
    let words = |(route, name): &(&Route, &str)| {
        let via = route.nexthop.map_or(String::new(), |gateway| format!(" via {gateway}"));
        let metric =
            if route.metric == 0 { String::new() } else { format!(" metric {}", route.metric) };
        format!("default{via} dev {}{metric}", shell_word(name))
    };
    let what = format!("one way, for when linkbal does not run; table {}", table_name(TABLE_MAIN));
    let step = |verb: &str, way| {
        Step::new(Stage::Routes, &*what, format!("{} route {verb} {}", ip(family), words(way)))
    };
    match family {
        // A next hop of an IPv4 route cannot be deleted alone.
        Family::Ipv4 => ways.first().map(|way| step("replace", way)).into_iter().collect(),
        Family::Ipv6 => ways.iter().skip(1).map(|way| step("delete", way)).collect(),
    }
}

const fn ip(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "ip",
        Family::Ipv6 => "ip -6",
    }
}

#[cfg(test)]
mod tests;
