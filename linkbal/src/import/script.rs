//! Shell scripts with `ip route`, `ip rule`, iptables marks and pings.

mod bond;
mod chains;
mod chance;
mod conditions;
mod facts;
mod host;
mod ip_rule;
mod iptables;
mod keys;
mod leave;
mod marks;
mod nat;
mod order;
mod probe;
mod routes;
mod shares;
mod sort;
mod uplink;
mod within;

use self::facts::Facts;
use super::{
    model::{Draft, Rule, Setting},
    note::{IPV4_ALONE, Lines, NoteKind},
    shell::{self, Command, UNKNOWN},
    values::quote,
};

/// Reads a script.
///
/// # Errors
/// The part that is missing, if it sets up no uplinks.
pub(super) fn read(text: &str) -> Result<Draft, String> {
    let script = shell::read(text);
    let mut draft =
        Draft { significant: script.significant.iter().copied().collect(), ..Draft::default() };
    let mut facts = Facts::new(&script);
    for command in &script.commands {
        if command.control {
            draft.cover(lines_of(command));
        } else if command.undoing {
            draft.unneeded(lines_of(command), "undoes what the script did: `linkbal teardown`");
        } else {
            sort::command(&mut draft, &mut facts, command);
        }
    }
    if !script.beyond.is_empty() {
        let lines: Lines = script.beyond.iter().copied().collect();
        draft.untranslated(lines, "its loops have more turns than are read: the last are left out");
    }
    facts.join_tables();
    routes::uplinks(&mut draft, &mut facts);
    if draft.uplinks.is_empty() {
        let mut missing =
            "no command in it makes a default route, as `ip route add default via ..`".to_owned();
        if !facts.unknown_defaults.is_empty() {
            let lines = &facts.unknown_defaults;
            missing += &format!(" (in {lines} a value is known only when it runs)");
        }
        return Err(missing);
    }
    bond::write(&mut draft, &facts);
    order::rules(&mut draft, &facts);
    if !marks::statistic::is_unknown(&draft) {
        shares::set(&mut draft, &facts);
    }
    nat::write(&mut draft, &facts);
    probe::write(&mut draft, &facts);
    lan(&mut draft, &facts);
    draft.removal = leave::steps(&script, &facts, &draft);
    if !facts.has_ipv6() {
        draft.note(NoteKind::Changed, Lines::default(), IPV4_ALONE);
    }
    Ok(draft)
}

/// Says why a rule under a condition is a comment.
const DOUBTFUL: &str = "the script sets it only under a condition";

/// Returns the lines of a command.
fn lines_of(command: &Command) -> Lines {
    (command.line..=command.last_line).collect()
}

/// Returns whether a value is only known when the script runs.
fn is_unknown(text: &str) -> bool {
    text.contains(UNKNOWN)
}

/// Returns whether a text is the mark of packets without one.
fn is_unmarked(text: &str) -> bool {
    let number = text.split('/').next().unwrap_or_default();
    matches!(number, "0" | "0x0" | "0x00" | "0X0")
}

/// Limits a rule to its family if it names no addresses. Without IPv6 in the script, those of IPv4 are
/// for all flows.
fn limit_family(rule: &mut Rule, facts: &Facts, ipv6: bool) {
    let addresses = ["source", "destination"];
    let named = rule.matches.iter().any(|setting| addresses.contains(&&*setting.key));
    if named || !(ipv6 || facts.has_ipv6()) {
        return;
    }
    let all = if ipv6 { "::/0" } else { "0.0.0.0/0" };
    rule.matches.push(Setting::new("destination", quote(all), rule.lines.clone()));
}

/// Adds interfaces of the LAN that a variable is named for, if none is known.
fn lan(draft: &mut Draft, facts: &Facts) {
    if !draft.lan.is_empty() {
        return;
    }
    for variable in &facts.variables {
        let Some(device) = variable.values.first() else { continue };
        let taken = draft.uplinks.iter().any(|uplink| uplink.device.name() == Some(device))
            || facts.outward.contains(device);
        if is_named_lan(&variable.name) && !taken && facts::looks_like_device(device) {
            draft.add_lan(device, variable.line);
        }
    }
}

/// Returns whether a variable is named for the LAN, by whole words: `IF_LAN`, but not `INTERNET`.
fn is_named_lan(name: &str) -> bool {
    const INSIDE: [&str; 14] = [
        "lan", "lanif", "iflan", "landev", "devlan", "interna", "interno", "inside", "intern",
        "internal", "local", "intranet", "rede", "reti",
    ];
    const OUTSIDE: [&str; 7] = ["internet", "inet", "wan", "vlan", "link", "isp", "ext"];
    let name = name.to_ascii_lowercase();
    let words = || name.split(|c: char| !c.is_ascii_alphabetic());
    words().any(|word| INSIDE.contains(&word)) && !words().any(|word| OUTSIDE.contains(&word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_named_for_the_lan_by_whole_words() {
        for name in ["LAN", "IF_LAN", "LAN1", "PLACA_INTERNA", "if_local", "LANIF", "REDE_I"] {
            assert!(is_named_lan(name), "{name}");
        }
        for name in ["INTERNET", "IF_INTERNET", "VLAN", "WLAN", "VLAN_WAN", "LAN_LINK", "PLAN"] {
            assert!(!is_named_lan(name), "{name}");
        }
    }
}
