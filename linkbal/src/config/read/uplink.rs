//! `[uplink.NAME]`: the uplinks.

use std::{fs, net::IpAddr, path::Path, time::Duration};

use linkbal_common::uplink::{Family, MAX_UPLINKS};
use toml::{
    Spanned,
    de::{DeString, DeValue},
};

use super::{ipv6, load, nat, probe, read_uplink::ReadUplink, resolvers, tunnel};
use crate::{
    config::{
        Gateway, Ipv6, OnDown, OnUp, Probe, Uplink,
        diagnostics::problem::{Fault, Span},
        keys,
        parse::{reader::Section, value},
    },
    per_family::PerFamily,
};

/// Smallest MTU that IPv6 works with (RFC 8200 section 5).
pub(super) const IPV6_MTU: u32 = 1280;

/// Longest name of an uplink, in bytes.
const NAME_LENGTH: usize = 32;

/// Default time for which a better uplink must be usable.
const RECLAIM_AFTER: Duration = Duration::from_secs(30);

const HELP: &str = "write a section [uplink.fiber] (the name is yours) and in it \
                    interface = \"eth0\"";

const GATEWAY_HELP: &str = "write the address of the provider's router, like \"192.0.2.1\"";

impl Uplink {
    /// Returns whether flows prefer this uplink to `other` whenever both are usable: by its tier, or in
    /// one tier since the other one has no weight.
    pub fn is_better_than(&self, other: &Uplink) -> bool {
        let rank = |uplink: &Uplink| (uplink.tier, uplink.weight == 0);
        rank(self) < rank(other)
    }
}

/// Reads the uplinks, in the order of the file; `base` has the defaults of their probes.
pub(in crate::config) fn read(root: &Section, base: &Probe) -> Vec<ReadUplink> {
    root.require(&keys::root::UPLINK, none_given());
    let mut uplinks = Vec::new();
    for meant in root.meant_sections(&keys::root::UPLINK) {
        uplinks.extend(read_meant(&meant, base));
    }
    if !root.has(&keys::root::UPLINK) {
        return uplinks;
    }
    let Some(all) = root.section(&keys::root::UPLINK, HELP) else { return uplinks };
    let entries = all.entries();
    if entries.is_empty() {
        all.problems().report(all.span(), none_given());
    }
    if let Some((name, _)) = entries.get(MAX_UPLINKS) {
        let message = format!("{} uplinks, at most {MAX_UPLINKS} are possible", entries.len());
        let help = format!("remove uplinks until {MAX_UPLINKS} are left");
        all.problems().report(name.span(), Fault::new(message, help));
    }
    for (name, value) in entries {
        if let Some(table) = all.read(name.get_ref(), value, value::table(HELP)) {
            check_name(&all, name, "an uplink");
            let section = all.child(name.get_ref(), &table).knowing(&keys::uplink::KEYS);
            uplinks.push(read_uplink(name.get_ref(), &section, base));
        }
    }
    uplinks
}

/// Reads uplinks that stand in a section of another name, which was reported, so that what is in them
/// is checked, too. Other keys there are no uplinks.
fn read_meant(all: &Section, base: &Probe) -> Vec<ReadUplink> {
    let tables = all.entries().into_iter().filter_map(|(name, value)| {
        let table = Spanned::new(value.span(), value.get_ref().as_table()?);
        let section = all.child(name.get_ref(), &table).knowing(&keys::uplink::KEYS);
        Some(read_uplink(name.get_ref(), &section, base))
    });
    tables.collect()
}

fn none_given() -> Fault {
    Fault::new("no uplink is given", HELP)
}

/// Reports the name of `what`, an uplink or a receiver, if it is not possible.
pub(in crate::config) fn check_name(all: &Section, name: &Spanned<DeString<'_>>, what: &str) {
    let text = name.get_ref();
    let fits = (1..=NAME_LENGTH).contains(&text.len());
    if !fits || !text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
        let like = possible_name(text).map_or(String::new(), |name| format!(", like {name:?}"));
        let help = format!("use 1 to {NAME_LENGTH} letters, digits, - and _{like}");
        let message = format!("{text:?} is not possible as the name of {what}");
        all.problems().report(name.span(), Fault::new(message, help));
    }
}

/// Returns a name of an uplink that is close to a text; `None` if there is none.
fn possible_name(text: &str) -> Option<String> {
    let possible = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
    let name: String = text.chars().map(possible).take(NAME_LENGTH).collect();
    let name = name.trim_matches('-');
    (!name.is_empty()).then(|| name.to_owned())
}

