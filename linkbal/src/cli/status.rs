//! The status as a table for people.

use comfy_table::{Cell, CellAlignment, Table, presets};

use crate::{
    api::status::{
        Bond, CapacityStatus, Domains, FamilyStatus, LimitedHost, Load, Shortcuts, Status,
        ThrottledStatus, Uplink, UplinkShortcuts,
    },
    bytes::{bit_rate, bytes},
};

const HEADER: [&str; 11] = [
    "UPLINK", "DEVICE", "STATE", "SINCE", "LOSS", "LATENCY", "FLOWS", "PACKETS", "BYTES", "TARGET",
    "ACTUAL",
];

const PENDING: &str = "not in place yet: programs, routes, ip rules or the nft table\n";

/// Columns of words; the others are numbers.
const WORDS: usize = 4;

/// Renders the status.
pub(super) fn render(status: &Status) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(HEADER.iter().enumerate().map(|(at, title)| align(at, (*title).into())));
    for uplink in &status.uplinks {
        for (at, (family, health)) in families(uplink).into_iter().enumerate() {
            let cells = row(uplink, family, health, at == 0);
            table.add_row(cells.into_iter().enumerate().map(|(at, cell)| align(at, cell)));
        }
    }
    let missing = status.lan.iter().filter(|lan| !lan.exists);
    let missing: String =
        missing.map(|lan| format!("LAN interface {} does not exist\n", lan.interface)).collect();
    let left_out = status.lan.iter().filter_map(|lan| {
        let reason = lan.no_shortcuts.as_ref()?;
        Some(format!("{} takes no shortcuts: {reason}\n", lan.interface))
    });
    let left_out: String = left_out.collect();
    let bonds: String = status.bonds.iter().map(bond).collect();
    let reasons: String = status.uplinks.iter().flat_map(reasons).collect();
    let domains = status.domains.as_ref().map(domains).unwrap_or_default();
    let pending = if status.installed { "" } else { PENDING };
    let shortcuts = status.shortcuts.iter();
    let shortcuts: String = shortcuts
        .map(|taken| format!("shortcuts: {} packets up, {} down\n", taken.up, taken.down))
        .collect();
    let without_xdp = status.without_xdp.iter();
    let without_xdp: String =
        without_xdp.map(|(name, reason)| format!("no XDP at {name}: {reason}\n")).collect();
    let offloaded = status.flowtable_connections.iter();
    let offloaded: String =
        offloaded.map(|count| format!("flowtable: {count} connections\n")).collect();
    let drill = status.drill.iter();
    let drill: String = drill.map(|uplink| format!("drill active on {uplink}\n")).collect();
    let lines = table.to_string();
    let lines = lines.lines().map(|line| line.trim_end().to_owned() + "\n");
    let memory = bytes(status.memory.bytes);
    let rows = lines.collect::<String>();
    let clashes = clashes(status);
    let trial = status.confirm_within_s.iter();
    let trial: String = trial
        .map(|left| {
            format!("on trial: confirm within {left} s, or the configuration before comes back\n")
        })
        .collect();
    let last_good: String = status.configuration.last_good.iter().map(|good| {
        let file = &status.configuration.file;
        format!(
            "the last good configuration, of {}, is in force, since {file} could not be used at the \
             start: {}; correct it, then `linkbal check` and `linkbal reload`\n",
            good.saved, good.reason
        )
    }).collect();
    let of_linkbal = [pending, &last_good, &missing, &drill, &trial].concat();
    format!(
        "{rows}\n{of_linkbal}{bonds}{reasons}{domains}{clashes}{left_out}{shortcuts}{without_xdp}{offloaded}map memory: {memory}\n"
    )
}

fn align(column: usize, text: String) -> Cell {
    let alignment = if column < WORDS { CellAlignment::Left } else { CellAlignment::Right };
    Cell::new(text).set_alignment(alignment)
}

fn families(uplink: &Uplink) -> Vec<(&'static str, &FamilyStatus)> {
    let each = [("ipv4", &uplink.ipv4), ("ipv6", &uplink.ipv6)];
    each.into_iter().filter_map(|(name, family)| Some((name, family.as_ref()?))).collect()
}

/// Returns the row of a family; values of the uplink as a whole are in the first one only.
fn row(uplink: &Uplink, family: &str, health: &FamilyStatus, first: bool) -> Vec<String> {
    let whole = |text: String| if first { text } else { String::new() };
    vec![
        whole(uplink.name.clone()),
        whole(uplink.interface.clone()),
        format!("{family} {}", health.state),
        health.since.clone(),
        percent(health.loss),
        health.latency_ms.map_or("-".into(), |latency| format!("{latency:.1} ms")),
        whole(uplink.flows.to_string()),
        whole(uplink.packets.to_string()),
        whole(bytes(uplink.bytes)),
        whole(percent(uplink.share_wanted)),
        whole(percent(uplink.share_had)),
    ]
}

