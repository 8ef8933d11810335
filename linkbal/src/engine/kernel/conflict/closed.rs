//! Firewalls of others that let nothing pass: the LAN's way to the uplinks, this machine's own
//! packets, and the answers to them.

use std::collections::BTreeSet;

use linkbal_common::uplink::Family;

use super::{
    Conflict,
    chains::{BaseChain, ChainVerdict, Hook, PacketKind},
    products::{UNKNOWN, owner},
    survey::Survey,
};
use crate::{
    config::Config,
    engine::kernel::{
        lan,
        network::{Link, Snapshot},
        nexthop::has_address,
    },
};

/// Maximum number of interfaces that are named in a text.
const MAX_NAMES: usize = 4;

/// A way of packets through the machine, as far as a chain sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ForwardPath<'a> {
    family: Family,
    lan: Option<&'a str>,
    uplink: &'a str,
}

/// Returns the chains that drop what they should let pass, and those that may.
pub(super) fn find(config: &Config, snapshot: &Snapshot, survey: &Survey) -> Vec<Conflict> {
    let bases = survey.closing.bases.iter();
    bases.filter_map(|base| judge(config, snapshot, survey, base)).collect()
}

/// Returns the chains that drop what this machine sends by all uplinks, or the answers to it.
pub fn own_traffic(config: &Config, snapshot: &Snapshot, survey: &Survey) -> Vec<String> {
    let own = survey.closing.bases.iter().filter(|base| base.hook != Hook::Forward);
    let closed = own.filter(|base| {
        let all = ways(config, snapshot, base);
        !all.is_empty() && all.iter().all(|way| verdict(survey, base, *way) == ChainVerdict::Drop)
    });
    closed.map(|base| base.chain.clone()).collect()
}

/// Returns the ways that a chain should let pass.
fn ways<'a>(config: &'a Config, snapshot: &'a Snapshot, base: &BaseChain) -> Vec<ForwardPath<'a>> {
    let has = |link: &Link, family| link.up && has_address(snapshot, link, family);
    let mut all = BTreeSet::new();
    for family in Family::ALL.into_iter().filter(|family| base.families[*family]) {
        for uplink in config.uplinks.iter().filter(|uplink| uplink.carries(family)) {
            let Some(link) = snapshot.link(&uplink.interface) else { continue };
            if !has(link, family) {
                continue;
            }
            let uplink = &*uplink.interface;
            if base.hook == Hook::Forward {
                let lans = lan::present(config, snapshot);
                let lans = lans.into_iter().filter(|lan| has(lan, family));
                all.extend(lans.map(|lan| ForwardPath { family, lan: Some(&lan.name), uplink }));
            } else {
                all.insert(ForwardPath { family, lan: None, uplink });
            }
        }
    }
    all.into_iter().collect()
}

/// Returns what becomes of connections by a way: the worse of what their first packets and their
/// answers meet.
fn verdict(survey: &Survey, base: &BaseChain, way: ForwardPath<'_>) -> ChainVerdict {
    let ForwardPath { family, lan, uplink } = way;
    let out = PacketKind { family, iif: lan, oif: Some(uplink), established: false };
    let back = PacketKind { family, iif: Some(uplink), oif: lan, established: true };
    let ask = |kind| survey.closing.verdict(base, kind);
    match base.hook {
        Hook::Forward => ask(out).min(ask(back)),
        Hook::Output => ask(out),
        Hook::Input => ask(back),
    }
}

fn judge(
    config: &Config,
    snapshot: &Snapshot,
    survey: &Survey,
    base: &BaseChain,
) -> Option<Conflict> {
    let ways = ways(config, snapshot, base);
    let with = |wanted: ChainVerdict| -> Vec<ForwardPath<'_>> {
        ways.iter().copied().filter(|way| verdict(survey, base, *way) == wanted).collect()
    };
    let (dropped, unknown) = (with(ChainVerdict::Drop), with(ChainVerdict::Unknown));
    let whole = Family::ALL.into_iter().find(|family| {
        let of_family =
            |ways: &[ForwardPath<'_>]| ways.iter().filter(|way| way.family == *family).count();
        of_family(&ways) > 0 && of_family(&dropped) == of_family(&ways)
    });
    let conflict = |meaning: String, advice: String, compatible| {
        let owner = owner(&base.chain).unwrap_or(UNKNOWN).into();
        let what = format!("firewall chain {}", base.chain);
        Some(Conflict { what, owner, meaning, advice, compatible })
    };
    if let Some(family) = whole {
        let only = ways.iter().any(|way| !dropped.contains(way));
        let of_family = if only { format!("{} of ", family.name()) } else { String::new() };
        let meaning = dropping(base, &of_family, &dropped);
        let advice = match command(survey, base, &dropped) {
            Some(command) => format!("let it accept them: `{command}`, and keep that in its file"),
            None => "let it accept them".into(),
        };
        return conflict(meaning, advice, false);
    }
    if base.hook != Hook::Forward {
        return None;
    }
    if !dropped.is_empty() {
        let meaning = format!("it drops what goes {}, while other ways pass", words(&dropped));
        let advice = "let it accept that, too, if those hosts may use that uplink".to_owned();
        return conflict(meaning, advice, true);
    }
    let meaning = "it accepts only what its rules name".to_owned();
    let advice = format!("see that what goes {} is among them", words(&unknown));
    (!unknown.is_empty()).then(|| conflict(meaning, advice, true))?
}

