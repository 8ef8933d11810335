//! Domain names of a rule.

use std::{collections::BTreeSet, iter, net::IpAddr};

use ipnet::IpNet;
use toml::{Spanned, de::DeValue};

use super::field::values;
use crate::config::{
    MAX_DOMAINS, Rule,
    diagnostics::problem::Fault,
    keys,
    parse::{
        reader::{List, Section},
        value,
    },
};

/// Longest label of a name and longest name in bytes (RFC 1035, section 2.3.4, of which the name
/// loses two to the length of its first label and its end).
const LABEL_LENGTH: usize = 63;
const NAME_LENGTH: usize = 253;

const HELP: &str = "write a name like \"bank.com.br\", which stands for its subdomains, too";

/// Reads the names of `domain`.
pub(super) fn read(section: &Section) -> Vec<String> {
    let Some(list) = section.one_or_more(&keys::matches::DOMAIN, domain) else { return Vec::new() };
    warn_of_repeated(section, &list.items);
    let mut seen = BTreeSet::new();
    let mut names = values(Some(list));
    names.retain(|name| seen.insert(name.clone()));
    names
}

fn warn_of_repeated(section: &Section, items: &[Spanned<String>]) {
    let mut seen = BTreeSet::new();
    for item in items.iter().filter(|item| !seen.insert(item.get_ref())) {
        let message = format!("{} is listed twice", item.get_ref());
        section.warn(
            &keys::matches::DOMAIN,
            item.span(),
            Fault::new(message, "remove one of the two"),
        );
    }
}

/// Reports the rule with which the names become too many.
pub(super) fn check_number<T>(root: &Section, list: &List<T>, rules: &[Rule]) {
    const HELP: &str = "write parents that several have in common, like \"bank.com\" for \"www.bank.com\" and \
                        \"api.bank.com\"";
    super::check_number(
        root,
        list,
        rules,
        |matches| &matches.domain,
        (MAX_DOMAINS, "domains"),
        HELP,
    );
}

/// Parses a domain name, in lower case and without the dot of the root.
fn domain(value: &DeValue<'_>) -> Result<String, Fault> {
    let text = value.as_str().ok_or_else(|| value::wrong_type("a domain name", value, HELP))?;
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    if name.is_empty() {
        return Err(Fault::new("the name is empty", HELP));
    }
    match misunderstood(&name).or_else(|| malformed(&name)) {
        None => Ok(name),
        Some((reason, help)) => Err(Fault::new(format!("{text:?} {reason}"), help)),
    }
}

/// Returns the fault of a text that is no name at all, and what to write instead.
fn misunderstood(name: &str) -> Option<(String, String)> {
    if let Some((_, rest)) = name.split_once("://") {
        let host = rest.split(['/', ':', '?', '#']).next().unwrap_or_default();
        return Some(("is the address of a page".into(), format!("write the name only: {host:?}")));
    }
    if name.parse::<IpAddr>().is_ok() || name.parse::<IpNet>().is_ok() {
        let help = format!("write it as the destination: destination = {name:?}");
        return Some(("is an address, not a name".into(), help));
    }
    let parent = name.strip_prefix("*.").or(name.strip_prefix('.'))?;
    let help = format!("subdomains are included: write {parent:?}");
    Some(("has no name before its first dot".into(), help))
}

/// Returns the fault in the form of a name, and what to do about it.
pub(in crate::config) fn malformed(name: &str) -> Option<(String, String)> {
    let foreign = |c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_' | '.');
    if !name.is_ascii() {
        let help = "write its ASCII form, which begins with xn-- where letters are not ASCII";
        return Some(("has letters that are not ASCII".into(), help.into()));
    }
    if let Some(character) = name.chars().find(|c| foreign(*c)) {
        let help = "names are made of letters, digits, hyphens and dots";
        return Some((format!("has the character {character:?}"), help.into()));
    }
    if name.split('.').any(str::is_empty) {
        return Some(("has two dots in a row".into(), HELP.into()));
    }
    if let Some(label) = name.split('.').find(|label| label.len() > LABEL_LENGTH) {
        let reason = format!("has {} bytes between two dots", label.len());
        return Some((reason, format!("at most {LABEL_LENGTH} are possible: check the name")));
    }
    (name.len() > NAME_LENGTH).then(|| {
        let help = format!("at most {NAME_LENGTH} are possible: check the name");
        (format!("has {} bytes", name.len()), help)
    })
}

/// Returns a name and the domains that it is in, the closest first: `a.b.c`, `b.c`, `c`.
pub fn with_parents(name: &str) -> impl Iterator<Item = &str> {
    iter::successors(Some(name), |name| name.split_once('.').map(|(_, parent)| parent))
}
