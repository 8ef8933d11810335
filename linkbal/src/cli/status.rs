//! The status as a table for people.

pub(super) mod watch;

use std::fmt;

use comfy_table::{Cell, CellAlignment, Table, presets};

use super::{local_time::Zone, notify::problem};
use crate::{
    api::status::{
        Bond, CapacityStatus, ConfigurationStatus, Domains, Fallback, FamilyStatus, Ipv6Mode,
        LimitedHost, Load, Missing, Shortcuts, Status, ThrottledStatus, Uplink, UplinkShortcuts,
    },
    bytes::{bit_rate, bytes},
    engine::{admin::AdminState, health::State, kernel::conflict::Conflict},
};

/// A column: its title, whether it has words rather than numbers, and whether only `--wide` shows it.
struct Column {
    title: &'static str,
    align: CellAlignment,
    width: Width,
}

/// Widths of the table that have a column.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Width {
    /// All.
    Any,
    /// Wide tables alone, which have all columns.
    Wide,
}

const fn text(title: &'static str, width: Width) -> Column {
    Column { title, align: CellAlignment::Left, width }
}

const fn number(title: &'static str, width: Width) -> Column {
    Column { title, align: CellAlignment::Right, width }
}

/// The columns. Without the wide ones they are 80 characters with names of up to 12.
const COLUMNS: [Column; 12] = [
    text("UPLINK", Width::Any),
    text("DEVICE", Width::Wide),
    number("TIER", Width::Any),
    text("STATE", Width::Any),
    text("SINCE", Width::Wide),
    number("LOSS", Width::Any),
    number("LATENCY", Width::Any),
    number("FLOWS", Width::Any),
    number("PACKETS", Width::Wide),
    number("BYTES", Width::Wide),
    number("TARGET", Width::Any),
    number("ACTUAL", Width::Any),
];

const PENDING: &str = "not in place yet: programs, routes, ip rules or the nft table\n";

/// Most lines of the reason why a configuration was refused.
const REASON_LINES: usize = 12;

/// Renders the status, with all columns if it is `wide`, and times in a zone.
pub(super) fn render(status: &Status, wide: bool, zone: &Zone) -> String {
    let left_out = status.lan.iter().filter_map(|lan| {
        let reason = lan.no_shortcuts.as_ref()?;
        Some(format!("{} takes no shortcuts: {reason}\n", lan.interface))
    });
    let left_out: String = left_out.collect();
    let bonds: String = status.bonds.iter().map(bond).collect();
    let reasons: String =
        in_tiers(status).into_iter().flat_map(|uplink| reasons(uplink, zone)).collect();
    let domains = status.domains.as_ref().map(domains).unwrap_or_default();
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
    let memory = bytes(status.memory.bytes);
    let (alarms, problems) = (alarms(status, zone), problems(status, zone));
    let configuration = configuration(&status.configuration, zone);
    let (rows, window) = (table(status, wide, zone), window(status));
    format!(
        "{rows}{window}\n{alarms}{bonds}{reasons}{domains}{problems}{left_out}{shortcuts}\
         {without_xdp}{offloaded}{configuration}map memory: {memory}\n"
    )
}

/// Says what of linkbal as a whole is not as it should be, or not as usual.
pub(super) fn alarms(status: &Status, zone: &Zone) -> String {
    let pending = if status.installed { "" } else { PENDING };
    let missing = status.lan.iter().filter(|lan| !lan.exists);
    let missing: String =
        missing.map(|lan| format!("LAN interface {} does not exist\n", lan.interface)).collect();
    let drill = status.drill.iter();
    let drill: String = drill.map(|uplink| format!("drill active on {uplink}\n")).collect();
    let trial = status.confirm_within_s.iter();
    let trial: String = trial
        .map(|left| {
            format!("on trial: `linkbal confirm` within {left} s, or the configuration before comes back\n")
        })
        .collect();
    let last_good = status.configuration.last_good.iter().map(|good| {
        let (file, saved) = (&status.configuration.file, zone.show(&good.saved));
        format!(
            "the last good configuration, of {saved}, is in force, since {file} could not be used at \
             the start: {}; correct it, then `linkbal check` and `linkbal reload`\n",
            good.reason
        )
    });
    let last_good: String = last_good.collect();
    let receivers = status
        .receivers
        .iter()
        .filter_map(|receiver| Some(format!("notify {}: {}\n", receiver.name, problem(receiver)?)));
    let receivers: String = receivers.collect();
    let fallbacks: String = status.fallbacks.iter().map(fallback).collect();
    [pending, &last_good, &missing, &drill, &trial, &fallbacks, &receivers].concat()
}

