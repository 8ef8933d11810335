//! `[bond.NAME]`: several network cards that act as one, by the kernel's bonding driver.

mod address;
mod check;

use std::net::Ipv4Addr;

use ipnet::IpNet;
use toml::{
    Spanned,
    de::{DeString, DeValue},
};

pub(in crate::config) use check::{bonds as check_bonds, members as check_members};

use crate::config::{
    ArpValidate, Bond, BondMode, LacpRate, Monitor, Named, XmitHashPolicy,
    diagnostics::problem::{Fault, Span},
    keys,
    parse::{
        reader::{Section, names_help},
        value,
    },
};

const HELP: &str = "write a section [bond.bond0] with mode = \"active-backup\" and \
                    members = [\"eth1\", \"eth2\"]";

const MEMBERS_HELP: &str =
    "write the network cards that form the bond as a list, like members = [\"eth1\", \"eth2\"]";

/// Default interval between two checks of the members, in milliseconds.
const MIIMON: u32 = 100;

/// `BOND_MAX_ARP_TARGETS` (include/net/bonding.h).
const MAX_ARP_TARGETS: usize = 16;

/// A bond, with the places of keys that other sections can clash with.
pub(in crate::config) struct ReadBond {
    pub(in crate::config) bond: Bond,
    pub(in crate::config) name_at: Span,
    pub(in crate::config) members: Vec<Spanned<String>>,
    pub(in crate::config) addresses: Vec<Spanned<IpNet>>,
}

/// Reads the bonds, in the order of the file.
pub(in crate::config) fn read(root: &Section) -> Vec<ReadBond> {
    let Some(all) = root.section(&keys::root::BOND, HELP) else { return Vec::new() };
    let mut bonds = Vec::new();
    for (name, value) in all.entries() {
        if let Some(table) = all.read(name.get_ref(), value, value::table(HELP)) {
            check_name(&all, name);
            let section = all.child(name.get_ref(), &table).knowing(&keys::bond::KEYS);
            bonds.push(read_bond(name, &section));
        }
    }
    bonds
}

fn check_name(all: &Section, name: &Spanned<DeString<'_>>) {
    let text = name.get_ref();
    // The kernel would put a number in place of "%d".
    let number = text.contains('%').then(|| {
        let message = format!("{text:?} is not a network interface: % is not possible");
        Fault::new(message, "write a name like bond0")
    });
    let fault = value::interface_name(text).err().or(number);
    fault.into_iter().for_each(|fault| all.problems().report(name.span(), fault));
}

fn read_bond(name: &Spanned<DeString<'_>>, section: &Section) -> ReadBond {
    let mode = read_mode(section, name.get_ref());
    let members = read_members(section, name.get_ref());
    let addresses = address::read(section);
    let mtu = section.value(&keys::bond::MTU);
    check::mtu(section, mtu.as_ref(), &addresses);
    let bond = Bond {
        name: name.get_ref().escape_debug().to_string(),
        mode: mode.unwrap_or(BondMode::BalanceRr),
        members: members.iter().map(|member| member.get_ref().clone()).collect(),
        monitor: read_monitor(section, mode, &addresses),
        primary: read_primary(section, mode, &members),
        lacp_rate: section
            .get(&keys::bond::LACP_RATE, named)
            .map_or(LacpRate::Slow, Spanned::into_inner),
        xmit_hash_policy: section
            .get(&keys::bond::XMIT_HASH_POLICY, named)
            .map_or(XmitHashPolicy::Layer2, Spanned::into_inner),
        mac: section.get(&keys::bond::MAC, mac).map(Spanned::into_inner),
        mtu: mtu.map(Spanned::into_inner),
        promisc: section.value(&keys::bond::PROMISC).is_some_and(Spanned::into_inner),
        addresses: addresses.iter().map(|address| *address.get_ref()).collect(),
    };
    check::modes(section, mode);
    ReadBond { bond, name_at: name.span(), members, addresses }
}

fn read_mode(section: &Section, name: &str) -> Option<BondMode> {
    let missing = format!("bond {} has no mode", name.escape_debug());
    let help = format!("add a line like mode = \"active-backup\"; the modes are: {}", modes());
    section.require(&keys::bond::MODE, Fault::new(missing, help));
    section.get(&keys::bond::MODE, named).map(Spanned::into_inner)
}

fn modes() -> String {
    BondMode::names().join(", ")
}

fn read_members(section: &Section, name: &str) -> Vec<Spanned<String>> {
    let missing = format!("bond {} has no members", name.escape_debug());
    section.require(&keys::bond::MEMBERS, Fault::new(missing, MEMBERS_HELP));
    let Some(list) = section.list(&keys::bond::MEMBERS, MEMBERS_HELP, value::interface) else {
        return Vec::new();
    };
    if list.items.is_empty() && list.complete {
        section.report(
            &keys::bond::MEMBERS,
            list.span,
            Fault::new("the list is empty", MEMBERS_HELP),
        );
    }
    section.report_repeated(&keys::bond::MEMBERS, &list.items);
    list.items
}

