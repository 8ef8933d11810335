//! Routes: which uplinks there are, and their shares.

use std::net::IpAddr;

use super::{
    facts::{DefaultRoute, Facts, HostRoute, Refusal},
    keys, lines_of,
    uplink::id_of,
};
use crate::import::{
    model::{Device, Draft, Setting, Uplink},
    note::Lines,
    shell::Command,
    values::{self, quote},
};

/// Reads `ip route`, of IPv6 if so.
pub(super) fn ip_route(
    draft: &mut Draft,
    facts: &mut Facts,
    command: &Command,
    words: &[&str],
    ipv6: bool,
) {
    let lines = lines_of(command);
    let Some((verb, rest)) = words.split_first() else { return draft.cover(lines) };
    match *verb {
        "add" | "replace" | "append" | "change" | "a" | "prepend" => {}
        "del" | "delete" | "flush" | "d" | "f" => {
            let why = "linkbal removes only its own routes, and has no cache to flush";
            return draft.unneeded(lines, why);
        }
        _ => return draft.cover(lines),
    }
    let route = keys::route(rest);
    let table = keys::value(&route.pairs, &["table"]).unwrap_or_default();
    let table = if matches!(table, "main" | "254") { "" } else { table };
    if !matches!(route.kind, "" | "unicast") {
        return special(draft, facts, &route, table, (ipv6, lines));
    }
    let of = |key: &str| keys::value(&route.pairs, &[key]);
    if let Some(source) = of("src").and_then(values::host) {
        facts.own.push(source);
    }
    if !is_default(route.destination) {
        facts.hosts.push(HostRoute {
            destination: keys::whole_address(route.destination),
            gateway: of("via").and_then(values::host),
            device: of("dev").map(str::to_owned),
            table: table.into(),
            lines,
        });
        return;
    }
    add_defaults(facts, command, &route, table, ipv6);
    for (key, _) in route.pairs.iter().chain(route.hops.iter().flatten()) {
        if keys::TUNING.contains(key) {
            let why = format!(
                "linkbal's routes have no `{key}`: set it with a route of your own, or as a sysctl"
            );
            draft.changed(lines.clone(), why);
        }
    }
    draft.cover(lines);
}

/// Reads a route of a type that leads to no uplink, of a family and from these lines.
fn special(
    draft: &mut Draft,
    facts: &mut Facts,
    route: &keys::Route<'_>,
    table: &str,
    (ipv6, lines): (bool, Lines),
) {
    let word = match route.kind {
        "blackhole" => Some("drop"),
        "unreachable" | "prohibit" => Some("reject"),
        _ => None,
    };
    let is_default = is_default(route.destination);
    match word {
        Some(_) if table.is_empty() => {
            draft.unneeded(lines, "the main table's route stays yours");
        }
        Some(word) if is_default => {
            draft.cover(lines.clone());
            let ipv6 = ipv6 || route.destination == "::/0";
            facts.refusals.push(Refusal { table: table.into(), word, ipv6, lines });
        }
        Some(_) => draft.untranslated(lines, "linkbal refuses no flows by rule: a firewall does"),
        None if route.kind == "throw" && !table.is_empty() && !is_default => {
            let nets = values::prefixes(route.destination).unwrap_or_default();
            if !nets.is_empty() && nets.iter().all(values::is_private) {
                let why = "destinations with a route of their own in the main table follow it";
                draft.unneeded(lines, why);
            } else {
                let why = "what goes there passes by the table: write a [[rule]] for it before those \
                           that use the table";
                draft.untranslated(lines, why);
            }
        }
        None => draft.unneeded(lines, "a route of that type leads to no uplink: it stays yours"),
    }
}