/// Renders the table of uplinks, in the order of tiers.
fn table(status: &Status, wide: bool, zone: &Zone) -> String {
    let shown = || COLUMNS.iter().filter(|column| wide || column.width == Width::Any);
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(shown().map(|column| align(column, column.title.into())));
    for uplink in in_tiers(status) {
        for (at, (family, health)) in uplink.families().enumerate() {
            let cells = COLUMNS.iter().zip(row(uplink, family.name(), health, at == 0, zone));
            let cells = cells.filter(|(column, _)| wide || column.width == Width::Any);
            table.add_row(cells.map(|(column, cell)| align(column, cell)));
        }
    }
    let lines = table.to_string();
    lines.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

fn align(column: &Column, text: String) -> Cell {
    Cell::new(text).set_alignment(column.align)
}

/// Returns the uplinks in the order of tiers, and of names within them.
pub(super) fn in_tiers(status: &Status) -> Vec<&Uplink> {
    let mut uplinks: Vec<&Uplink> = status.uplinks.iter().collect();
    uplinks.sort_by(|a, b| (a.tier, &a.name).cmp(&(b.tier, &b.name)));
    uplinks
}

/// Says what two of the columns count.
fn window(status: &Status) -> String {
    let window = match status.recent_window_s {
        0..10 => "since the start".to_owned(),
        seconds @ 10..100 => format!("in the last {seconds} s"),
        seconds => format!("in the last {} min", seconds / 60),
    };
    format!("FLOWS: live ones. ACTUAL: share of the flows that began {window}.\n")
}

/// The state of a family as people are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// The state by its health.
    Is(State),
    /// Up, and drained.
    Draining,
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shown::Is(state) => state.fmt(f),
            Shown::Draining => f.pad("draining"),
        }
    }
}

/// Returns the state of a family as people are told.
pub(super) fn state(uplink: &Uplink, health: &FamilyStatus) -> Shown {
    let drains = uplink.admin == AdminState::Drained && health.state.is_up();
    if drains { Shown::Draining } else { Shown::Is(health.state) }
}

/// Returns the row of a family; values of the uplink as a whole are in the first one only.
fn row(
    uplink: &Uplink,
    family: &str,
    health: &FamilyStatus,
    first: bool,
    zone: &Zone,
) -> [String; COLUMNS.len()] {
    let whole = |text: String| if first { text } else { String::new() };
    let unknown = || "-".to_owned();
    [
        whole(uplink.name.clone()),
        whole(uplink.interface.clone()),
        whole(uplink.tier.to_string()),
        format!("{family} {}", state(uplink, health)),
        zone.show(&health.since),
        percent(health.loss),
        health.latency_ms.map_or_else(unknown, |latency| format!("{latency:.1} ms")),
        whole(uplink.live_flows.map_or_else(unknown, |flows| flows.to_string())),
        whole(uplink.packets.to_string()),
        whole(bytes(uplink.bytes)),
        percent(health.target_share),
        whole(uplink.actual_share.map_or_else(unknown, percent)),
    ]
}

/// Returns the sentences about an uplink.
pub(super) fn reasons(uplink: &Uplink, zone: &Zone) -> Vec<String> {
    let name = &uplink.name;
    let each = uplink.families();
    let reasons = each.map(|(family, health)| reason(name, family.name(), health, zone));
    let drained = (uplink.admin == AdminState::Drained).then(|| draining(uplink));
    let off = (uplink.ipv6_mode == Ipv6Mode::Off)
        .then(|| format!("{name} ipv6 is off: the configuration says so\n"));
    let shortcuts = uplink.shortcuts.as_ref().map(|shortcuts| of_uplink(uplink, shortcuts));
    reasons.chain([carries(uplink)]).chain(shortcuts).chain(drained).chain(off).collect()
}

/// Says why a family of an uplink is in its state, and what brings it back.
pub(super) fn reason(name: &str, family: &str, health: &FamilyStatus, zone: &Zone) -> String {
    let FamilyStatus { state, since, reason, remedy, .. } = health;
    let remedy = remedy.iter().map(|remedy| format!("; {remedy}")).collect::<String>();
    format!("{name} {family} is {state} since {}: {reason}{remedy}\n", zone.show(since))
}

