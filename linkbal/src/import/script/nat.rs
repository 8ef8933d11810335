//! Exceptions from the translation of addresses: what the chain POSTROUTING leaves as it is.

use super::{
    facts::{Facts, Outward, Scope, Translating, Untranslated},
    lines_of,
};
use crate::import::{
    model::{Draft, Setting, Uplink},
    note::Lines,
    shell::Command,
    values::{self, one_or_list, quote},
};

/// Says what to do with an exception that cannot be read.
const BY_HAND: &str = "linkbal translates what this leaves as it is: write it as nat.exempt";

/// Reads a rule of POSTROUTING that leaves addresses as they are; returns whether it is one.
pub(super) fn read(
    facts: &mut Facts,
    draft: &mut Draft,
    command: &Command,
    words: &[&str],
    ipv6: bool,
) -> bool {
    let target = Conditions::of(words);
    let leaves = matches!(target.target, "ACCEPT" | "RETURN");
    let translates = matches!(target.target, "MASQUERADE" | "SNAT");
    let negates = translates && target.negated.is_some();
    let lines = lines_of(command);
    match target.chain {
        _ if !(leaves || translates) => return false,
        "POSTROUTING" => {}
        "" | "PREROUTING" | "INPUT" | "OUTPUT" => return false,
        // Which packets meet a chain of its own is not worked out.
        _ if target.outward && (leaves && target.names() || negates) => {
            draft.untranslated(lines, BY_HAND);
            return true;
        }
        _ => return false,
    }
    if translates && !negates {
        if !command.doubtful {
            let (device, others) = (target.device.map(str::to_owned), target.others);
            if let Some(scope) = target.scope(ipv6) {
                let rule = Outward::Translates { scope, device, others };
                put(&mut facts.postrouting, rule, target.place);
            }
        }
        return false;
    }
    match target.exception(leaves, &lines, ipv6) {
        Some(_) if command.doubtful => draft.untranslated(lines, BY_HAND),
        Some(one) if one.source.is_none() && one.destination.is_none() => {
            return false;
        }
        Some(one) => put(&mut facts.postrouting, Outward::Leaves(one), target.place),
        None => draft.untranslated(lines, BY_HAND),
    }
    true
}

/// Puts a rule at a place of the chain, counted from 1, or behind all others.
fn put(chain: &mut Vec<Outward>, rule: Outward, place: Option<usize>) {
    let at = place.map_or(chain.len(), |place| place.saturating_sub(1).min(chain.len()));
    chain.insert(at, rule);
}

/// The conditions of a rule of the table nat.
#[derive(Default)]
struct Conditions<'a> {
    chain: &'a str,
    /// The place in the chain, if it is not put behind all others.
    place: Option<usize>,
    /// Set if it is for no interface that packets come in by.
    outward: bool,
    target: &'a str,
    source: Option<&'a str>,
    destination: Option<&'a str>,
    device: Option<&'a str>,
    /// The option that is negated, with its value.
    negated: Option<(&'a str, &'a str)>,
    /// Set if there are others.
    others: bool,
}