/// Notes a default route, or each hop of it.
fn add_defaults(
    facts: &mut Facts,
    command: &Command,
    route: &keys::Route<'_>,
    table: &str,
    ipv6: bool,
) {
    let metric = keys::value(&route.pairs, &["metric", "priority", "preference"]);
    let mtu = keys::value(&route.pairs, &["mtu"]).and_then(|mtu| mtu.parse().ok());
    let many = !route.hops.is_empty();
    let hops = if many { &route.hops } else { &vec![route.pairs.clone()] };
    for hop in hops {
        let gateway = keys::value(hop, &["via"]).and_then(values::host);
        let device = keys::value(hop, &["dev", "oif"]).map(str::to_owned);
        if gateway.is_none() && device.is_none() {
            continue;
        }
        let weight = keys::value(hop, &["weight"]).and_then(|weight| weight.parse().ok());
        facts.defaults.push(DefaultRoute {
            gateway,
            device,
            table: table.into(),
            metric: metric.and_then(|text| text.parse().ok()),
            weight: many.then(|| weight.unwrap_or(1)),
            conditional: command.conditional,
            ipv6: ipv6 || route.destination == "::/0" || gateway.is_some_and(|one| one.is_ipv6()),
            mtu,
            lines: lines_of(command),
        });
    }
}

/// Returns whether a destination is that of a default route.
pub(super) fn is_default(destination: &str) -> bool {
    matches!(destination, "default" | "any" | "all" | "0.0.0.0/0" | "0/0" | "::/0" | "")
}

/// Reads the older `route`.
pub(super) fn route(draft: &mut Draft, facts: &mut Facts, command: &Command, words: &[&str]) {
    let lines = lines_of(command);
    // The family stands before the verb.
    let at = words.iter().position(|word| !matches!(*word, "-A" | "inet" | "inet6" | "-4" | "-6"));
    let words = words.get(at.unwrap_or_default()..).unwrap_or_default();
    let Some((&"add", rest)) = words.split_first() else {
        return draft.unneeded(lines, "linkbal removes only its own routes");
    };
    let rest: Vec<&str> = rest.iter().copied().filter(|word| !word.starts_with('-')).collect();
    let Some((destination, words)) = rest.split_first() else { return draft.cover(lines) };
    let gateway = value_of(words, &["gw"]).and_then(values::host);
    let named = value_of(words, &["dev"]);
    // The device may stand alone at the end.
    let device =
        named.or(words.last().copied().filter(|word| super::facts::looks_like_device(word)));
    let device = device.map(str::to_owned);
    if is_default(destination) || *destination == "0.0.0.0" || *destination == "::" {
        let metric = value_of(words, &["metric"]).and_then(|text| text.parse().ok());
        facts.defaults.push(DefaultRoute {
            gateway,
            device,
            table: String::new(),
            metric,
            weight: None,
            conditional: command.conditional,
            ipv6: destination.starts_with(':') || gateway.is_some_and(|one| one.is_ipv6()),
            mtu: value_of(words, &["mss", "mtu"]).and_then(|mtu| mtu.parse().ok()),
            lines: lines.clone(),
        });
        return draft.cover(lines);
    }
    let destination = match value_of(words, &["netmask"]) {
        Some(mask) => format!("{destination}/{mask}"),
        None => (*destination).to_owned(),
    };
    facts.hosts.push(HostRoute { destination, gateway, device, table: String::new(), lines });
}

/// Returns the word behind one of `keys`.
pub(super) fn value_of<'a>(words: &[&'a str], keys: &[&str]) -> Option<&'a str> {
    let at = words.iter().position(|word| keys.contains(word))?;
    words.get(at.saturating_add(1)).copied()
}

