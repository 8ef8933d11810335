//! Checks between the keys of a bond, and between bonds and other sections.

use ipnet::IpNet;
use toml::{Spanned, de::DeValue};

use super::{
    super::{read_uplink::ReadUplink, uplink::IPV6_MTU},
    ReadBond,
};
use crate::config::{
    BondMode, Named,
    diagnostics::problem::Fault,
    keys,
    parse::{key::Declared, reader::Section},
    pattern::is_match,
};

/// A predicate for a feature of a mode.
type Has = fn(BondMode) -> bool;

/// Reports keys that the mode of the bond does not have.
pub(super) fn modes(section: &Section, mode: Option<BondMode>) {
    let keys: [(&dyn Declared, Has); 3] = [
        (&keys::bond::PRIMARY, BondMode::has_primary),
        (&keys::bond::LACP_RATE, BondMode::has_lacp),
        (&keys::bond::XMIT_HASH_POLICY, BondMode::has_hash),
    ];
    for (key, has) in keys {
        refuse_unless(section, key, mode, has);
    }
}

/// Checks monitoring by ARP, which needs an interval, targets and a suitable mode.
pub(super) fn arp(section: &Section, mode: Option<BondMode>) {
    if section.has(&keys::bond::ARP_INTERVAL) {
        refuse_unless(section, &keys::bond::ARP_INTERVAL, mode, BondMode::has_arp);
        let help = "add the hosts to ask, like arp_ip_targets = [\"192.0.2.1\"]";
        let fault = Fault::new("arp_interval, but no arp_ip_targets are given", help);
        section.require(&keys::bond::ARP_IP_TARGETS, fault);
        return;
    }
    for key in [&keys::bond::ARP_IP_TARGETS, &keys::bond::ARP_VALIDATE] {
        if let Some(value) = section.get(key, any) {
            let help =
                format!("add arp_interval = 1000 in place of miimon, or remove `{}`", key.name);
            let fault = Fault::new("no host is asked without arp_interval", help);
            section.report(key, value.span(), fault);
        }
    }
}

fn refuse_unless(section: &Section, key: &dyn Declared, mode: Option<BondMode>, has: Has) {
    let (Some(mode), Some(value)) = (mode, section.get(key, any)) else { return };
    if has(mode) {
        return;
    }
    let able = BondMode::NAMES.iter().filter(|(mode, _)| has(*mode)).map(|(_, name)| *name);
    let able: Vec<&str> = able.collect();
    let mode = BondMode::NAMES[usize::from(mode.number())].1;
    let message = format!("mode {mode} does not have it");
    let help = format!("remove it, or use one of the modes that do: {}", able.join(", "));
    section.report(key, value.span(), Fault::new(message, help));
}

fn any(_: &DeValue<'_>) -> Result<(), Fault> {
    Ok(())
}

/// Checks that the MTU suits all addresses.
pub(super) fn mtu(section: &Section, mtu: Option<&Spanned<u32>>, addresses: &[Spanned<IpNet>]) {
    let ipv6 = addresses.iter().find(|address| address.get_ref().addr().is_ipv6());
    if let (Some(mtu), Some(ipv6)) = (mtu, ipv6)
        && *mtu.get_ref() < IPV6_MTU
    {
        let message = format!("{} is too small for IPv6", mtu.get_ref());
        let help = format!("write {IPV6_MTU} or more, or remove the IPv6 addresses");
        section.report_related(
            &keys::bond::MTU,
            mtu.span(),
            Fault::new(message, help),
            ipv6.span(),
            "here",
        );
    }
}

/// Checks bonds against each other: a network card is in one of them only, and so is an address.
pub(in crate::config) fn bonds(bonds: &[ReadBond], root: &Section) {
    for (at, bond) in bonds.iter().enumerate() {
        for member in &bond.members {
            if let Some(other) = bonds.iter().find(|other| other.bond.name == *member.get_ref()) {
                let message = format!("{} is a bond, which cannot be a member", member.get_ref());
                let fault = Fault::new(message, "write network cards only");
                let label = "the bond";
                report(root, bond, "members", member, fault, other.name_at.clone(), label);
            }
        }
        for earlier in &bonds[..at] {
            let help = "take it out of one of the two";
            for (member, first) in shared(&bond.members, &earlier.members) {
                let name = &earlier.bond.name;
                let fault = Fault::new(format!("{} is in {name}, too", member.get_ref()), help);
                report(root, bond, "members", member, fault, first.span(), "here");
            }
        }
        addresses(bond, &bonds[..at], root);
    }
}

/// Reports addresses that are given twice, with any prefix length.
fn addresses(bond: &ReadBond, earlier: &[ReadBond], root: &Section) {
    for (index, address) in bond.addresses.iter().enumerate() {
        let before = earlier.iter().flat_map(|bond| &bond.addresses);
        let before = before.chain(&bond.addresses[..index]);
        let same = |other: &&Spanned<IpNet>| other.get_ref().addr() == address.get_ref().addr();
        if let Some(first) = before.into_iter().find(same) {
            let message = format!("{} is given twice", address.get_ref().addr());
            let fault = Fault::new(message, "remove one of the two");
            report(root, bond, "addresses", address, fault, first.span(), "first here");
        }
    }
}

fn shared<'a>(
    later: &'a [Spanned<String>],
    earlier: &'a [Spanned<String>],
) -> impl Iterator<Item = (&'a Spanned<String>, &'a Spanned<String>)> {
    later.iter().filter_map(|member| {
        let first = earlier.iter().find(|first| first.get_ref() == member.get_ref())?;
        Some((member, first))
    })
}

/// Reports members that are also used by themselves: a member's own addresses and routes do not
/// work. Warns of a bond that nothing uses.
pub(in crate::config) fn members(
    bonds: &[ReadBond],
    lan: &[Spanned<String>],
    uplinks: &[ReadUplink],
    root: &Section,
) {
    let of_uplinks = uplinks.iter().filter_map(|uplink| {
        let at = uplink.interface_at.clone()?;
        Some((uplink.uplink.interface.as_str(), at, "of an uplink here"))
    });
    let of_lan = lan.iter().map(|lan| (lan.get_ref().as_str(), lan.span(), "of the LAN here"));
    let used: Vec<_> = of_uplinks.chain(of_lan).collect();
    for bond in bonds {
        let name = &bond.bond.name;
        for member in &bond.members {
            let clash = used.iter().find(|(interface, ..)| interface == member.get_ref());
            if let Some((interface, at, label)) = clash {
                let message = format!("{interface} is used by itself, too");
                let help = format!("use {name} there: a member is only a part of its bond");
                let fault = Fault::new(message, help);
                report(root, bond, "members", member, fault, at.clone(), label);
            }
        }
        let is_used = |interface: &str| bond.bond.carries(interface) || is_match(interface, name);
        if !used.iter().any(|(interface, ..)| is_used(interface)) {
            let message = format!("no uplink and no LAN uses {name}");
            let help = format!("write interface = \"{name}\" in an uplink, or remove the bond");
            root.problems().warn(bond.name_at.clone(), Fault::new(message, help));
        }
    }
}

fn report<T>(
    root: &Section,
    bond: &ReadBond,
    key: &str,
    value: &Spanned<T>,
    fault: Fault,
    related: std::ops::Range<usize>,
    label: &'static str,
) {
    let key = format!("bond.{}.{key}", bond.bond.name);
    root.report_related(&key, value.span(), fault, related, label);
}