fn reasons(uplink: &Uplink) -> Vec<String> {
    let each = families(uplink).into_iter();
    let reasons = each.map(|(family, health)| {
        format!("{} {family} is {}: {}\n", uplink.name, health.state, health.reason)
    });
    let drained = (uplink.admin == "drained")
        .then(|| format!("{} is drained: new flows avoid it\n", uplink.name));
    let off = (uplink.ipv6_mode == "off")
        .then(|| format!("{} ipv6 is off: the configuration says so\n", uplink.name));
    let shortcuts = uplink.shortcuts.as_ref().map(|shortcuts| of_uplink(uplink, shortcuts));
    reasons.chain([carries(uplink)]).chain(shortcuts).chain(drained).chain(off).collect()
}

/// Formats whether the flows of an uplink take shortcuts.
fn of_uplink(uplink: &Uplink, shortcuts: &UplinkShortcuts) -> String {
    let name = &uplink.name;
    let Shortcuts { up, down } = shortcuts.taken;
    match &shortcuts.none_because {
        Some(reason) => format!("{name} takes no shortcuts: {reason}\n"),
        None => format!("{name} takes shortcuts: {up} packets up, {down} down so far\n"),
    }
}

fn carries(uplink: &Uplink) -> String {
    let Load { down, up, capacity, full } = &uplink.load;
    let used = capacity.as_ref().map(|capacity| {
        let used = percent(capacity.used);
        let CapacityStatus { down, up, .. } = capacity;
        format!(", {used} of {} down and {} up", bit_rate(*down), bit_rate(*up))
    });
    let full = if *full { "; it is full: new flows avoid it" } else { "" };
    let (name, used) = (&uplink.name, used.unwrap_or_default());
    format!("{name} carries {} down and {} up{used}{full}\n", bit_rate(*down), bit_rate(*up))
}

/// Formats a bond and its members on one line.
fn bond(bond: &Bond) -> String {
    let members =
        bond.members.iter().map(|member| format!("{} {}", member.interface, member.state));
    let members = members.collect::<Vec<_>>().join(", ");
    format!("bond {} ({}) is {}: {members}\n", bond.interface, bond.mode, bond.state)
}

/// Formats conflicts with others, refusals of the kernel, and limited hosts.
fn clashes(status: &Status) -> String {
    let conflicts = status.conflicts.iter().map(|conflict| {
        let kind = if conflict.compatible { "note" } else { "conflict" };
        format!("{kind}: {conflict}\n")
    });
    let throttled = status.throttled.iter().map(|throttled| {
        let ThrottledStatus { what, since, by, repairs } = throttled;
        let by = by.as_deref().unwrap_or("an unknown program");
        format!(
            "conflict: {what} is undone again and again by {by} since {since}; repaired {repairs} \
             times since then\n"
        )
    });
    let refused = status.refused.iter().map(|(what, why)| format!("refused: {what}: {why}\n"));
    let limited = status.limited_hosts.iter().map(|limited| {
        let LimitedHost { host, flows, sessions, not_stored } = limited;
        format!(
            "limited: host {host} begins more than its share: {flows} flows and {sessions} sticky \
             sessions are stored, {not_stored} more are not\n"
        )
    });
    conflicts.chain(throttled).chain(refused).chain(limited).collect()
}

/// Most failures that are listed on the line.
const SHOWN: usize = 3;

fn domains(domains: &Domains) -> String {
    let Domains { configured, resolved, failing } = domains;
    let each = failing.iter().take(SHOWN);
    let each: String = each.map(|(name, reason)| format!("; {name}: {reason}")).collect();
    let more = match failing.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!("; {more} more fail"),
    };
    format!("{resolved} of {configured} domains of rules are resolved{each}{more}\n")
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn domains_are_on_one_line() {
        let failing = |names: &[&str]| -> BTreeMap<String, String> {
            names.iter().map(|name| ((*name).to_owned(), "no answer".to_owned())).collect()
        };
        let line =
            |names| domains(&Domains { configured: 9, resolved: 4, failing: failing(names) });
        assert_eq!(line(&[]), "4 of 9 domains of rules are resolved\n");
        assert_eq!(
            line(&["a.br", "b.br", "c.br", "d.br", "e.br"]),
            "4 of 9 domains of rules are resolved; a.br: no answer; b.br: no answer; \
             c.br: no answer; 2 more fail\n"
        );
    }
}
