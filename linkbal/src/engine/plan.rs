//! The changes that linkbal would make in the kernel: the engine's own decisions, put into words.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use linkbal_common::{
    bucket::Bucket,
    maps, names,
    uplink::{Family, UpMask},
};
use serde::{Deserialize, Serialize};

use super::{
    Command, Engine, Event,
    indexed::Indexed,
    kernel::{
        conflict::{Conflict, survey::Survey},
        network::{Change, IpRule, Link, PROTOCOL, Role, Route, RouteKind, Snapshot, table_name},
    },
    policy::Policy,
};
use crate::config::Config;

/// The kind of a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Sign {
    /// Something is added.
    Add,
    /// Something is removed.
    Remove,
    /// Something is changed.
    Change,
}

/// One difference between the kernel's state and the desired one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Difference {
    /// Kind of the difference.
    pub action: Sign,
    /// The program that people know the thing by: `ip`, `nft`, `sysctl`, `bond` or `bpf`.
    pub by: String,
    /// The thing, as that program spells it.
    pub what: String,
}

impl Difference {
    fn new(action: Sign, by: &str, what: String) -> Difference {
        Difference { action, by: by.into(), what }
    }

    /// Returns one line for people.
    pub fn line(&self) -> String {
        let sign = match self.action {
            Sign::Add => '+',
            Sign::Remove => '-',
            Sign::Change => '~',
        };
        format!("{sign} {:<6} {}", self.by, self.what)
    }
}

/// The observed state of a datapath: of a running one, or of none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pinned {
    /// Set if there is a file system for pins.
    pub mounted: bool,
    /// Maps and programs that are pinned.
    pub names: BTreeSet<String>,
    /// Interfaces that programs run on.
    pub interfaces: BTreeSet<u32>,
    /// Set if the programs for local traffic run.
    pub own_traffic: bool,
    /// The buckets in force; `None` if there are none of this version.
    pub buckets: Option<Vec<Bucket>>,
    /// The usable uplinks, as the datapath has them.
    pub up: Option<UpMask>,
}

/// The decisions of an engine on a machine.
#[derive(Debug)]
pub struct Decided {
    /// Conflicts with what others have set up.
    pub conflicts: BTreeSet<Conflict>,
    changes: Vec<Change>,
    attached: Vec<(Role, Link)>,
}

/// Returns the decisions of an engine that has just started.
pub fn decide(
    config: &Config,
    indexed: Vec<Indexed>,
    up: UpMask,
    snapshot: Snapshot,
    survey: Survey,
) -> Decided {
    let start = Duration::ZERO;
    let admin = BTreeMap::new();
    let mut engine = Engine::new(config.clone(), indexed, up, Vec::new(), &admin, start);
    // First, so that it counts for what is decided.
    engine.handle_event(Event::Surveyed(survey), start);
    engine.handle_event(Event::Observed(snapshot), start);
    let conflicts = engine.conflicts().clone();
    let mut decided = Decided { conflicts, changes: Vec::new(), attached: Vec::new() };
    while let Some(command) = engine.next_command() {
        match command {
            Command::Apply(changes) => decided.changes.extend(changes),
            Command::Attach(links) => decided.attached = links,
            _ => {}
        }
    }
    decided
}