/// Says how far an uplink is drained, and what to do then.
pub(super) fn draining(uplink: &Uplink) -> String {
    let name = &uplink.name;
    if uplink.target_share > 0.0 {
        return format!("{name} is draining, but new flows use it: no other uplink is usable\n");
    }
    let left = match uplink.live_flows {
        None => String::new(),
        Some(0) => format!("; no live flow is left: `linkbal disable {name}` takes it out of use"),
        Some(1) => "; 1 live flow is left".into(),
        Some(left) => format!("; {left} live flows are left"),
    };
    format!("{name} is draining: new flows avoid it{left}\n")
}

/// Says which tier new flows use in place of which uplinks.
fn fallback(fallback: &Fallback) -> String {
    let Fallback { families, tier, instead_of } = fallback;
    let each = instead_of.iter();
    let missing: Vec<String> = each
        .map(|Missing { uplink, tier, state }| format!("{uplink} (tier {tier}) is {state}"))
        .collect();
    let missing = missing.join(", ");
    let only = match &families[..] {
        [family] => format!("{family} "),
        _ => String::new(),
    };
    match tier {
        Some(tier) => format!("{missing}: new {only}flows use tier {tier}\n"),
        None => format!(
            "{missing}: no uplink is usable for new {only}flows, which leave without a mark, by the best \
             one with a gateway\n"
        ),
    }
}