/// Says what a chain drops.
fn dropping(base: &BaseChain, of_family: &str, dropped: &[ForwardPath<'_>]) -> String {
    let policy = if base.drops { "its policy is drop" } else { "it ends with a rule that drops" };
    match base.hook {
        Hook::Forward => format!(
            "it cuts {of_family}the LAN off: {policy}, and no rule accepts connections {}, with \
             their answers",
            words(dropped)
        ),
        Hook::Input => format!(
            "it drops the answers to {of_family}this machine's own packets: {policy}, and no rule \
             accepts established connections; probes of all uplinks and look-ups fail"
        ),
        Hook::Output => format!(
            "it drops {of_family}this machine's own packets: {policy}, and no rule accepts what \
             goes {}; probes cannot be sent",
            words(dropped)
        ),
    }
}

/// Formats ways: `from lan0 to wan-a and wan-b`.
fn words(ways: &[ForwardPath<'_>]) -> String {
    let lans: BTreeSet<&str> = ways.iter().filter_map(|way| way.lan).collect();
    let uplinks: BTreeSet<&str> = ways.iter().map(|way| way.uplink).collect();
    let list = |names: &BTreeSet<&str>| {
        let more = if names.len() > MAX_NAMES { " and others" } else { "" };
        let first: Vec<&str> = names.iter().take(MAX_NAMES).copied().collect();
        first.join(if more.is_empty() && first.len() < 3 { " and " } else { ", " }) + more
    };
    let from = if lans.is_empty() { String::new() } else { format!("from {} ", list(&lans)) };
    format!("{from}to {}", list(&uplinks))
}

/// Returns the command that makes a chain accept what it drops; `None` if a name cannot be written.
fn command(survey: &Survey, base: &BaseChain, dropped: &[ForwardPath<'_>]) -> Option<String> {
    let lans: BTreeSet<&str> = dropped.iter().filter_map(|way| way.lan).collect();
    let uplinks: BTreeSet<&str> = dropped.iter().map(|way| way.uplink).collect();
    let plain = |text: &str| {
        text.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_. @:".contains(letter))
    };
    if !lans.iter().chain(&uplinks).chain([&&*base.chain]).all(|name| plain(name)) {
        return None;
    }
    let words: Vec<&str> = base.chain.split(' ').collect();
    match words.as_slice() {
        ["legacy", family, _, chain] => {
            let program = if *family == "ip6" { "ip6tables-legacy" } else { "iptables-legacy" };
            Some(of_iptables(program, base.hook, chain, &lans, &uplinks))
        }
        [family @ ("ip" | "ip6"), "filter", chain @ ("INPUT" | "FORWARD" | "OUTPUT")] => {
            let program = if *family == "ip6" { "ip6tables" } else { "iptables" };
            // Docker leaves this one to its user.
            let user = format!("{family} filter DOCKER-USER");
            let by_docker = base.hook == Hook::Forward && survey.chains.contains(&user);
            let chain = if by_docker { "DOCKER-USER" } else { chain };
            Some(of_iptables(program, base.hook, chain, &lans, &uplinks))
        }
        _ => Some(of_nft(base, &lans, &uplinks)),
    }
}

fn of_nft(base: &BaseChain, lans: &BTreeSet<&str>, uplinks: &BTreeSet<&str>) -> String {
    let set = |names: &BTreeSet<&str>| {
        let names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
        format!("{{ {} }}", names.join(", "))
    };
    let mut rules = Vec::new();
    if base.hook != Hook::Output {
        rules.push("ct state established,related accept".to_owned());
    }
    match base.hook {
        Hook::Forward => {
            rules.push(format!("iifname {} oifname {} accept", set(lans), set(uplinks)));
        }
        Hook::Output => rules.push(format!("oifname {} accept", set(uplinks))),
        // Answers of neighbours and routers belong to no connection.
        Hook::Input if base.families[Family::Ipv6] => {
            rules.push("meta l4proto ipv6-icmp accept".to_owned());
        }
        Hook::Input => {}
    }
    let rules = rules.iter().map(|rule| format!("insert rule {} {rule}", base.chain));
    format!("nft '{}'", rules.collect::<Vec<_>>().join("; "))
}

fn of_iptables(
    program: &str,
    hook: Hook,
    chain: &str,
    lans: &BTreeSet<&str>,
    uplinks: &BTreeSet<&str>,
) -> String {
    let mut rules: Vec<String> = Vec::new();
    if hook != Hook::Output {
        rules.push("-m conntrack --ctstate ESTABLISHED,RELATED".into());
    }
    match hook {
        Hook::Forward => {
            let out = |lan: &str| {
                let lan = format!("-i {lan}");
                uplinks.iter().map(move |uplink| format!("{lan} -o {uplink}")).collect::<Vec<_>>()
            };
            rules.extend(lans.iter().flat_map(|lan| out(lan)));
        }
        Hook::Output => rules.extend(uplinks.iter().map(|uplink| format!("-o {uplink}"))),
        Hook::Input if program.starts_with("ip6") => rules.push("-p ipv6-icmp".into()),
        Hook::Input => {}
    }
    let rules = rules.iter().map(|rule| format!("{program} -I {chain} {rule} -j ACCEPT"));
    rules.collect::<Vec<_>>().join(" && ")
}

#[cfg(test)]
mod tests;
