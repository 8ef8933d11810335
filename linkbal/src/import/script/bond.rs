//! Bonds, and what is said of network cards.

use super::{facts::Facts, lines_of, routes::value_of};
use crate::import::{
    model::{Bond, Draft, Setting},
    note::Lines,
    shell::Command,
    values::{list, quote},
};

/// Modes by number, as the kernel counts them.
const MODES: [&str; 7] = [
    "balance-rr",
    "active-backup",
    "balance-xor",
    "broadcast",
    "802.3ad",
    "balance-tlb",
    "balance-alb",
];

const KEPT: &str = "devices and their addresses stay yours, but for those of a bond";

/// Reads `modprobe`.
pub(super) fn modprobe(draft: &mut Draft, facts: &mut Facts, command: &Command, words: &[&str]) {
    let lines = lines_of(command);
    if !words.contains(&"bonding") {
        return draft.unneeded(lines, "linkbal loads the modules that it needs");
    }
    let bond = facts.bond("bond0");
    bond.lines = bond.lines.clone().and(&lines);
    for (key, value) in words.iter().filter_map(|word| word.split_once('=')) {
        bond.options.push((key.into(), value.into(), lines.clone()));
    }
}

/// Reads `ifenslave`.
pub(super) fn ifenslave(draft: &mut Draft, facts: &mut Facts, command: &Command, words: &[&str]) {
    let lines = lines_of(command);
    if words.contains(&"-d") {
        return draft.unneeded(lines, "members leave a bond with its configuration");
    }
    let mut names = words.iter().filter(|word| !word.starts_with('-'));
    let Some(name) = names.next() else { return draft.cover(lines) };
    let bond = facts.bond(name);
    bond.lines = bond.lines.clone().and(&lines);
    bond.members.extend(names.map(|member| ((*member).to_owned(), lines.clone())));
}

/// Reads what is written to /sys/class/net/bond0/bonding.
pub(super) fn sysfs(
    draft: &mut Draft,
    facts: &mut Facts,
    command: &Command,
    into: &str,
    words: &[&str],
) {
    let lines = lines_of(command);
    let value = words.first().copied().unwrap_or_default();
    let parts: Vec<&str> = into.split('/').collect();
    match parts.as_slice() {
        [.., name, "bonding", "slaves"] => {
            if let Some(member) = value.strip_prefix('+') {
                facts.bond(name).members.push((member.into(), lines.clone()));
            }
        }
        [.., name, "bonding", option] => {
            facts.bond(name).options.push(((*option).into(), value.into(), lines.clone()));
        }
        _ => {
            if let Some(name) = value.strip_prefix('+') {
                facts.bond(name);
            }
        }
    }
    draft.cover(lines);
}

/// Reads `ifconfig`.
pub(super) fn ifconfig(draft: &mut Draft, facts: &mut Facts, command: &Command, words: &[&str]) {
    let lines = lines_of(command);
    let Some((device, rest)) = words.split_first() else { return draft.cover(lines) };
    if rest.first().is_some_and(|word| word.parse::<std::net::Ipv4Addr>().is_ok()) {
        let mask = value_of(rest, &["netmask"]).unwrap_or("255.255.255.0");
        let length =
            mask.parse().ok().and_then(|mask| ipnet::ipv4_mask_to_prefix(mask).ok()).unwrap_or(24);
        facts.addresses.push(((*device).into(), format!("{}/{length}", rest[0]), lines.clone()));
    }
    if rest.starts_with(&["hw", "ether"])
        && let Some(mac) = rest.get(2)
    {
        facts.links.push(((*device).into(), "mac", mac.to_lowercase(), lines.clone()));
    }
    if rest.contains(&"promisc") {
        facts.links.push(((*device).into(), "promisc", "true".into(), lines.clone()));
    }
    draft.unneeded(lines, KEPT);
}

/// Reads `ip addr`.
pub(super) fn ip_address(draft: &mut Draft, facts: &mut Facts, command: &Command, words: &[&str]) {
    let lines = lines_of(command);
    let device = value_of(words, &["dev"]);
    if let (Some(&("add" | "replace")), Some(device)) = (words.first(), device) {
        let address = words.get(1).copied().unwrap_or_default();
        let address =
            if address.contains('/') { address.to_owned() } else { format!("{address}/32") };
        facts.addresses.push((device.into(), address, lines.clone()));
    }
    draft.unneeded(lines, KEPT);
}

