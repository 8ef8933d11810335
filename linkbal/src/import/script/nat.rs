//! Exceptions from the translation of addresses: what the chain POSTROUTING leaves as it is.

use super::{
    facts::{Facts, Untranslated},
    lines_of,
};
use crate::import::{
    model::{Draft, Setting},
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
) -> bool {
    let Some(target) = Conditions::of(words) else { return false };
    let leaves = matches!(target.target, "ACCEPT" | "RETURN");
    let translates = matches!(target.target, "MASQUERADE" | "SNAT") && target.negated.is_some();
    if !(leaves || translates) {
        return false;
    }
    let lines = lines_of(command);
    match target.exception(leaves, &lines) {
        Some(_) if command.doubtful => draft.untranslated(lines, BY_HAND),
        Some(one) if one.source.is_none() && one.destination.is_none() => {
            return false;
        }
        Some(one) => facts.exempt.push(one),
        None => draft.untranslated(lines, BY_HAND),
    }
    true
}

/// The conditions of a rule of the table nat.
#[derive(Default)]
struct Conditions<'a> {
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
    /// Returns the conditions of a rule of POSTROUTING.
    fn of(words: &[&'a str]) -> Option<Conditions<'a>> {
        let mut found = Conditions::default();
        let mut words = words.iter().copied().peekable();
        let (mut negated, mut inside) = (false, false);
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
                "-A" | "-I" | "--append" | "--insert" => {
                    inside = value() == "POSTROUTING";
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
        inside.then_some(found)
    }

    /// Returns what is left as it is; `None` if linkbal cannot say it.
    fn exception(&self, leaves: bool, lines: &Lines) -> Option<Untranslated> {
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
            let whole = nets.iter().any(values::is_whole_family);
            Some((!whole).then(|| one_or_list(&values::prefix_texts(&nets))))
        };
        let inside = destination.is_some_and(|text| {
            let nets = values::prefixes(text).unwrap_or_default();
            !nets.is_empty() && nets.iter().all(values::is_private)
        });
        Some(Untranslated {
            inside,
            source: nets(source)?,
            destination: nets(destination)?,
            device: self.device.map(str::to_owned),
            lines: lines.clone(),
        })
    }
}

/// Says what becomes of an exception for private destinations.
const BY_ROUTES: &str = "it is exempt by whichever uplink it leaves, and follows the routes of the main \
                         table: no uplink leads to private destinations";

/// Writes the exceptions that are about uplinks.
pub(super) fn write(draft: &mut Draft, facts: &Facts) {
    for one in &facts.exempt {
        let lines = one.lines.clone();
        let of_device = |device: &String| {
            let device = device.trim_end_matches('+');
            let known = draft.uplinks.iter();
            let of = known
                .filter(|uplink| uplink.device.name().is_some_and(|name| name.starts_with(device)));
            of.map(|uplink| quote(&uplink.id)).collect::<Vec<_>>()
        };
        let uplinks = one.device.as_ref().map(of_device);
        if uplinks.as_ref().is_some_and(Vec::is_empty) {
            draft.unneeded(lines, "linkbal translates only what leaves by an uplink");
            continue;
        }
        let all = || draft.uplinks.iter().map(|uplink| quote(&uplink.id)).collect();
        let uplinks = uplinks.unwrap_or_else(all);
        if one.inside && uplinks.len() < draft.uplinks.len() {
            draft.changed(lines.clone(), BY_ROUTES);
        }
        // Without an uplink, it follows the routes of the main table.
        let uplinks = (!one.inside).then(|| one_or_list(&uplinks));
        let said =
            [("source", &one.source), ("destination", &one.destination), ("uplink", &uplinks)];
        let said = said
            .into_iter()
            .filter_map(|(key, value)| value.as_ref().map(|value| format!("{key} = {value}")));
        let value = format!("{{ {} }}", said.collect::<Vec<_>>().join(", "));
        draft.add_exempt(Setting::new("exempt", value, lines));
    }
}
