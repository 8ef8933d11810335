//! `config interface`: an uplink and how it is tracked.

use super::network::Network;
use crate::import::{
    model::{Device, Draft, Setting, Uplink},
    note::{Lines, NoteKind},
    uci::{Opt, Section},
    values::{self, list, quote},
};

/// Reads all interfaces. Returns those that became a part of another one: of the same device, for the
/// other family.
pub(super) fn read_all(
    draft: &mut Draft,
    sections: &[Section],
    network: Option<&Network>,
) -> Vec<(String, String)> {
    let interfaces = sections.iter().filter(|section| section.kind == "interface");
    let (mut enabled, mut merged) = (Vec::new(), Vec::new());
    for section in interfaces {
        if section.flag("enabled") == Some(true) {
            enabled.push(section);
        } else {
            let why = format!("`{}` is not enabled, so it is no uplink", section.name);
            draft.untranslated(section.lines().collect::<Lines>(), why);
        }
    }
    for section in &enabled {
        let partner = partner(section, &enabled, network);
        if let Some(partner) = partner {
            let why = format!(
                "an uplink has both families: `{}` is a part of `{}`, whose tracking counts",
                section.name, partner
            );
            draft.changed(section.lines().collect::<Lines>(), why);
            merged.push((section.name.clone(), partner));
            continue;
        }
        let both = enabled.iter().any(|other| {
            partner_of(other, section, network) && is_ipv6(other) && !is_ipv6(section)
        });
        read(draft, section, network, both);
    }
    merged
}

/// Returns the name of the interface of IPv4 on the same device, for one of IPv6.
fn partner(section: &Section, all: &[&Section], network: Option<&Network>) -> Option<String> {
    if !is_ipv6(section) {
        return None;
    }
    let of = |other: &&&Section| !is_ipv6(other) && partner_of(section, other, network);
    all.iter().find(of).map(|other| other.name.clone())
}

fn is_ipv6(section: &Section) -> bool {
    section.get("family").is_some_and(|option| option.value == "ipv6")
}

/// Returns whether two interfaces have one device, or names like `wan6` and `wan`.
fn partner_of(ipv6: &Section, ipv4: &Section, network: Option<&Network>) -> bool {
    let device = |section: &Section| network?.get(&section.name)?.device.clone();
    match (device(ipv6), device(ipv4)) {
        (Some(a), Some(b)) => a == b && ipv6.name != ipv4.name,
        _ => [format!("{}6", ipv4.name), format!("{}_6", ipv4.name)].contains(&ipv6.name),
    }
}

fn read(draft: &mut Draft, section: &Section, network: Option<&Network>, both: bool) {
    let known = network.and_then(|network| network.get(&section.name));
    let device = match known.and_then(|known| known.device.clone()) {
        Some(device) => Device::Known(device, section.line.into()),
        None if values::is_device(&section.name) => {
            Device::Guessed(section.name.clone(), section.line.into())
        }
        None => Device::Unknown,
    };
    let mut uplink = Uplink::new(&section.name, section.line, device);
    if let Some(gateway) = known.and_then(|known| known.gateway) {
        let setting = Setting::new("gateway", quote(&gateway.to_string()), Lines::default());
        uplink.settings.push(setting.remark("of the file of networks"));
    }
    for option in &section.options {
        translate(draft, &mut uplink, section, option, both);
    }
    if !section.options.iter().any(|option| option.key == "family") && !both {
        let setting = Setting::new("ipv6", quote("off"), section.line);
        uplink.settings.push(setting.remark("mwan3's default family is ipv4"));
    }
    targets(draft, &mut uplink, section);
    quality(draft, &mut uplink, section);
    draft.uplinks.push(uplink);
}

/// Translates an option that stands for itself.
fn translate(draft: &mut Draft, uplink: &mut Uplink, section: &Section, option: &Opt, both: bool) {
    let line = option.line;
    let Opt { key, value, .. } = option;
    let last = section.get(key).is_some_and(|last| last.line == line);
    match &**key {
        // Of the targets, see `targets`; of the quality, see `quality`.
        "enabled" | "track_ip" | "reliability" | "track_method" | "httping_ssl" => {
            draft.cover(line);
        }
        "check_quality" | "failure_latency" | "failure_loss" => draft.cover(line),
        "family" => match &**value {
            "ipv4" if both => draft.cover(line),
            "ipv4" => uplink.settings.push(Setting::new("ipv6", quote("off"), line)),
            _ => draft.changed(line, "an uplink is used for IPv4, too, if it has an address"),
        },
        "interval" => seconds(draft, uplink, "interval", option, 1, 3600, last),
        "timeout" => seconds(draft, uplink, "timeout", option, 1, 60, last),
        "down" => count(draft, uplink, "failure_count", option, last),
        "up" => count(draft, uplink, "success_count", option, last),
        "flush_conntrack" => flush(draft, uplink, section, option),
        "count" if value == "1" => draft.cover(line),
        "initial_state" if value == "online" => {
            draft
                .unneeded(line, "an uplink that was never down comes up with its first good round");
        }
        _ => draft.untranslated(line, reason(key, value)),
    }
}

