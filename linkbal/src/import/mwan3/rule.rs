//! `config rule`: which flows use which policy.

use super::network::Network;
use crate::import::{
    excluded::{self, MainTable},
    model::{Draft, Policy, Rule, Setting},
    note::Lines,
    uci::{Opt, Section},
    values::{self, one_or_list, quote},
};

/// Reads a rule.
pub(super) fn read(
    draft: &mut Draft,
    section: &Section,
    policies: &[(String, Policy)],
    network: Option<&Network>,
    main: &MainTable,
) {
    let mut rule =
        Rule { title: section.name.clone(), lines: section.line.into(), ..Rule::default() };
    let off = section.flag("enabled") == Some(false);
    if let Some(option) = section.get("enabled").filter(|_| off) {
        let lines: Lines = section.lines().collect();
        return draft.untranslated(lines.and(&option.line.into()), "the rule is not enabled");
    }
    addresses(&mut rule, section, "src_ip", "source");
    addresses(&mut rule, section, "dest_ip", "destination");
    whole_source(&mut rule, section);
    protocol(draft, &mut rule, section);
    family(&mut rule, section);
    sticky(draft, &mut rule, section);
    for option in &section.options {
        match &*option.key {
            "src_ip" | "dest_ip" | "src_port" | "dest_port" | "proto" | "family" | "sticky"
            | "timeout" | "use_policy" | "enabled" => draft.cover(option.line),
            "ipset" => {
                let file = quote(&format!("{}.txt", option.value));
                let value = format!("{{ file = {file} }}");
                rule.broken.push(format!(
                    "the addresses of the set `{}` are not in the input: write them as `domain`, or \
                     one on each line of a file, as destination = {value}",
                    option.value
                ));
                rule.matches.push(Setting::new("destination", value, option.line));
            }
            "src_iface" => interface(&mut rule, option, network),
            "logging" => draft.untranslated(option.line, "flows are not logged by rule"),
            key => rule.broken.push(format!("linkbal has nothing like `{key}`")),
        }
    }
    let lines: Lines = section.lines().collect();
    if section.get("use_policy").is_some_and(|option| option.value == "default")
        && !policies.iter().any(|(name, _)| name == "default")
    {
        excluded::leave(draft, rule, lines, main);
    } else if policy(draft, &mut rule, section, policies) {
        if !rule.broken.is_empty() {
            rule.lines = lines;
        }
        draft.rules.push(rule);
    }
}

fn addresses(rule: &mut Rule, section: &Section, key: &str, name: &str) {
    let (mut nets, mut lines) = (Vec::new(), Vec::new());
    for (text, line) in section.all(key) {
        lines.push(line);
        match values::prefixes(text) {
            Ok(found) => nets.extend(found),
            Err(why) => rule.broken.push(why),
        }
    }
    // A source that is all of a family is said by the destinations.
    if name == "source" && nets.iter().all(values::is_whole_family) {
        return;
    }
    if !nets.is_empty() {
        let value = one_or_list(&values::prefix_texts(&nets));
        rule.matches.push(Setting::new(name, value, lines.into_iter().collect::<Lines>()));
    }
}

/// Limits a rule to the family of a source that is all of it.
fn whole_source(rule: &mut Rule, section: &Section) {
    let nets = section.all("src_ip").filter_map(|(text, line)| {
        let nets = values::prefixes(text).ok()?;
        Some((nets.into_iter().find(values::is_whole_family)?, line))
    });
    let nets: Vec<_> = nets.collect();
    let addresses = ["source", "destination"];
    let limited = rule.matches.iter().any(|setting| addresses.contains(&&*setting.key));
    let (ipv4, ipv6) = (
        nets.iter().any(|(net, _)| net.addr().is_ipv4()),
        nets.iter().any(|(net, _)| net.addr().is_ipv6()),
    );
    if limited || ipv4 == ipv6 {
        return;
    }
    let all = if ipv4 { "0.0.0.0/0" } else { "::/0" };
    let lines: Lines = nets.iter().map(|(_, line)| *line).collect();
    rule.matches.push(Setting::new("destination", quote(all), lines));
}