/// Reads `ip link`.
pub(super) fn ip_link(draft: &mut Draft, facts: &mut Facts, command: &Command, words: &[&str]) {
    let lines = lines_of(command);
    let named = value_of(words, &["dev", "name"]);
    let second = words.get(1).copied().filter(|word| !matches!(*word, "dev" | "link" | "name"));
    let Some(device) = named.or(second) else { return draft.unneeded(lines, KEPT) };
    if value_of(words, &["type"]) == Some("bond") {
        let bond = facts.bond(device);
        bond.lines = bond.lines.clone().and(&lines);
        for key in [
            "mode",
            "miimon",
            "arp_interval",
            "arp_ip_target",
            "primary",
            "lacp_rate",
            "xmit_hash_policy",
        ] {
            if let Some(value) = value_of(words, &[key]) {
                bond.options.push((key.into(), value.into(), lines.clone()));
            }
        }
        return;
    }
    if let Some(master) = value_of(words, &["master"]) {
        if facts.bonds.iter().any(|bond| bond.name == master) || master.starts_with("bond") {
            facts.bond(master).members.push((device.into(), lines.clone()));
            return draft.cover(lines);
        }
        return draft.unneeded(lines, KEPT);
    }
    if let Some(mac) = value_of(words, &["address"]) {
        facts.links.push((device.into(), "mac", mac.to_lowercase(), lines.clone()));
    }
    if let Some(mtu) = value_of(words, &["mtu"]) {
        facts.links.push((device.into(), "mtu", mtu.into(), lines.clone()));
    }
    if value_of(words, &["promisc"]) == Some("on") {
        facts.links.push((device.into(), "promisc", "true".into(), lines.clone()));
    }
    draft.unneeded(lines, KEPT);
}

/// Writes the bonds that have members.
pub(super) fn write(draft: &mut Draft, facts: &Facts) {
    for found in &facts.bonds {
        if found.members.is_empty() {
            let options = found.options.iter();
            let lines = options.fold(found.lines.clone(), |all, (_, _, lines)| all.and(lines));
            draft.untranslated(lines, "the script puts no network cards into this bond");
            continue;
        }
        let mut bond =
            Bond { name: found.name.clone(), lines: found.lines.clone(), ..Bond::default() };
        let mut names: Vec<String> = Vec::new();
        let mut lines = Lines::default();
        for (name, of) in &found.members {
            if !names.contains(&quote(name)) {
                names.push(quote(name));
            }
            lines = lines.and(of);
        }
        options(draft, &mut bond, &found.options);
        bond.settings.push(Setting::new("members", list(&names), lines));
        of_cards(
            &mut bond,
            facts,
            &found.members.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        );
        draft.bonds.push(bond);
    }
}

fn options(draft: &mut Draft, bond: &mut Bond, options: &[(String, String, Lines)]) {
    let by_arp = options.iter().any(|(key, ..)| key == "arp_interval");
    let mut mode = "balance-rr".to_owned();
    let mut mode_lines = Lines::default();
    for (key, value, lines) in options {
        let setting = |key: &str, value: String| Setting::new(key, value, lines.clone());
        match &**key {
            "mode" => {
                let number = value.parse::<usize>().ok().and_then(|number| MODES.get(number));
                mode = number.map_or(value.clone(), |name| (*name).to_owned());
                mode_lines = lines.clone();
            }
            "miimon" if !by_arp && value.parse::<u32>().is_ok_and(|number| number > 0) => {
                bond.settings.push(setting("miimon", value.clone()));
            }
            "arp_interval" if value.parse::<u32>().is_ok() => {
                bond.settings.push(setting("arp_interval", value.clone()));
            }
            "arp_ip_target" if by_arp => {
                let targets: Vec<String> =
                    value.split(',').map(|one| quote(one.trim_start_matches('+'))).collect();
                bond.settings.push(setting("arp_ip_targets", list(&targets)));
            }
            "primary" | "lacp_rate" | "xmit_hash_policy" | "arp_validate" => {
                bond.settings.push(setting(key, quote(value)));
            }
            "arp_ip_target" => draft.untranslated(
                lines.clone(),
                "arp_ip_target without arp_interval asks no host: the carrier decides",
            ),
            "miimon" => {
                draft.changed(lines.clone(), "miimon beside arp_interval, or of 0, has no effect");
            }
            key => draft.untranslated(lines.clone(), format!("bonds have no `{key}` here")),
        }
    }
    let setting = Setting::new("mode", quote(&mode), mode_lines.clone());
    let remark = if mode_lines.is_empty() { "the kernel's default" } else { "" };
    bond.settings.insert(0, setting.remark(remark));
}

/// Adds what is said of the bond or of its cards: the MAC address, flags, and addresses.
fn of_cards(bond: &mut Bond, facts: &Facts, members: &[&str]) {
    let of_bond = |device: &str| device == bond.name || members.contains(&device);
    let mut settings: Vec<Setting> = Vec::new();
    for (_, key, value, lines) in facts.links.iter().filter(|(device, ..)| of_bond(device)) {
        match settings.iter_mut().find(|known| known.key == *key) {
            Some(known) => known.lines = known.lines.clone().and(lines),
            None => {
                let value = if *key == "mac" { quote(value) } else { value.clone() };
                settings.push(Setting::new(key, value, lines.clone()));
            }
        }
    }
    let own = facts.addresses.iter().filter(|(device, ..)| *device == bond.name);
    let (mut addresses, mut from): (Vec<String>, Lines) = Default::default();
    for (_, address, lines) in own {
        addresses.push(quote(address));
        from = from.and(lines);
    }
    if !addresses.is_empty() {
        settings.push(Setting::new("addresses", list(&addresses), from));
    }
    bond.settings.extend(settings);
}