impl<'a> Conditions<'a> {
    fn of(words: &[&'a str]) -> Conditions<'a> {
        let mut found = Conditions { outward: true, ..Conditions::default() };
        let mut words = words.iter().copied().peekable();
        let mut negated = false;
        while let Some(word) = words.next() {
            if word == "!" {
                negated = true;
                continue;
            }
            let mut value = || {
                negated |= words.next_if_eq(&"!").is_some();
                words.next().unwrap_or_default()
            };
            let place = match word {
                "-A" | "--append" => {
                    found.chain = value();
                    continue;
                }
                "-I" | "--insert" => {
                    found.chain = value();
                    let place = words.peek().and_then(|word| word.parse().ok());
                    found.place = place.or(Some(1));
                    continue;
                }
                "-t" | "--table" | "--comment" | "--to-source" | "--to" => {
                    value();
                    continue;
                }
                "-j" | "--jump" => {
                    found.target = value();
                    continue;
                }
                "-m" | "--match" => {
                    found.others |= value() != "comment";
                    continue;
                }
                "-s" | "--source" | "--src" => &mut found.source,
                "-d" | "--destination" | "--dst" => &mut found.destination,
                "-o" | "--out-interface" => &mut found.device,
                "-p" | "--protocol" => {
                    found.others |= !matches!(value(), "all" | "0");
                    continue;
                }
                word => {
                    found.outward &= !matches!(word, "-i" | "--in-interface");
                    found.others |= word.starts_with('-') && !matches!(word, "-w" | "--wait");
                    continue;
                }
            };
            let text = value();
            if std::mem::take(&mut negated) {
                found.others |= found.negated.is_some();
                found.negated = Some((word, text));
            } else {
                *place = Some(text);
            }
        }
        found
    }

    /// Returns whether it names addresses.
    fn names(&self) -> bool {
        self.source.is_some() || self.destination.is_some() || self.negated.is_some()
    }

    /// Returns the addresses that it names; `None` if they cannot be read.
    fn scope(&self, ipv6: bool) -> Option<Scope> {
        let nets = |text: Option<&str>| match text.map(values::prefixes) {
            Some(nets) => nets.ok().map(|nets| Some(nets).filter(|nets| !is_whole(nets))),
            None => Some(None),
        };
        Some(Scope { sources: nets(self.source)?, destinations: nets(self.destination)?, ipv6 })
    }

    /// Returns what is left as it is; `None` if linkbal cannot say it.
    fn exception(&self, leaves: bool, lines: &Lines, ipv6: bool) -> Option<Untranslated> {
        let (mut source, mut destination) = (self.source, self.destination);
        match self.negated {
            _ if self.others => return None,
            None => {}
            Some(_) if leaves => return None,
            // All but these are translated.
            Some(("-d" | "--destination" | "--dst", text)) => destination = Some(text),
            Some(("-s" | "--source" | "--src", text)) => source = Some(text),
            Some(_) => return None,
        }
        let nets = |text: Option<&str>| -> Option<Option<String>> {
            let Some(text) = text else { return Some(None) };
            let nets = values::prefixes(text).ok()?;
            Some((!is_whole(&nets)).then(|| one_or_list(&values::prefix_texts(&nets))))
        };
        let inside = destination.is_some_and(|text| {
            let nets = values::prefixes(text).unwrap_or_default();
            !nets.is_empty() && nets.iter().all(values::is_private)
        });
        let scope = Conditions { source, destination, ..Conditions::default() }.scope(ipv6)?;
        Some(Untranslated {
            inside,
            scope,
            negated: !leaves,
            source: nets(source)?,
            destination: nets(destination)?,
            device: self.device.map(str::to_owned),
            lines: lines.clone(),
        })
    }
}

fn is_whole(nets: &[ipnet::IpNet]) -> bool {
    nets.iter().any(values::is_whole_family)
}

/// Returns whether a rule for a device is about an uplink.
pub(super) fn is_of(device: Option<&str>, name: &str) -> bool {
    device.is_none_or(|device| match device.strip_suffix('+') {
        Some(start) => name.starts_with(start),
        None => name == device,
    })
}

/// Says what becomes of an exception for private destinations.
const BY_ROUTES: &str = "it is exempt by whichever uplink it leaves, and follows the routes of the main \
                         table: no uplink leads to private destinations";

/// Tells of a rule that translates what leaves.
fn tell(draft: &mut Draft, rule: &Translating) {
    let lines = rule.lines.clone();
    let mut devices = draft.uplinks.iter().filter_map(|uplink| uplink.device.name());
    let device = rule.device.as_deref();
    if device.is_some() && !devices.any(|name| is_of(device, name)) {
        let why = "its device is no uplink's: it stays as it is beside linkbal";
        return draft.unneeded(lines, why);
    }
    let whole = |text: &str| values::prefixes(text).is_ok_and(|nets| is_whole(&nets));
    match &rule.source {
        Some(source) if !whole(source) => {
            let why = format!(
                "only {source} was translated by it; linkbal translates all that leaves by an uplink: \
                 write a nat.exempt with the `source` of what has addresses of its own"
            );
            draft.changed(lines, why);
        }
        _ if rule.to_address => {
            draft.unneeded(lines, "linkbal translates to the address of the uplink's interface");
        }
        _ => draft.unneeded(lines, "linkbal translates by itself what leaves by an uplink"),
    }
}

/// Writes the exceptions that are about uplinks.
pub(super) fn write(draft: &mut Draft, facts: &Facts) {
    facts.translating.iter().for_each(|rule| tell(draft, rule));
    for (at, rule) in facts.postrouting.iter().enumerate() {
        if let Outward::Leaves(one) = rule {
            exempt(draft, one, &facts.postrouting, at);
        }
    }
}

/// Writes the exception at a place of the chain.
fn exempt(draft: &mut Draft, one: &Untranslated, chain: &[Outward], at: usize) {
    let lines = one.lines.clone();
    let name = |uplink: &Uplink| uplink.device.name().unwrap_or_default().to_owned();
    let concerned =
        draft.uplinks.iter().filter(|uplink| is_of(one.device.as_deref(), &name(uplink)));
    let concerned: Vec<(String, String)> =
        concerned.map(|uplink| (quote(&uplink.id), name(uplink))).collect();
    if concerned.is_empty() {
        return draft.unneeded(lines, "linkbal translates only what leaves by an uplink");
    }
    // What a rule leaves out, a later one may translate.
    let others = if one.negated { chain } else { chain.get(..at).unwrap_or_default() };
    let translated = |whole: bool, name: &str| {
        others.iter().any(|rule| match rule {
            Outward::Translates { scope, device, others } if is_of(device.as_deref(), name) => {
                match whole {
                    true => !others && scope.covers(&one.scope),
                    false => scope.meets(&one.scope),
                }
            }
            _ => false,
        })
    };
    let all = concerned.len();
    let left: Vec<(String, String)> =
        concerned.into_iter().filter(|(_, name)| !translated(true, name)).collect();
    if left.is_empty() {
        let why = match one.negated {
            true => "another rule translates what it leaves out: linkbal does, too",
            false => "never reached: a rule before it translates the same",
        };
        return draft.unneeded(lines, why);
    }
    if left.iter().any(|(_, name)| translated(false, name)) || one.inside && left.len() < all {
        return draft.untranslated(
            lines,
            "another rule translates a part of it: write what is left as nat.exempt",
        );
    }
    let uplinks: Vec<String> = left.into_iter().map(|(id, _)| id).collect();
    if one.inside && uplinks.len() < draft.uplinks.len() {
        draft.changed(lines.clone(), BY_ROUTES);
    }
    // Without an uplink, it follows the routes of the main table.
    let uplinks = (!one.inside).then(|| one_or_list(&uplinks));
    let said = [("source", &one.source), ("destination", &one.destination), ("uplink", &uplinks)];
    let said = said
        .into_iter()
        .filter_map(|(key, value)| value.as_ref().map(|value| format!("{key} = {value}")));
    let value = format!("{{ {} }}", said.collect::<Vec<_>>().join(", "));
    draft.add_exempt(Setting::new("exempt", value, lines));
}