impl Decided {
    /// Returns the nft table that would be written.
    pub fn nft(&self) -> Option<&str> {
        self.changes.iter().find_map(|change| match change {
            Change::ReplaceNft(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// Returns the nft table of the flowtable that would be written.
    pub fn flowtable(&self) -> Option<&str> {
        self.changes.iter().find_map(|change| match change {
            Change::SetFlowtable(text) => text.as_deref(),
            _ => None,
        })
    }

    /// Returns the differences of bonds, routes, ip rules and sysctls, in the order of the changes.
    pub fn network(&self, snapshot: &Snapshot) -> Vec<Difference> {
        self.changes.iter().filter_map(|change| difference(change, snapshot)).collect()
    }

    /// Returns the differences of the datapath.
    pub fn datapath(
        &self,
        config: &Config,
        policy: &Policy,
        pinned: &Pinned,
        snapshot: &Snapshot,
    ) -> Vec<Difference> {
        let mut all = Vec::new();
        let mut add = |what: String| all.push(Difference::new(Sign::Add, "bpf", what));
        if !pinned.mounted {
            add("mount -t bpf bpf /sys/fs/bpf".into());
        }
        let maps: Vec<_> = maps::pinned().collect();
        for (kind, names) in [("map", &maps[..]), ("program", &names::ESSENTIAL_PROGRAMS[..])] {
            let missing: Vec<_> =
                names.iter().copied().filter(|name| !pinned.names.contains(*name)).collect();
            match missing.len() {
                0 => {}
                count if count == names.len() => add(format!("all {count} {kind}s")),
                _ => missing.iter().for_each(|name| add(format!("{kind} {name}"))),
            }
        }
        for (_, link) in &self.attached {
            if !pinned.interfaces.contains(&link.ifindex) {
                add(format!("programs at ingress and egress of {}", link.name));
            }
        }
        if config.local_balance && !pinned.own_traffic {
            add("programs at the cgroup tree for local traffic".into());
        }
        let wanted = |ifindex: &u32| self.attached.iter().any(|(_, link)| link.ifindex == *ifindex);
        let surplus = pinned.interfaces.iter().filter(|ifindex| !wanted(ifindex));
        let mut remove = |what: String| all.push(Difference::new(Sign::Remove, "bpf", what));
        surplus.for_each(|ifindex| {
            let link = snapshot.links.get(ifindex);
            let name = link.map_or_else(|| format!("if{ifindex}"), |link| link.name.clone());
            remove(format!("programs at ingress and egress of {name}"));
        });
        if !config.local_balance && pinned.own_traffic {
            remove("programs at the cgroup tree for local traffic".into());
        }
        all.extend(buckets(policy, pinned));
        all
    }
}

/// Returns how many differences there are, by program: `3 by ip, 20 by nft`.
pub fn summary(differences: &[Difference]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for difference in differences {
        let count = counts.entry(&difference.by).or_default();
        *count = count.saturating_add(1);
    }
    let counts = counts.into_iter().map(|(by, count)| format!("{count} by {by}"));
    counts.collect::<Vec<_>>().join(", ")
}

fn buckets(policy: &Policy, pinned: &Pinned) -> Option<Difference> {
    let before = pinned.buckets.as_ref()?;
    let other = policy.buckets.iter().zip(before).filter(|(new, old)| new != old).count();
    let what = format!("map BUCKETS: {other} of {} entries", policy.buckets.len());
    (other > 0).then(|| Difference::new(Sign::Change, "bpf", what))
}

/// Puts the names of interfaces in place of their indexes in a listing of the nft table, as `nft`
/// does in the namespace that they are in. An index stands behind `iif`, as a part of a concatenation or
/// as the key of a map.
pub fn with_names(listing: &str, snapshot: &Snapshot) -> String {
    let named = |word: &str| Some(&snapshot.links.get(&word.parse().ok()?)?.name);
    let words: Vec<&str> = listing.split(' ').collect();
    let word_at = |at: usize| words.get(at).copied().unwrap_or_default();
    let is_index = |at: usize| {
        let before = at.checked_sub(1).map(word_at).unwrap_or_default();
        before == "iif" || before.ends_with("\tiif") || matches!(word_at(at + 1), "." | ":")
    };
    let translated = words.iter().enumerate().map(|(at, word)| match named(word) {
        Some(name) if is_index(at) => format!("\"{name}\""),
        _ => (*word).to_owned(),
    });
    translated.collect::<Vec<_>>().join(" ")
}

/// Compares two listings of the nft table, line by line.
pub fn nft_lines(before: &str, after: &str) -> Vec<Difference> {
    let lines = |text: &str| -> Vec<String> {
        let lines = text.lines().map(str::trim_end);
        lines.filter(|line| !line.is_empty()).map(|line| line.replace('\t', "  ")).collect()
    };
    let (before, after) = (lines(before), lines(after));
    let only = |sign, lines: &[String], other: &[String]| -> Vec<Difference> {
        let lines = lines.iter().filter(|line| !other.contains(line));
        lines.map(|line| Difference::new(sign, "nft", line.clone())).collect()
    };
    let mut all = only(Sign::Remove, &before, &after);
    all.extend(only(Sign::Add, &after, &before));
    if all.is_empty() && before != after {
        let what = "table inet linkbal: the same rules in another order".into();
        all.push(Difference::new(Sign::Change, "nft", what));
    }
    all
}

fn difference(change: &Change, snapshot: &Snapshot) -> Option<Difference> {
    let ip = |action, what: String| Some(Difference::new(action, "ip", what));
    match change {
        Change::SetSysctl(path, value) => {
            let before = snapshot.sysctls.get(path).map_or("unknown", String::as_str);
            let what = format!("{}: {before} -> {value}", path.replace('/', "."));
            Some(Difference::new(Sign::Change, "sysctl", what))
        }
        Change::Bond(change) => {
            (!change.is_memory()).then(|| Difference::new(Sign::Change, "bond", change.to_string()))
        }
        Change::AddRule(rule) => ip(Sign::Add, rule_words(rule)),
        Change::DeleteRule(rule) => ip(Sign::Remove, rule_words(rule)),
        Change::ReplaceRoute(route) => {
            let key = |route: &Route| (route.table, route.destination, route.metric);
            let mut routes = snapshot.routes.iter();
            let replaced = routes.any(|known| key(known) == key(route));
            ip(if replaced { Sign::Change } else { Sign::Add }, route_words(route, snapshot))
        }
        Change::DeleteRoute(route) => ip(Sign::Remove, route_words(route, snapshot)),
        Change::ReplaceNft(_) | Change::SetFlowtable(_) => None,
    }
}

const fn flag(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "-4",
        Family::Ipv6 => "-6",
    }
}

/// Formats a rule as `ip rule` takes it.
fn rule_words(rule: &IpRule) -> String {
    let (flag, words) = (flag(rule.family), rule.words());
    format!("{flag} rule pref {}{words} protocol {PROTOCOL}", rule.priority)
}

/// Formats a route as `ip route` takes it.
fn route_words(route: &Route, snapshot: &Snapshot) -> String {
    let kind = match route.kind {
        RouteKind::Unreachable => " unreachable",
        RouteKind::Blackhole => " blackhole",
        RouteKind::Unicast | RouteKind::Local | RouteKind::Other => "",
    };
    let destination =
        if route.is_default() { "default".into() } else { route.destination.to_string() };
    let mut text = format!("{} route{kind} {destination}", flag(route.family()));
    text += &route.nexthop.map_or(String::new(), |nexthop| format!(" via {nexthop}"));
    if let Some(ifindex) = route.ifindex {
        let name = snapshot.links.get(&ifindex).map(|link| link.name.clone());
        text += &format!(" dev {}", name.unwrap_or_else(|| format!("if{ifindex}")));
    }
    text += if route.onlink { " onlink" } else { "" };
    text + &format!(
        " table {} metric {} protocol {PROTOCOL}",
        table_name(route.table),
        route.metric
    )
}

#[cfg(test)]
mod tests;