fn protocol(draft: &mut Draft, rule: &mut Rule, section: &Section) {
    let protocol = section.get("proto");
    let mut with_ports = false;
    if let Some(option) = protocol {
        match values::protocols(&option.value) {
            Ok(None) => {}
            Ok(Some(names)) => {
                with_ports = names.iter().all(|name| ["\"tcp\"", "\"udp\""].contains(&&**name));
                rule.matches.push(Setting::new("protocol", one_or_list(&names), option.line));
            }
            Err(why) => rule.broken.push(why),
        }
    }
    for (key, name) in [("src_port", "sport"), ("dest_port", "dport")] {
        let Some(option) = section.get(key) else { continue };
        match values::ports(&option.value) {
            Ok(ports) if ports.is_empty() => draft.cover(option.line),
            Ok(_) if !with_ports && rule.matches.iter().any(|one| one.key == "protocol") => {
                draft.untranslated(option.line, "ports are those of tcp and udp only");
            }
            Ok(ports) => {
                if !with_ports {
                    let why = "mwan3 looks at ports only with proto `tcp` or `udp`; here they count, \
                               of both";
                    draft.changed(option.line, why);
                }
                rule.matches.push(Setting::new(name, one_or_list(&ports), option.line));
            }
            Err(why) => rule.broken.push(why),
        }
    }
}

/// Limits a rule to its family by its destinations.
fn family(rule: &mut Rule, section: &Section) {
    let Some(option) = section.get("family") else { return };
    let all = match &*option.value {
        "ipv4" => "0.0.0.0/0",
        "ipv6" => "::/0",
        _ => return,
    };
    let addresses = ["source", "destination"];
    if !rule.matches.iter().any(|setting| addresses.contains(&&*setting.key)) {
        rule.matches.push(Setting::new("destination", quote(all), option.line));
    }
}

fn sticky(draft: &mut Draft, rule: &mut Rule, section: &Section) {
    let timeout = section.get("timeout");
    let Some(option) = section.get("sticky").filter(|option| option.value == "1") else {
        if let Some(timeout) = timeout {
            draft.unneeded(timeout.line, "a timeout without `sticky`");
        }
        return;
    };
    let seconds = timeout.and_then(|option| option.value.parse::<u32>().ok()).unwrap_or(600);
    let idle = seconds.clamp(1, 86_400);
    let lines = timeout.map_or(Lines::default(), |option| option.line.into());
    if idle != seconds {
        draft.changed(lines.clone(), "sessions live from 1 second to a day");
    }
    let value = format!("{{ by = \"src\", idle = {} }}", quote(&format!("{idle}s")));
    rule.sticky = Some(Setting::new("sticky", value, lines.and(&option.line.into())));
}

fn interface(rule: &mut Rule, option: &Opt, network: Option<&Network>) {
    let device = network.and_then(|network| network.get(&option.value)?.device.clone());
    match device {
        Some(device) => rule.matches.push(Setting::new("interface", quote(&device), option.line)),
        None => rule.broken.push(format!(
            "the device of the network `{}` is not known: give --network",
            option.value
        )),
    }
}

/// Sets what the rule uses; returns whether it stays a rule.
fn policy(
    draft: &mut Draft,
    rule: &mut Rule,
    section: &Section,
    policies: &[(String, Policy)],
) -> bool {
    let lines: Lines = section.lines().collect();
    let Some(option) = section.get("use_policy") else {
        draft.untranslated(lines, "the rule names no policy");
        return false;
    };
    if let Some((_, policy)) = policies.iter().find(|(name, _)| *name == option.value) {
        let mut policy = policy.clone();
        policy.lines = policy.lines.and(&option.line.into());
        rule.policy = Some(policy);
        return true;
    }
    match &*option.value {
        "unreachable" | "blackhole" => {
            draft.untranslated(lines, "linkbal refuses no flows by rule: a firewall does");
        }
        name => draft.untranslated(lines, format!("there is no policy `{name}`")),
    }
    false
}
