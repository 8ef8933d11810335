//! Firewall rules of others that change linkbal's bits of the fwmark, or feed ip rules of others.

use super::{
    Conflict,
    products::{CALICO, UNKNOWN, owner},
    reach,
    survey::{MarkChange, MarkRule, Survey},
};
use crate::{
    config::Config,
    engine::kernel::network::{PROTOCOL, RouteKind, Snapshot},
};

/// Returns the chains with such rules, except those of Calico, which is reported as a whole.
pub(super) fn find(config: &Config, snapshot: &Snapshot, survey: &Survey) -> Vec<Conflict> {
    let mask = config.kernel.fwmark_mask;
    let conflicting = survey.marks.iter().filter(|change| change.bits & mask != 0);
    let unknown = conflicting.filter(|change| owner(&change.chain) != Some(CALICO));
    unknown.map(|change| conflict(mask, snapshot, change)).collect()
}

fn conflict(mask: u32, snapshot: &Snapshot, change: &MarkChange) -> Conflict {
    let conflicting: Vec<&MarkRule> =
        change.rules.iter().filter(|rule| rule.bits & mask != 0).collect();
    let what = format!("firewall chain {}", change.chain);
    let proxy = !conflicting.is_empty()
        && !change.of_connection
        && conflicting.iter().all(|rule| feeds_a_proxy(snapshot, rule));
    if proxy {
        return Conflict {
            what,
            owner: changer(change),
            meaning: "compatible: what it marks is delivered on this machine, to a transparent \
                      proxy, and needs no uplink"
                .into(),
            advice: String::new(),
            compatible: true,
        };
    }
    let bits = change.bits & mask;
    Conflict {
        what,
        owner: changer(change),
        meaning: format!(
            "it sets bits {bits:#x} of the {} that are linkbal's ({mask:#x}): flows leave by \
             another uplink than they were given",
            if change.of_connection { "connection mark" } else { "fwmark" }
        ),
        advice: advice(mask, change.of_connection, &conflicting),
        compatible: false,
    }
}

fn advice(mask: u32, of_connection: bool, conflicting: &[&MarkRule]) -> String {
    let others = !mask;
    let keep = match (conflicting.first().and_then(|rule| rule.value), of_connection) {
        (Some(value), false) => format!(
            "let it keep these bits (iptables: `-j MARK --set-xmark {value:#x}/{others:#x}`, nft: \
             `meta mark set meta mark & {mask:#x} | {value:#x}`) and let ip rules that look for \
             {value:#x} ask for `fwmark {value:#x}/{others:#x}`"
        ),
        (Some(value), true) => format!(
            "let it keep these bits (iptables: `-j CONNMARK --set-xmark {value:#x}/{others:#x}`, \
             nft: `ct mark set ct mark & {mask:#x} | {value:#x}`)"
        ),
        (None, _) => format!(
            "let it keep these bits (iptables: `--nfmask {others:#x} --ctmask {others:#x}` at \
             --save-mark and --restore-mark)"
        ),
    };
    let delete: Vec<String> = conflicting
        .iter()
        .filter(|rule| !rule.delete.is_empty())
        .map(|rule| format!("`{}`", rule.delete))
        .collect();
    let delete = match delete.len() {
        0 => String::new(),
        _ => format!("remove what is left over of scripts: {}; or ", delete.join(", ")),
    };
    format!("{delete}{keep}, or set kernel.fwmark_mask to unused bits")
}

/// Returns whether an ip rule of others delivers packets with the mark that is set on this machine.
fn feeds_a_proxy(snapshot: &Snapshot, set: &MarkRule) -> bool {
    let Some(value) = set.value else { return false };
    let mut rules = snapshot.rules.iter().filter(|rule| rule.protocol != PROTOCOL);
    rules.any(|rule| {
        let marked = rule.fwmark.is_some_and(|(mark, mask)| mark != 0 && value & mask == mark);
        let local: Vec<_> = snapshot
            .routes
            .iter()
            .filter(|route| route.table == rule.table && route.family() == rule.family)
            .filter(|route| route.kind == RouteKind::Local)
            .map(|route| route.destination)
            .collect();
        marked && rule.table != 0 && reach::covers_internet(&local)
    })
}

fn changer(change: &MarkChange) -> String {
    let by = change.by.as_ref().map(ToString::to_string);
    let known = owner(&change.chain).map(str::to_owned).or(by);
    known.unwrap_or_else(|| UNKNOWN.into())
}
