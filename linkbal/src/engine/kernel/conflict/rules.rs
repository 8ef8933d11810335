//! ip rules of others.

use super::{
    Conflict,
    possible_marks::Marks,
    products::{UNKNOWN, is_known},
    reach::{RuleEffect, Taken, delete, takes},
    survey::Survey,
};
use crate::{
    config::Config,
    engine::kernel::network::{IpRule, PROTOCOL, Snapshot, table_name},
};

/// Returns the user of a routing protocol number (include/uapi/linux/rtnetlink.h).
pub(super) fn installer(protocol: u8) -> String {
    let name = match protocol {
        0 => UNKNOWN,
        2 => "the kernel",
        3 => "`ip` without a protocol: a script, or by hand",
        4 => "an administrator: protocol static",
        9 => "a router advertisement",
        11 => "FRR or Quagga: protocol zebra",
        12 => "BIRD",
        16 => "a DHCP client",
        18 => "keepalived",
        84 => "Open Virtual Network",
        PROTOCOL => "another program with linkbal's protocol number",
        186 => "FRR: protocol bgp",
        188 => "FRR: protocol ospf",
        number => return format!("routing protocol {number}"),
    };
    name.into()
}

/// Returns the rules that conflict, except those of known products.
pub(super) fn find(config: &Config, snapshot: &Snapshot, survey: &Survey) -> Vec<Conflict> {
    let marks = Marks::of(config, survey);
    let foreign = snapshot.rules.iter().filter(|rule| rule.protocol != PROTOCOL);
    let unknown = foreign.filter(|rule| !is_known(rule));
    let conflicts = unknown.filter_map(|rule| conflict_of(config, snapshot, &marks, rule));
    conflicts.chain(misnumbered(snapshot)).collect()
}

fn conflict_of(
    config: &Config,
    snapshot: &Snapshot,
    marks: &Marks<'_>,
    rule: &IpRule,
) -> Option<Conflict> {
    let first = config.kernel.rule_priority;
    let mask = config.kernel.fwmark_mask;
    let conflict = |meaning, advice| {
        let (what, owner) = (format!("ip rule {rule}"), installer(rule.protocol));
        Some(Conflict { what, owner, meaning, advice, compatible: false })
    };
    if config.kernel.has_table(rule.table) {
        return conflict(
            format!("it sends packets to table {}, which is linkbal's", rule.table),
            format!("delete it (`{}`), or set kernel.table_base to unused numbers", delete(rule)),
        );
    }
    if rule.priority < first
        && let Some((taken, effect)) = takes(config, snapshot, marks, rule)
    {
        return Some(taking(config, rule, taken, effect));
    }
    if config.kernel.has_priority(rule.priority) {
        return conflict(
            format!(
                "its priority is among linkbal's, {first} to {}",
                config.kernel.last_priority()
            ),
            format!(
                "delete it (`{}`), give it another priority, or set kernel.rule_priority",
                delete(rule)
            ),
        );
    }
    if let Some((_, used)) = rule.fwmark.filter(|(_, used)| is_exact_part(*used, mask)) {
        return conflict(
            format!("its mask {used:#x} has bits of linkbal's, {mask:#x}: one marks for the other"),
            "set kernel.fwmark_mask to unused bits".into(),
        );
    }
    None
}

/// Reports a rule that takes packets of the LAN before linkbal's rules do.
fn taking(config: &Config, rule: &IpRule, taken: Taken, effect: RuleEffect<'_>) -> Conflict {
    let first = config.kernel.rule_priority;
    let last = config.kernel.last_priority();
    let what = format!("ip rule {rule}");
    let owner = installer(rule.protocol);
    if effect == RuleEffect::Here {
        let meaning = "compatible: what it takes is delivered on this machine, to a transparent \
                       proxy, and needs no uplink";
        let (meaning, advice) = (meaning.into(), String::new());
        return Conflict { what, owner, meaning, advice, compatible: true };
    }
    let before = format!("it comes before linkbal's rules ({first} to {last})");
    let target = match effect {
        RuleEffect::Table | RuleEffect::Here => format!("by table {}", table_name(rule.table)),
        RuleEffect::Refused(_) => "nowhere".into(),
        RuleEffect::Skips(to) => format!("to rule {to}"),
    };
    let meaning = match taken {
        Taken::All => format!(
            "{before} and catches everything, so that they never match: all traffic goes {target}"
        ),
        Taken::OfLan => {
            format!(
                "{before} and takes packets of the LAN: they go {target}, and linkbal has no say"
            )
        }
        Taken::OfUplink => format!(
            "{before} and takes what carries an uplink's address: it goes {target}, which leads \
             out of another interface than that uplink's"
        ),
    };
    let advice = format!(
        "delete it (`{}`), give it a priority from {} on, or set kernel.rule_priority below {}",
        delete(rule),
        last.saturating_add(1),
        rule.priority
    );
    Conflict { what, owner, meaning, advice, compatible: false }
}

/// Returns whether a mask has bits of linkbal's, and is not the whole mark. A whole mark (all 32
/// bits) cannot be linkbal's by accident: packets that carry one of both never match the other.
const fn is_exact_part(used: u32, mask: u32) -> bool {
    used & mask != 0 && used != u32::MAX
}

/// Reports rules that only look like linkbal's; they are left alone, since a deletion cannot tell
/// them from linkbal's own.
fn misnumbered(snapshot: &Snapshot) -> impl Iterator<Item = Conflict> {
    let rules = snapshot.rules.iter();
    let misnumbered = rules.filter(|rule| rule.protocol == PROTOCOL && !rule.more.is_empty());
    misnumbered.map(|rule| Conflict {
        what: format!("ip rule {rule}"),
        owner: installer(PROTOCOL),
        meaning: format!("it carries protocol {PROTOCOL}, but linkbal makes no such rules"),
        advice: "delete it, or give it another protocol".into(),
        compatible: false,
    })
}