fn read_uplink(name: &str, section: &Section, base: &Probe) -> ReadUplink {
    let missing = format!("uplink {} has no interface", name.escape_debug());
    section.require(
        &keys::uplink::INTERFACE,
        Fault::new(missing, "add a line like interface = \"eth0\""),
    );
    let interface = section.get(&keys::uplink::INTERFACE, value::interface);
    let interface_at = interface.as_ref().map(Spanned::span);
    let weight = section.value(&keys::uplink::WEIGHT);
    let tier = section.value(&keys::uplink::TIER);
    let tier_valid = tier.is_some() || !section.has(&keys::uplink::TIER);
    let weight_at = tier_valid.then(|| weight.as_ref().map_or(section.span(), Spanned::span));
    let gateways = read_gateways(section);
    let nat = nat::of_uplink(section);
    let ipv6 = ipv6::read(section, nat);
    let tunnel = tunnel::read(section);
    let mtu = section.value(&keys::uplink::MTU);
    check_mtu(section, mtu.as_ref(), interface.as_ref(), &ipv6.value());
    let (capacity, spillover) = load::read(section);
    let resolvers = resolvers::read(section);
    let help = "write it in braces, like probe = { interval = \"500ms\" }";
    let (on_up, on_up_at) = read_on_up(section);
    let uplink = Uplink {
        name: name.escape_debug().to_string(),
        interface: interface.map_or(String::new(), Spanned::into_inner),
        weight: weight.map_or(1, Spanned::into_inner),
        tier: tier.map_or(1, Spanned::into_inner),
        gateway: gateways.unwrap_or_default(),
        over: tunnel.over(),
        endpoints: tunnel.endpoints(),
        nat,
        prefixes_ipv4: ipv6.prefixes_ipv4(),
        ipv6: ipv6.value(),
        virtual_addresses: read_virtual(section),
        on_down: section
            .get(&keys::uplink::ON_DOWN, on_down)
            .map(Spanned::into_inner)
            .unwrap_or_default(),
        capacity,
        spillover,
        on_up,
        resolvers: resolvers.iter().map(|resolver| *resolver.get_ref()).collect(),
        mtu: mtu.map(Spanned::into_inner),
        accelerate: section.value(&keys::uplink::ACCELERATE).is_none_or(Spanned::into_inner),
        probe: probe::read(section, help, base),
    };
    let gateways_valid = gateways.is_some();
    ReadUplink {
        uplink,
        interface_at,
        gateways_valid,
        ipv6,
        resolvers,
        weight_at,
        on_up_at,
        tunnel,
    }
}

/// Checks that an MTU suits IPv6, and warns if packets of that size do not pass the interface.
fn check_mtu(
    section: &Section,
    mtu: Option<&Spanned<u32>>,
    interface: Option<&Spanned<String>>,
    ipv6: &Ipv6,
) {
    let Some(mtu) = mtu else { return };
    let (number, key) = (*mtu.get_ref(), &keys::uplink::MTU);
    if number < IPV6_MTU && *ipv6 != Ipv6::Off {
        let help = format!("write {IPV6_MTU} or more, or ipv6 = \"off\"");
        let fault = Fault::new(format!("{number} is too small for IPv6"), help);
        section.report(key, mtu.span(), fault);
    }
    // The interface may come later, or have another MTU by then.
    let Some(interface) = interface.map(Spanned::get_ref) else { return };
    let path = Path::new("/sys/class/net").join(interface).join("mtu");
    let found = fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u32>().ok());
    if let Some(found) = found.filter(|found| *found < number) {
        let message = format!("{interface} has an MTU of {found} only");
        let help = "write less: what the line carries, such as 1492 with PPPoE";
        section.warn(key, mtu.span(), Fault::new(message, help));
    }
}

/// Reads the addresses that move between two gateways.
fn read_virtual(section: &Section) -> Vec<IpAddr> {
    const HELP: &str = "write the addresses that move between the gateways, like \
                        virtual_addresses = [\"192.0.2.2\"]";
    let list = section.list(&keys::uplink::VIRTUAL_ADDRESSES, HELP, value::address(HELP));
    let addresses = list.map(|list| list.items).unwrap_or_default();
    section.report_repeated(&keys::uplink::VIRTUAL_ADDRESSES, &addresses);
    addresses.into_iter().map(Spanned::into_inner).collect()
}