/// Says which file is in force, and why what it holds by now is not.
fn configuration(configuration: &ConfigurationStatus, zone: &Zone) -> String {
    let ConfigurationStatus { file, since, refused, last_good } = configuration;
    let refused = refused.as_ref().map(|refused| {
        let mut lines = refused.error.lines();
        let shown: Vec<&str> = lines.by_ref().take(REASON_LINES).collect();
        let more = if lines.next().is_some() { "\n.. (`linkbal check` shows all)" } else { "" };
        let (since, reason) = (zone.show(&refused.since), shown.join("\n"));
        format!("not in force: {file}, refused at {since}: {reason}{more}\n")
    });
    let refused = refused.unwrap_or_default();
    let since = zone.show(since);
    match (file.is_empty() || last_good.is_some(), refused.is_empty()) {
        // A daemon of an earlier version does not tell, and the last good one is told of above.
        (true, _) => refused,
        (_, true) => format!("configuration: {file}, in force since {since}\n"),
        (_, false) => format!("{refused}configuration: that of {file} of {since} is in force\n"),
    }
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
pub(super) fn problems(status: &Status, zone: &Zone) -> String {
    let conflicts = status.conflicts.iter().map(|conflict| match conflict {
        // What works together is told at length where it is asked for.
        Conflict { what, meaning, compatible: true, .. } => {
            format!("note: {what}: {meaning} (`linkbal plan` says more)\n")
        }
        Conflict { compatible: false, .. } => format!("conflict: {conflict}\n"),
    });
    let throttled = status.throttled.iter().map(|throttled| {
        let ThrottledStatus { what, since, by, repairs } = throttled;
        let by = by.as_deref().unwrap_or("an unknown program");
        let since = zone.show(since);
        format!(
            "conflict: {what} is undone again and again by {by} since {since}; repaired {repairs} \
             times since then\n"
        )
    });
    let refused = status.refused.iter().map(|(what, why)| format!("refused: {what}: {why}\n"));
    let limited = status.limited_hosts.iter().map(|limited| {
        let LimitedHost { host, flows, sessions, not_stored } = limited;
        format!(
            "limited: host {host} begins more than its quota: {flows} flows and {sessions} sticky \
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

/// Formats a share.
pub(super) fn percent(share: f64) -> String {
    let text = format!("{:.1} %", share * 100.0);
    // Narrower, and not less exact.
    if text == "100.0 %" { "100 %".into() } else { text }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;

    fn family(state: &str) -> Value {
        json!({
            "state": state, "since": "2026-11-22T02:08:43Z", "reason": "targets answer",
            "gateway": "192.0.2.1", "target_share": 1.0, "loss": 1.0, "latency_ms": 123.45, "degraded": false,
            "jitter_ms": 0.1,
        })
    }

    fn uplink(name: &str, tier: u32, admin: &str) -> Value {
        json!({
            "name": name, "interface": "enp0s31f6.2001", "index": 0, "weight": 1, "tier": tier,
            "fwmark": 1, "table": 2601, "state": "up", "admin": admin, "target_share": 1.0,
            "lifetime_share": 0.0, "flows": 4_000_000, "flows_moved_in": 0, "packets": 1, "bytes": 2,
            "live_flows": 1_048_576, "actual_share": 1.0,
            "load": {"down": 0, "up": 0, "capacity": null, "full": false},
            "ipv4": family("up"), "ipv6": family("down"), "ipv6_mode": "masquerade",
        })
    }

    pub(in crate::cli) fn status(change: impl FnOnce(&mut Value)) -> Status {
        let mut status = json!({
            "version": 1, "pid": 1, "started": "2026-11-22T02:08:40Z", "installed": true, "lan": [],
            "uplinks": [uplink("backup-lte-2", 2, "enabled"), uplink("isp-a", 1, "drained")],
            "domains": null, "counters": {}, "memory": {"bytes": 0, "maps": {}},
            "events_not_hooked": null, "drill": null, "confirm_within_s": null,
            "recent_window_s": 305,
            "configuration": {
                "file": "/etc/linkbal/linkbal.toml", "since": "2026-11-22T02:08:40Z",
                "refused": null, "last_good": null,
            },
        });
        change(&mut status);
        serde_json::from_value(status).expect("a status")
    }

    fn utc() -> Zone {
        Zone::utc()
    }

    #[test]
    fn the_table_has_80_columns_with_the_longest_values_and_is_in_the_order_of_tiers() {
        let text = table(&status(|_| {}), false, &utc());
        let widest = text.lines().map(|line| line.chars().count()).max();
        assert!(widest.is_some_and(|widest| widest <= 80), "{text}");
        let first: Vec<&str> =
            text.lines().filter_map(|line| line.split_whitespace().next()).collect();
        assert_eq!(first, ["UPLINK", "isp-a", "ipv6", "backup-lte-2", "ipv6"]);
        assert!(text.contains("ipv4 draining") && text.contains("1048576"), "{text}");
        let wide = table(&status(|_| {}), true, &utc());
        assert!(wide.contains("enp0s31f6.2001") && wide.contains("2026-11-22 02:08:43 UTC"));
    }

    #[test]
    fn a_drained_uplink_says_how_many_flows_are_left() {
        let left = |count: Option<u64>| {
            let status = status(|status| {
                status["uplinks"][1]["live_flows"] = json!(count);
                status["uplinks"][1]["target_share"] = json!(0.0);
            });
            render(&status, false, &utc())
        };
        let alone = render(&status(|_| {}), false, &utc());
        assert!(alone.contains("isp-a is draining, but new flows use it"), "{alone}");
        assert!(
            left(Some(7))
                .contains("isp-a is draining: new flows avoid it; 7 live flows are left\n")
        );
        assert!(left(Some(0)).contains("`linkbal disable isp-a`"));
        assert!(left(None).contains("isp-a is draining: new flows avoid it\n"));
    }

    #[test]
    fn it_says_what_new_flows_fell_back_to() {
        let missing = json!([
            {"uplink": "isp-a", "tier": 1, "state": "down"},
            {"uplink": "isp-b", "tier": 1, "state": "draining"},
        ]);
        let text = |families: Value, tier: Value| {
            let found = json!([{"families": families, "tier": tier, "instead_of": missing}]);
            render(&status(|status| status["fallbacks"] = found), false, &utc())
        };
        let both = text(json!(["ipv4", "ipv6"]), json!(2));
        let expected = "isp-a (tier 1) is down, isp-b (tier 1) is draining: new flows use tier 2\n";
        assert!(both.contains(expected), "{both}");
        assert!(text(json!(["ipv6"]), json!(3)).contains(": new ipv6 flows use tier 3\n"));
        assert!(
            text(json!(["ipv4"]), json!(null)).contains(": no uplink is usable for new ipv4 flows")
        );
    }

    #[test]
    fn a_refused_file_stays_in_sight_with_its_error() {
        let refused = json!({"since": "2026-11-22T03:00:00Z", "error": "line 1\nline 2"});
        let text =
            render(&status(|status| status["configuration"]["refused"] = refused), false, &utc());
        let expected = "not in force: /etc/linkbal/linkbal.toml, refused at 2026-11-22 03:00:00 UTC: \
                        line 1\nline 2\nconfiguration: that of /etc/linkbal/linkbal.toml of \
                        2026-11-22 02:08:40 UTC is in force\n";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn shares_are_of_a_stated_window() {
        assert!(window(&status(|_| {})).ends_with("in the last 5 min.\n"));
        let young = status(|status| status["recent_window_s"] = json!(42));
        assert!(window(&young).ends_with("in the last 42 s.\n"));
    }

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
