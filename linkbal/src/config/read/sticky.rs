//! `[[sticky]]`: classes of flows that share an uplink.

use std::time::Duration;

use linkbal_common::{
    maps::{self, Map as _},
    settings::MAX_PORT_CLASSES,
};
use toml::{Spanned, de::DeValue};

use crate::config::{
    Sticky, StickyBy,
    diagnostics::problem::Fault,
    keys,
    parse::{reader::Section, value},
};

const PORTS_HELP: &str = "write destination ports from 1 to 65535 as a list, like ports = [443]";

/// Most ports of all classes: the table has two entries for each, beside those of related protocols.
const MAX_PORTS: usize = (maps::STICKY_PORTS::ENTRIES - 256) / 2;

/// Reads the sticky classes.
pub(in crate::config) fn read(root: &Section) -> Vec<Sticky> {
    if !root.has(&keys::root::STICKY) {
        return vec![Sticky::default(), control()];
    }
    let help = "write each class as [[sticky]], with two brackets on each side";
    let Some(list) = root.list(&keys::root::STICKY, help, value::table(help)) else {
        return Vec::new();
    };
    if let Some(extra) = list.items.get(MAX_PORT_CLASSES) {
        let count = list.items.len();
        let message = format!("{count} classes, at most {MAX_PORT_CLASSES} are possible");
        let help = "give ports that stick in the same way to one class";
        root.report(&keys::root::STICKY, extra.span(), Fault::new(message, help));
    }
    let (mut all_ports, mut all_related) = (Vec::new(), Vec::new());
    let mut classes = Vec::new();
    for table in &list.items {
        let section = root.child("sticky", table).knowing(&keys::sticky::KEYS);
        let ports = read_ports(&section);
        let related = read_related(&section);
        classes.push(read_class(&section, &ports, &related));
        all_ports.extend(ports);
        all_related.extend(related);
    }
    root.report_repeated("sticky.ports", &all_ports);
    if let Some(extra) = all_ports.get(MAX_PORTS) {
        let count = all_ports.len();
        let message = format!("{count} ports in all classes, at most {MAX_PORTS} are possible");
        let help = "give hosts whose flows all stick a rule with sticky = { by = \"src\" }";
        root.report("sticky.ports", extra.span(), Fault::new(message, help));
    }
    root.report_repeated("sticky.related", &all_related);
    classes
}

/// Returns the class of protocols that negotiate further connections or tunnels in one that begins
/// at a known port: FTP, IKE with ESP, RTSP, FTPS, PPTP with GRE, SIP. The peer expects all of them
/// from one address.
fn control() -> Sticky {
    Sticky {
        ports: vec![21, 500, 554, 990, 1723, 4500, 5060, 5061],
        related: vec![6, 17, 47, 50],
        ..Sticky::default()
    }
}

fn read_class(section: &Section, ports: &[Spanned<u16>], related: &[Spanned<u8>]) -> Sticky {
    let default = Sticky::default();
    Sticky {
        ports: ports.iter().map(|port| *port.get_ref()).collect(),
        by: section.get(&keys::sticky::BY, by).map_or(default.by, Spanned::into_inner),
        idle: section.get(&keys::sticky::IDLE, idle).map_or(default.idle, Spanned::into_inner),
        related: related.iter().map(|protocol| *protocol.get_ref()).collect(),
    }
}

fn read_ports(section: &Section) -> Vec<Spanned<u16>> {
    section.require(&keys::sticky::PORTS, Fault::new("a sticky class without ports", PORTS_HELP));
    let Some(list) = section.list(&keys::sticky::PORTS, PORTS_HELP, value::port) else {
        return Vec::new();
    };
    if list.items.is_empty() && list.complete {
        section.report(
            &keys::sticky::PORTS,
            list.span,
            Fault::new("the list is empty", PORTS_HELP),
        );
    }
    list.items
}

/// Reads protocols as in rules, each with the place of the word that named it.
fn read_related(section: &Section) -> Vec<Spanned<u8>> {
    const HELP: &str = "write IP protocols as a list, like related = [\"tcp\"]";
    let words = section.list(&keys::sticky::RELATED, HELP, super::rule::field::protocol);
    let each = words.into_iter().flat_map(|words| words.items).flat_map(|word| {
        let span = word.span();
        let numbers = word.into_inner().into_iter();
        numbers.map(move |number| Spanned::new(span.clone(), number))
    });
    each.collect()
}

/// Parses the flows that share a session.
pub(in crate::config) fn by(value: &DeValue<'_>) -> Result<StickyBy, Fault> {
    const HELP: &str =
        "write \"src+dst\" (a source and a destination) or \"src\" (all flows of a source)";
    match value::word(value, HELP)? {
        "src" => Ok(StickyBy::Source),
        "src+dst" => Ok(StickyBy::SourceAndDestination),
        other => Err(Fault::new(format!("{other:?} is unknown"), HELP)),
    }
}

/// Parses the lifetime of a session without packets. Sessions are timed in whole seconds.
pub(in crate::config) fn idle(value: &DeValue<'_>) -> Result<Duration, Fault> {
    let second = Duration::from_secs(1);
    let idle = value::duration(second..=Duration::from_secs(86_400))(value)?;
    if idle.subsec_nanos() == 0 {
        return Ok(idle);
    }
    let message = format!("{} has a part of a second", humantime::format_duration(idle));
    Err(Fault::new(
        message,
        format!("write whole seconds, like \"{}s\"", idle.as_secs().saturating_add(1)),
    ))
}