fn on_down(value: &DeValue<'_>) -> Result<OnDown, Fault> {
    let help = "write \"reset\" (clients reconnect at once), \"move\" (for uplinks without address \
                translation) or \"keep\" (connections wait for the uplink)";
    match value::word(value, help)? {
        "reset" => Ok(OnDown::Reset),
        "move" => Ok(OnDown::Move),
        "keep" => Ok(OnDown::Keep),
        other => Err(Fault::new(format!("{other:?} is unknown"), help)),
    }
}

/// Reads what becomes of flows when a better uplink is back, with its place.
fn read_on_up(section: &Section) -> (OnUp, Option<Span>) {
    let help = "write \"drain\" (flows stay until they end) or \"reclaim\" (they are moved back to \
                an uplink of a better tier)";
    let reclaim = section.get(&keys::uplink::ON_UP, |value| match value::word(value, help)? {
        "drain" => Ok(false),
        "reclaim" => Ok(true),
        other => Err(Fault::new(format!("{other:?} is unknown"), help)),
    });
    let after = section.value(&keys::uplink::RECLAIM_AFTER);
    let at = reclaim.as_ref().map(Spanned::span);
    let reclaim = reclaim.map(Spanned::into_inner);
    if let (Some(after), Some(false)) =
        (&after, reclaim.or((!section.has(&keys::uplink::ON_UP)).then_some(false)))
    {
        let help = "add on_up = \"reclaim\", or remove it";
        section.warn(
            &keys::uplink::RECLAIM_AFTER,
            after.span(),
            Fault::new("nothing is reclaimed", help),
        );
    }
    let on_up = match reclaim {
        Some(true) => OnUp::Reclaim { after: after.map_or(RECLAIM_AFTER, Spanned::into_inner) },
        Some(false) | None => OnUp::Drain,
    };
    (on_up, at)
}

/// Reads the gateways for IPv4 and IPv6, from one text for one of them or a table for both; `None`
/// if a value is refused.
fn read_gateways(section: &Section) -> Option<PerFamily<Gateway>> {
    if !section.has(&keys::uplink::GATEWAY) {
        return Some(PerFamily::default());
    }
    if section.get(&keys::uplink::GATEWAY, text_or_table)?.get_ref().is_table() {
        let table = section.section(&keys::uplink::GATEWAY, GATEWAY_HELP)?;
        let table = table.knowing(&keys::gateway::KEYS);
        // Both are read, so that the problems of both are found.
        let PerFamily { ipv4, ipv6 } = PerFamily::from_fn(|family| gateway_of(family, &table));
        return Some(PerFamily { ipv4: ipv4?, ipv6: ipv6? });
    }
    let any = section
        .get(&keys::uplink::GATEWAY, value::auto_or(value::address(GATEWAY_HELP)))?
        .into_inner();
    Some(PerFamily::from_fn(|family| match any {
        Some(address) if address.is_ipv4() == (family == Family::Ipv4) => Gateway::Address(address),
        _ => Gateway::Auto,
    }))
}

fn gateway_of(family: Family, table: &Section) -> Option<Gateway> {
    let key = match family {
        Family::Ipv4 => &keys::gateway::IPV4,
        Family::Ipv6 => &keys::gateway::IPV6,
    };
    if !table.has(key) {
        return Some(Gateway::Auto);
    }
    let read = value::auto_or(move |value| address_of(family, value));
    let address = table.get(key, read)?.into_inner();
    Some(address.map_or(Gateway::Auto, Gateway::Address))
}

fn text_or_table<'a>(value: &'a DeValue<'a>) -> Result<&'a DeValue<'a>, Fault> {
    if value.is_str() || value.is_table() {
        return Ok(value);
    }
    let help =
        format!("{GATEWAY_HELP}; or \"auto\", or {{ ipv4 = \"192.0.2.1\", ipv6 = \"auto\" }}");
    Err(value::wrong_type("an IP address", value, help))
}

fn address_of(family: Family, value: &DeValue<'_>) -> Result<IpAddr, Fault> {
    let address = value::address(GATEWAY_HELP)(value)?;
    if address.is_ipv4() == (family == Family::Ipv4) {
        return Ok(address);
    }
    let (wanted, found) = if address.is_ipv4() { ("IPv6", "IPv4") } else { ("IPv4", "IPv6") };
    let help =
        format!("write an {wanted} address, or the {found} one under `{}`", found.to_lowercase());
    Err(Fault::new(format!("{address} is an {found} address"), help))
}
