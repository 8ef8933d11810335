//! Prefixes of a rule, in the configuration and in files that it names.

use std::{net::IpAddr, sync::Arc};

use ipnet::IpNet;
use miette::NamedSource;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::domain::malformed;
use crate::config::{
    Files,
    diagnostics::problem::{Fault, Span},
    keys,
    parse::{
        key::Declared,
        reader::{List, Section},
        value,
    },
};

/// Most prefixes in a file.
const MAX_PREFIXES: usize = 100_000;

/// Most lines of a file that are shown as problems: a wrong file has thousands.
const MAX_SHOWN: usize = 10;

const HELP: &str = "write an address or a prefix, like \"192.0.2.7\" or \"2001:db8::/32\"";

const FILE_HELP: &str = "write the name of a file with one prefix on each line, like \
                         { file = \"prefixes.txt\" }";

/// A prefix, or a table that names a file of them.
enum Entry<'a> {
    Prefix(IpNet),
    File(&'a DeTable<'a>),
}

/// Reads the prefixes of `key`; those of a file have the place at which the file is named.
pub(super) fn read(section: &Section, key: &dyn Declared, files: &Files) -> Option<List<IpNet>> {
    let List { items: entries, mut complete, span } = section.one_or_more(key, entry)?;
    let mut items = Vec::new();
    for entry in entries {
        let at = entry.span();
        match entry.into_inner() {
            Entry::Prefix(prefix) => items.push(Spanned::new(at, prefix)),
            Entry::File(table) => {
                let table = section.child(key.name(), &Spanned::new(at.clone(), table));
                let prefixes = read_file(&table.knowing(&keys::file::KEYS), files);
                complete &= prefixes.is_some();
                let prefixes = prefixes.unwrap_or_default();
                items.extend(prefixes.into_iter().map(|prefix| Spanned::new(at.clone(), prefix)));
            }
        }
    }
    Some(List { items, complete, span })
}

fn entry<'a>(value: &'a DeValue<'a>) -> Result<Entry<'a>, Fault> {
    match value {
        DeValue::String(text) => prefix(text).map(Entry::Prefix),
        DeValue::Table(table) => Ok(Entry::File(table)),
        _ => Err(value::wrong_type("a prefix", value, format!("{HELP}; or {FILE_HELP}"))),
    }
}

/// Parses a prefix, or the address of a host.
pub(in crate::config) fn prefix(text: &str) -> Result<IpNet, Fault> {
    let net = text.parse().or_else(|_| text.parse().map(|address: IpAddr| address.into()));
    let net: IpNet =
        net.map_err(|_| Fault::new(format!("{text:?} is not a prefix"), help(text)))?;
    if net.addr() != net.network() {
        let message = format!("{net} has bits of the address set after its prefix");
        let help = format!("write \"{}\", or \"{}\" for the one host", net.trunc(), net.addr());
        return Err(Fault::new(message, help));
    }
    let canonical = net.addr().to_canonical();
    if canonical != net.addr() {
        let mapped = IpNet::new(canonical, net.prefix_len().saturating_sub(96));
        let help = mapped.map_or(HELP.to_owned(), |mapped| format!("write \"{mapped}\""));
        return Err(Fault::new(format!("{net} is an IPv4 prefix written as IPv6"), help));
    }
    Ok(net)
}

/// Returns advice for a text that is not a prefix.
fn help(text: &str) -> String {
    let host = text.rsplit("://").next().unwrap_or_default();
    let host = host.split(['/', '?', '#']).next().unwrap_or_default();
    let host = host.strip_prefix("*.").unwrap_or(host).trim_end_matches('.');
    let has_letter = host.contains(|c: char| c.is_ascii_alphabetic());
    match text {
        "any" | "all" | "*" | "" => "leave the key out: without it, any address fits".into(),
        _ if text.starts_with('!') => {
            "what is not meant gets a rule of its own before this one: the first rule that matches \
             decides"
                .into()
        }
        _ if host.contains('.') && has_letter && malformed(host).is_none() => format!(
            "names of destinations are `domain`: write domain = {host:?}; the source of a flow is an \
             address"
        ),
        _ if text.contains('-') => format!("{HELP}; a range is a list of prefixes"),
        _ => HELP.into(),
    }
}

/// Reads the prefixes of the file that `table` names; `None` after problems.
fn read_file(table: &Section, files: &Files) -> Option<Vec<IpNet>> {
    table.require(&keys::file::FILE, Fault::new("no file is named", FILE_HELP));
    let name = table.get(&keys::file::FILE, value::text)?;
    let path = files.folder.join(name.get_ref());
    let text = match (files.read)(&path) {
        Ok(text) => text,
        Err(error) => {
            let message = format!("failed to read {}: {error}", path.display());
            let help = "the name is relative to the folder of the configuration";
            table.report(&keys::file::FILE, name.span(), Fault::new(message, help));
            return None;
        }
    };
    let file = Arc::new(NamedSource::new(path.display().to_string(), text));
    let prefixes = read_lines(&file, table, &name.span())?;
    if prefixes.is_empty() {
        let message = format!("no prefix is in {}", path.display());
        table.report(
            &keys::file::FILE,
            name.span(),
            Fault::new(message, "write one prefix on each line"),
        );
        return None;
    }
    Some(prefixes)
}

fn read_lines(
    file: &Arc<NamedSource<String>>,
    table: &Section,
    mention: &Span,
) -> Option<Vec<IpNet>> {
    let mut prefixes = Vec::new();
    let mut refused = 0;
    for (span, text) in contents(file.inner()) {
        if prefixes.len() == MAX_PREFIXES {
            let message = format!("more than {MAX_PREFIXES} prefixes");
            let fault = Fault::new(message, "join neighbours, or leave out what is within others");
            table.problems().report_in(file, span, fault, mention);
            return None;
        }
        match prefix(text) {
            Ok(prefix) => prefixes.push(prefix),
            Err(fault) => {
                refused = usize::saturating_add(refused, 1);
                if refused <= MAX_SHOWN {
                    table.problems().report_in(file, span, fault, mention);
                }
            }
        }
    }
    if refused > MAX_SHOWN {
        let message = format!("{refused} lines of {} are refused", file.name());
        let help = format!("the first {MAX_SHOWN} are shown; check that it is the right file");
        table.report(&keys::file::FILE, mention.clone(), Fault::new(message, help));
    }
    (refused == 0).then_some(prefixes)
}

/// Returns the part of each line before a comment, with its place, for lines that have any.
fn contents(text: &str) -> impl Iterator<Item = (Span, &str)> {
    let mut next = 0;
    text.split_inclusive('\n').filter_map(move |line| {
        let end = usize::saturating_add(next, line.len());
        let start = end.saturating_sub(line.trim_start().len());
        next = end;
        let content = line.split('#').next().unwrap_or_default().trim();
        (!content.is_empty()).then(|| (start..start.saturating_add(content.len()), content))
    })
}