/// Returns why an option has no translation.
fn reason(key: &str, value: &str) -> String {
    let why = match key {
        "count" => "each target is asked once in a round",
        "size" | "max_ttl" => "size and TTL of pings are fixed",
        "initial_state" => "each uplink is up with its first good round, and not before",
        "failure_interval" | "recovery_interval" | "keep_failure_interval" => {
            "rounds have one `interval`, whatever the state; traffic without answers makes pings faster"
        }
        "recovery_latency" | "recovery_loss" => {
            "a degraded uplink is good again below 80 % of its limits"
        }
        "httping_user_agent" => "requests have no user agent of yours",
        "local_source" => "connections of the gateway leave with their uplink's address",
        _ => return format!("linkbal has nothing like `{key}` ({value})"),
    };
    why.into()
}

fn seconds(
    draft: &mut Draft,
    uplink: &mut Uplink,
    key: &str,
    option: &Opt,
    low: u32,
    high: u32,
    last: bool,
) {
    match option.value.parse::<u32>() {
        _ if !last => draft.untranslated(option.line, "a later line says it again"),
        Ok(number) => {
            let fit = number.clamp(low, high);
            if fit != number {
                draft.changed(option.line, format!("`{key}` is from {low} to {high} seconds"));
            }
            uplink.probe.push(Setting::new(key, quote(&format!("{fit}s")), option.line));
        }
        Err(_) => draft.untranslated(option.line, "no number of seconds"),
    }
}

fn count(draft: &mut Draft, uplink: &mut Uplink, key: &str, option: &Opt, last: bool) {
    match option.value.parse::<u32>() {
        _ if !last => draft.untranslated(option.line, "a later line says it again"),
        Ok(number) => {
            let fit = number.clamp(1, 1000);
            if fit != number {
                draft.changed(option.line, format!("`{key}` is from 1 to 1000"));
            }
            uplink.probe.push(Setting::new(key, fit.to_string(), option.line));
        }
        Err(_) => draft.untranslated(option.line, "no number"),
    }
}

/// Translates the treatment of connections when the interface goes.
fn flush(draft: &mut Draft, uplink: &mut Uplink, section: &Section, option: &Opt) {
    let said = uplink.settings.iter().any(|setting| setting.key == "on_down");
    for event in option.value.split_whitespace() {
        let value = match event {
            "never" => "keep",
            "ifdown" | "disconnected" | "always" => "reset",
            "ifup" | "connected" => {
                // Said for all interfaces at once.
                draft.cover(option.line);
                continue;
            }
            other => {
                draft.untranslated(option.line, format!("the event `{other}` is not known"));
                continue;
            }
        };
        if said {
            draft.cover(option.line);
            continue;
        }
        let lines: Lines = section
            .all("flush_conntrack")
            .filter(|(other, _)| *other == event)
            .map(|(_, line)| line)
            .collect();
        let remark = match value {
            "keep" => "its connections wait for it; the default \"reset\" tells clients at once",
            _ => "only its own connections end, not all of the table",
        };
        uplink.settings.push(Setting::new("on_down", quote(value), lines).remark(remark));
        break;
    }
    draft.cover(option.line);
}