fn read_primary(
    section: &Section,
    mode: Option<BondMode>,
    members: &[Spanned<String>],
) -> Option<String> {
    let primary = section.get(&keys::bond::PRIMARY, value::interface)?;
    let known: Vec<&str> = members.iter().map(|member| member.get_ref().as_str()).collect();
    if !known.is_empty() && !known.contains(&primary.get_ref().as_str()) {
        let message = format!("{} is not a member", primary.get_ref());
        let help = names_help(primary.get_ref(), "the members", &known);
        section.report(&keys::bond::PRIMARY, primary.span(), Fault::new(message, help));
    }
    mode.is_none_or(BondMode::has_primary).then(|| primary.into_inner())
}

/// Reads the monitoring: by carrier, unless ARP is configured.
fn read_monitor(section: &Section, mode: Option<BondMode>, own: &[Spanned<IpNet>]) -> Monitor {
    let miimon = section.get(&keys::bond::MIIMON, milliseconds);
    let interval = section.get(&keys::bond::ARP_INTERVAL, milliseconds);
    let targets = read_arp_targets(section, own);
    let validate = section.get(&keys::bond::ARP_VALIDATE, named);
    if let (Some(miimon), Some(interval)) = (&miimon, &interval) {
        let help = "remove one of the two: miimon looks at the carrier, arp_interval asks";
        let fault = Fault::new("it cannot be used together with arp_interval", help);
        section.report_related(&keys::bond::MIIMON, miimon.span(), fault, interval.span(), "here");
    }
    check::arp(section, mode);
    match interval {
        Some(interval) => Monitor::Arp {
            interval: interval.into_inner(),
            targets,
            validate: validate.map_or(ArpValidate::None, Spanned::into_inner),
        },
        None => Monitor::Carrier { interval: miimon.map_or(MIIMON, Spanned::into_inner) },
    }
}

fn read_arp_targets(section: &Section, own: &[Spanned<IpNet>]) -> Vec<Ipv4Addr> {
    let help = "write IPv4 addresses that always answer on these cards, like the routers': \
                arp_ip_targets = [\"192.0.2.1\"]";
    let Some(list) = section.one_or_more(&keys::bond::ARP_IP_TARGETS, address::target(help)) else {
        return Vec::new();
    };
    section.report_repeated(&keys::bond::ARP_IP_TARGETS, &list.items);
    if let Some(extra) = list.items.get(MAX_ARP_TARGETS) {
        let count = list.items.len();
        let message = format!("{count} targets, at most {MAX_ARP_TARGETS} are possible");
        section.report(
            &keys::bond::ARP_IP_TARGETS,
            extra.span(),
            Fault::new(message, "remove some"),
        );
    }
    for target in &list.items {
        let same = own.iter().find(|own| own.get_ref().addr() == *target.get_ref());
        if let Some(own) = same {
            let message = format!("{} is an address of the bond itself", target.get_ref());
            let fault = Fault::new(message, "write the address of another machine");
            section.report_related(
                &keys::bond::ARP_IP_TARGETS,
                target.span(),
                fault,
                own.span(),
                "here",
            );
        }
    }
    list.items.into_iter().map(Spanned::into_inner).collect()
}

/// Parses one of the kernel's names.
fn named<T: Named>(value: &DeValue<'_>) -> Result<T, Fault> {
    let names = T::names();
    let by_number = |number: &str| {
        let name = number.trim().parse::<usize>().ok().and_then(|number| names.get(number))?;
        Some(format!("write {name:?}, the kernel's name of {}", number.trim()))
    };
    let Some(text) = value.as_str() else {
        let meant = value.as_integer().and_then(|number| by_number(number.as_str()));
        let help = meant.unwrap_or_else(|| format!("write one of \"{}\"", names.join("\", \"")));
        return Err(value::wrong_type("a word", value, help));
    };
    T::from_name(text).ok_or_else(|| {
        let help = by_number(text);
        let help = help.unwrap_or_else(|| names_help(text, "the kernel's names", &names));
        Fault::new(format!("{text:?} is unknown"), help)
    })
}

/// Parses milliseconds, as the kernel documents them, or a text with a unit.
fn milliseconds(value: &DeValue<'_>) -> Result<u32, Fault> {
    let (low, high) = (10, 60_000);
    if value.as_integer().is_some() {
        return value::integer(low..=high)(value);
    }
    let millis = |number: u32| std::time::Duration::from_millis(number.into());
    let duration = value::duration(millis(low)..=millis(high))(value)?;
    Ok(u32::try_from(duration.as_millis()).expect("the range ends at a minute"))
}

/// Parses a MAC address that an interface can have.
fn mac(value: &DeValue<'_>) -> Result<[u8; 6], Fault> {
    let mac = value::mac(value)?;
    let help = "write the address of one card, like \"02:00:00:00:00:01\"";
    if mac == [0; 6] {
        return Err(Fault::new("it is all zeros", help));
    }
    // The group bit (IEEE 802-2014 section 8.2.2).
    if mac[0] & 1 != 0 {
        return Err(Fault::new("it is the address of a group", help));
    }
    Ok(mac)
}