/// Makes uplinks of all default routes, and shares of those of the main table.
pub(super) fn uplinks(draft: &mut Draft, facts: &mut Facts) {
    let mut ordered = std::mem::take(&mut facts.defaults);
    ordered.sort_by_key(|route| facts.order(route.gateway));
    facts.defaults = ordered;
    for at in 0..facts.defaults.len() {
        let mut route = facts.defaults[at].clone();
        let mut lines = route.lines.clone();
        if route.device.is_none()
            && let Some(gateway) = route.gateway
        {
            let known = facts
                .defaults
                .iter()
                .find(|other| other.gateway == Some(gateway) && other.device.is_some());
            route.device = known.and_then(|known| known.device.clone());
            if route.device.is_none()
                && let Some((device, from)) =
                    facts.device_by_name(gateway).or_else(|| by_network(facts, gateway))
            {
                route.device = Some(device);
                lines = lines.and(&from);
            }
        }
        facts.defaults[at] = route.clone();
        add_uplink(draft, facts, &route, lines);
    }
}

/// Returns the device with an address in the network of a gateway.
fn by_network(facts: &Facts, gateway: IpAddr) -> Option<(String, Lines)> {
    let addresses = facts.addresses.iter().find(|(_, address, _)| {
        address.parse::<ipnet::IpNet>().is_ok_and(|net| net.contains(&gateway))
    });
    let routes = || {
        facts.hosts.iter().find_map(|route| {
            let net = values::prefixes(&route.destination).ok()?;
            let near = route.gateway.is_none() && net.iter().any(|net| net.contains(&gateway));
            Some((route.device.clone().filter(|_| near)?, route.lines.clone()))
        })
    };
    addresses.map(|(device, _, lines)| (device.clone(), lines.clone())).or_else(routes)
}

fn add_uplink(draft: &mut Draft, facts: &Facts, route: &DefaultRoute, lines: Lines) {
    let Some(id) = id_of(facts, route.gateway, route.device.as_deref()) else { return };
    if let Some(known) = draft.uplinks.iter_mut().find(|uplink| uplink.id == id) {
        add_gateway(known, route);
        let other = add_mtu(known, route);
        if let Some(mtu) = other {
            let why =
                format!("an uplink has one `mtu`: that of its first route counts, and not {mtu}");
            draft.changed(lines.clone(), why);
        }
        return draft.cover(lines);
    }
    let device = match &route.device {
        Some(device) if values::is_device(device) => Device::Known(device.clone(), lines.clone()),
        _ => Device::Unknown,
    };
    let mut uplink = Uplink::new(&id, lines, device);
    add_gateway(&mut uplink, route);
    add_mtu(&mut uplink, route);
    draft.uplinks.push(uplink);
}

/// Sets the largest packet of an uplink; returns the route's if another one is set already.
fn add_mtu(uplink: &mut Uplink, route: &DefaultRoute) -> Option<u32> {
    let mtu = route.mtu?;
    let known = uplink.settings.iter_mut().find(|setting| setting.key == "mtu");
    let Some(known) = known else {
        uplink.settings.push(Setting::new("mtu", mtu.to_string(), route.lines.clone()));
        return None;
    };
    known.lines = std::mem::take(&mut known.lines).and(&route.lines);
    (known.value != mtu.to_string()).then_some(mtu)
}

/// Sets the router of an uplink, or adds that of the other family.
fn add_gateway(uplink: &mut Uplink, route: &DefaultRoute) {
    let Some(gateway) = route.gateway else { return };
    let written = quote(&gateway.to_string());
    let lines = route.lines.clone();
    let Some(known) = uplink.settings.iter_mut().find(|setting| setting.key == "gateway") else {
        return uplink.settings.push(Setting::new("gateway", written, lines));
    };
    let first: Option<IpAddr> = known.value.trim_matches('"').parse().ok();
    if let Some(first) = first.filter(|first| first.is_ipv4() != gateway.is_ipv4()) {
        let first = quote(&first.to_string());
        let (ipv4, ipv6) = if gateway.is_ipv4() { (written, first) } else { (first, written) };
        known.value = format!("{{ ipv4 = {ipv4}, ipv6 = {ipv6} }}");
        known.lines = std::mem::take(&mut known.lines).and(&lines);
    }
}
