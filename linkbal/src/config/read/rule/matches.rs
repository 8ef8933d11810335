//! `match`: the flows that a rule applies to.

use ipnet::IpNet;

use super::{RuleScope, domain, field, prefix};
use crate::config::{
    Files, Match,
    diagnostics::problem::{Fault, Span},
    keys,
    parse::{
        reader::{List, Section},
        value,
    },
    read::lan,
};

const HELP: &str = "write it in braces, like match = { protocol = \"tcp\", dport = 25 }";

/// The protocols with ports: TCP, UDP and SCTP.
const WITH_PORTS: [u8; 3] = [6, 17, 132];

/// Reads the conditions of `rule`; without any, it matches everything.
pub(super) fn read(rule: &Section, names: &RuleScope, files: &Files) -> Match {
    let Some(section) = rule.section(&keys::rule::MATCH, HELP) else { return Match::default() };
    let section = section.knowing(&keys::matches::KEYS);
    let source = prefix::read(&section, &keys::matches::SOURCE, files);
    let destination = prefix::read(&section, &keys::matches::DESTINATION, files);
    check_families(&section, source.as_ref(), destination.as_ref());
    let source_port = section.one_or_more(&keys::matches::SPORT, field::ports);
    let destination_port = section.one_or_more(&keys::matches::DPORT, field::ports);
    let ports_at = source_port.as_ref().or(destination_port.as_ref()).map(|list| list.span.clone());
    Match {
        source: field::values(source),
        destination: field::values(destination),
        domain: domain::read(&section),
        protocol: read_protocols(&section, ports_at),
        source_port: field::values(source_port),
        destination_port: field::values(destination_port),
        dscp: field::values(section.one_or_more(&keys::matches::DSCP, field::dscp)),
        interface: field::values(
            section
                .one_or_more(&keys::matches::INTERFACE, |value| lan::interface(value, &names.lan)),
        ),
        vlan: field::values(section.one_or_more(&keys::matches::VLAN, field::vlan)),
        mac: field::values(section.one_or_more(&keys::matches::MAC, value::mac)),
    }
}

/// Reads the protocols. `ports_at` is the place of ports, which imply or contradict them.
fn read_protocols(section: &Section, ports_at: Option<Span>) -> Vec<u8> {
    let list = section.one_or_more(&keys::matches::PROTOCOL, field::protocol);
    let Some(ports_at) = ports_at else { return sorted(list) };
    let Some(list) = list else { return WITH_PORTS.to_vec() };
    for item in &list.items {
        if item.get_ref().iter().any(|number| !WITH_PORTS.contains(number)) {
            let name = field::protocol_text(item.get_ref());
            let message = format!("protocol {name} has no ports, but the rule names some");
            let help = "ports are for \"tcp\", \"udp\" and \"sctp\": write a rule of its own";
            let fault = Fault::new(message, help);
            section.report_related(
                &keys::matches::PROTOCOL,
                item.span(),
                fault,
                ports_at.clone(),
                "the ports",
            );
        }
    }
    sorted(Some(list))
}

/// Returns each protocol once: names can stand for several.
fn sorted(list: Option<List<Vec<u8>>>) -> Vec<u8> {
    let mut numbers: Vec<u8> = field::values(list).into_iter().flatten().collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

/// Reports a rule from one family to the other.
fn check_families(
    section: &Section,
    source: Option<&List<IpNet>>,
    destination: Option<&List<IpNet>>,
) {
    let Some((source, destination)) = source.zip(destination) else { return };
    let Some((from, to)) = only_family(source).zip(only_family(destination)) else { return };
    if from != to {
        let message = format!("no flow goes from {from} to {to}");
        let help = "write sources and destinations of the same family, or of both families each";
        let (fault, related) = (Fault::new(message, help), source.span.clone());
        section.report_related(
            &keys::matches::DESTINATION,
            destination.span.clone(),
            fault,
            related,
            "the sources",
        );
    }
}

/// Returns the family that all prefixes of a list have.
fn only_family(list: &List<IpNet>) -> Option<&'static str> {
    let mut families = list.items.iter().map(|net| net.get_ref().addr().is_ipv4());
    let first = families.next().filter(|_| list.complete)?;
    families.all(|family| family == first).then_some(if first { "IPv4" } else { "IPv6" })
}