/// Translates the hosts that are asked, and how many must answer.
fn targets(draft: &mut Draft, uplink: &mut Uplink, section: &Section) {
    let method = section.get("track_method");
    let ssl = section.get("httping_ssl").is_some_and(|option| option.value == "1");
    let kind = method.map_or("ping", |option| option.value.as_str());
    let (mut found, mut lines): (Vec<String>, Vec<usize>) = (Vec::new(), Vec::new());
    let (mut any, mut pages) = (false, Vec::new());
    for (host, line) in section.all("track_ip") {
        any = true;
        match target(kind, host, ssl) {
            Ok(target) if found.contains(&target) => draft.cover(line),
            Ok(target) => {
                found.push(target);
                lines.push(line);
            }
            Err(why) => {
                draft.untranslated(line, why);
                if kind == "httping" && values::host(host).is_none() {
                    pages.push(host.to_owned());
                }
            }
        }
    }
    let how = method.map_or(Lines::default(), |option| option.line.into());
    let how = how.and(&section.get("httping_ssl").map_or(Lines::default(), |one| one.line.into()));
    if !any {
        let setting = Setting::new("targets", "[]".into(), section.line);
        uplink.probe.push(setting.remark("no track_ip: the carrier alone decides"));
    } else if !found.is_empty() {
        if kind != "ping" {
            let why = format!("`{kind}` is asked for as {}", found.join(", "));
            draft.changed(how.clone(), why);
        }
        let number = found.len();
        let lines = lines.into_iter().collect::<Lines>().and(&how);
        uplink.probe.push(Setting::new("targets", list(&found), lines));
        return quorum(draft, uplink, section, number);
    } else {
        let why = format!(
            "[uplink.{}] probe.targets: none of its targets is possible, so linkbal's own six are asked",
            section.name
        );
        draft.note(
            NoteKind::Changed,
            section.all("track_ip").map(|(_, line)| line).collect::<Lines>(),
            why,
        );
    }
    if let Some(option) = section.get("reliability") {
        draft.unneeded(option.line, "one answer makes a good round, without targets of your own");
    }
}

/// Returns a target as TOML.
///
/// # Errors
/// Why it is none.
fn target(kind: &str, host: &str, ssl: bool) -> Result<String, String> {
    let Some(address) = values::host(host) else {
        return Err(match (kind, host.parse::<std::net::IpAddr>()) {
            (_, Ok(_)) => "no machine answers at this address".into(),
            ("httping", Err(_)) => {
                let scheme = if ssl { "https" } else { "http" };
                format!(
                    "a page counts only if its status is 200 to 299, and a redirect to another host \
                     is a captive portal: add \"{scheme}://{host}/\" to targets if it answers so"
                )
            }
            (_, Err(_)) => "pings are sent to addresses, since names cannot be looked up while an \
                            uplink is down"
                .into(),
        });
    };
    let bracketed = if address.is_ipv6() { format!("[{address}]") } else { address.to_string() };
    match kind {
        "ping" | "nping-icmp" => Ok(quote(&address.to_string())),
        "arping" | "nping-arp" => Ok(quote("gateway")),
        "httping" => Ok(quote(&format!("tcp://{bracketed}:{}", if ssl { 443 } else { 80 }))),
        "nping-tcp" => Ok(quote(&format!("tcp://{bracketed}:80"))),
        "nslookup" => Ok(quote(&format!("dns://{bracketed}"))),
        "nping-udp" => Ok(quote(&address.to_string())),
        other => Err(format!("the method `{other}` is not known")),
    }
}

fn quorum(draft: &mut Draft, uplink: &mut Uplink, section: &Section, targets: usize) {
    let Some(option) = section.get("reliability") else { return };
    let Ok(number) = option.value.parse::<usize>() else {
        return draft.untranslated(option.line, "no number of hosts");
    };
    let fit = number.clamp(1, targets);
    if fit != number {
        let why = format!("{number} hosts must answer, but {targets} can be asked");
        draft.changed(option.line, why);
    }
    uplink.probe.push(Setting::new("quorum", fit.to_string(), option.line));
}

/// Translates the limits of loss and latency.
fn quality(draft: &mut Draft, uplink: &mut Uplink, section: &Section) {
    if section.flag("check_quality") != Some(true) {
        return;
    }
    let mut lines: Lines =
        section.get("check_quality").map(|option| option.line).into_iter().collect();
    let mut limits = Vec::new();
    for (key, name, unit) in [("failure_loss", "loss", "%"), ("failure_latency", "latency", "ms")] {
        let Some(option) = section.get(key) else { continue };
        let number = option.value.parse::<u32>().ok().filter(|number| *number > 0);
        match number {
            Some(number) => limits.push(format!("{name} = {}", quote(&format!("{number}{unit}")))),
            None => draft.untranslated(option.line, "no number above 0"),
        }
        lines = lines.and(&option.line.into());
    }
    if limits.is_empty() {
        return draft
            .untranslated(lines, "check_quality without limits: linkbal has none by default");
    }
    let why = "an uplink beyond its limits is degraded: new flows avoid it, but it is not down";
    draft.changed(lines.clone(), why);
    uplink.probe.push(Setting::new("limits", format!("{{ {} }}", limits.join(", ")), lines));
}
