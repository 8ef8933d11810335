//! Pings and other questions: the targets of probes.

use super::{
    facts::{DefaultRoute, Facts, HostRoute, Ping, looks_like_device},
    host, lines_of,
    routes::value_of,
    uplink::id_of,
};
use crate::import::{
    model::{Draft, Setting},
    note::Lines,
    shell::Command,
    values::{self, list, quote},
};

/// Options of these programs that have a value.
const WITH_VALUE: [&str; 22] = [
    "-c",
    "-w",
    "-W",
    "-i",
    "-I",
    "-s",
    "-t",
    "-m",
    "-M",
    "-p",
    "-Q",
    "-S",
    "-o",
    "-T",
    "-A",
    "-U",
    "-x",
    "--interface",
    "--max-time",
    "--connect-timeout",
    "--bind-address",
    "-O",
];

/// Reads a question.
pub(super) fn ask(
    draft: &mut Draft,
    facts: &mut Facts,
    command: &Command,
    program: &str,
    arguments: &[&str],
) {
    let lines = lines_of(command);
    let device = value_of(arguments, &["-I", "--interface", "-B", "--bind-address", "-s", "-S"]);
    let device = device.filter(|device| looks_like_device(device)).map(str::to_owned);
    let mut words = Vec::new();
    let mut rest = arguments.iter();
    while let Some(word) = rest.next() {
        if WITH_VALUE.contains(word) {
            rest.next();
        } else if !word.starts_with('-') {
            words.push(*word);
        }
    }
    let targets = words.iter().filter_map(|word| target(program, word, &words));
    let targets: Vec<(String, Option<std::net::IpAddr>)> = targets.collect();
    if targets.is_empty() {
        let why = match program {
            "ping" | "ping6" | "fping" | "arping" => {
                "pings are sent to addresses, since names cannot be looked up while an uplink is down"
            }
            "curl" | "wget" => {
                "a page counts only if its status is 200 to 299: add it to targets if so"
            }
            _ => "no target for probes: see docs/health-checks.md",
        };
        return draft.untranslated(lines, why);
    }
    for (target, host) in targets {
        facts.pings.push(Ping { target, host, device: device.clone(), lines: lines.clone() });
    }
}

/// Returns a target as TOML, and the host if it is asked by its address alone.
fn target(program: &str, word: &str, all: &[&str]) -> Option<(String, Option<std::net::IpAddr>)> {
    match program {
        "ping" | "ping6" | "fping" | "arping" => {
            let host = values::host(word)?;
            Some((quote(&host.to_string()), Some(host)))
        }
        "nc" => {
            let host = values::host(word)?;
            let port: u16 = all.last()?.parse().ok().filter(|port| *port > 0)?;
            let shown = if host.is_ipv6() { format!("[{host}]") } else { host.to_string() };
            Some((quote(&format!("tcp://{shown}:{port}")), None))
        }
        "dig" | "nslookup" | "host" => {
            let host = values::host(word.trim_start_matches('@'))?;
            let shown = if host.is_ipv6() { format!("[{host}]") } else { host.to_string() };
            Some((quote(&format!("dns://{shown}")), None))
        }
        _ => None,
    }
}

/// Puts the targets into `[probe]`, or into the uplink that they are asked by.
pub(super) fn write(draft: &mut Draft, facts: &Facts) {
    let mut everywhere: (Vec<String>, Lines) = Default::default();
    let mut own: Vec<(String, Vec<String>, Lines)> = Vec::new();
    for ping in &facts.pings {
        let of_gateway =
            facts.defaults.iter().find(|one| one.gateway.is_some() && one.gateway == ping.host);
        let of_device =
            facts.defaults.iter().find(|one| ping.device.is_some() && one.device == ping.device);
        let of_route = || of_host_route(facts, ping);
        let route = of_gateway.or(of_device).or_else(of_route);
        let id = route.and_then(|one| id_of(facts, one.gateway, one.device.as_deref()));
        let target = if of_gateway.is_some() { quote("gateway") } else { ping.target.clone() };
        let (targets, lines) = match id {
            None => (&mut everywhere.0, &mut everywhere.1),
            Some(id) => {
                let at = own.iter().position(|(known, ..)| *known == id).unwrap_or_else(|| {
                    own.push((id, Vec::new(), Lines::default()));
                    own.len().saturating_sub(1)
                });
                let (_, targets, lines) = &mut own[at];
                (targets, lines)
            }
        };
        if !targets.contains(&target) {
            targets.push(target);
        }
        *lines = lines.clone().and(&ping.lines);
    }
    for (id, mut targets, lines) in own {
        // What is asked by no uplink in particular is asked by all.
        let new: Vec<String> =
            everywhere.0.iter().filter(|target| !targets.contains(target)).cloned().collect();
        let lines = if new.is_empty() { lines } else { lines.and(&everywhere.1) };
        targets.extend(new);
        if let Some(uplink) = draft.uplinks.iter_mut().find(|uplink| uplink.id == id) {
            uplink.probe.push(Setting::new("targets", list(&targets), lines));
        }
    }
    if !everywhere.0.is_empty() {
        draft.probe.push(Setting::new("targets", list(&everywhere.0), everywhere.1));
    }
}

/// Returns the default route of the uplink that a route leads a target to.
fn of_host_route<'a>(facts: &'a Facts, ping: &Ping) -> Option<&'a DefaultRoute> {
    let host = ping.host.filter(|_| ping.device.is_none())?;
    let leads = |route: &&HostRoute| {
        let nets = values::prefixes(&route.destination).unwrap_or_default();
        route.table.is_empty() && nets.iter().any(|net| net.contains(&host))
    };
    host::by(facts, facts.hosts.iter().find(leads)?)
}
