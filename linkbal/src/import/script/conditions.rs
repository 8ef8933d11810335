//! Conditions of iptables and of ip rules, as those of a rule.

use super::{
    chance::{Chance, Options},
    is_unmarked,
};
use crate::import::{
    model::{Rule, Setting},
    note::Lines,
    values::{self, one_or_list, quote},
};

/// Options with a value that say nothing about which packets fit.
const HARMLESS: [&str; 11] = [
    "-t",
    "--table",
    "-A",
    "--append",
    "-I",
    "--insert",
    "-j",
    "--jump",
    "-g",
    "--goto",
    "--comment",
];

/// Options without a value that say nothing about which packets fit, and those of the target MARK.
const WITHOUT_MEANING: [&str; 10] = [
    "-w",
    "--wait",
    "-4",
    "-6",
    "--ipv4",
    "--ipv6",
    "-v",
    "--set-mark",
    "--set-xmark",
    "--or-mark",
];

/// Modules that fit every packet as long as none of their options is given.
const MODULES: [&str; 15] = [
    "statistic",
    "tcp",
    "udp",
    "sctp",
    "icmp",
    "icmp6",
    "multiport",
    "state",
    "conntrack",
    "mark",
    "connmark",
    "comment",
    "mac",
    "iprange",
    "dscp",
];

/// Conditions that are about the order of rules, and none of a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct MarkState {
    /// Set if only packets without a mark fit.
    pub(super) unmarked: bool,
    /// Set if only packets with a mark fit.
    pub(super) marked: bool,
    /// Set if only packets of connections fit that exist already.
    pub(super) existing: bool,
    /// The part of the packets that fit, by chance.
    pub(super) chance: Option<Chance>,
}

/// Adds the conditions of iptables to a rule. A word that is not known makes it a comment: without it
/// the rule would take more than it did.
pub(super) fn read(rule: &mut Rule, words: &[String], lines: &Lines) -> MarkState {
    let mut state = MarkState::default();
    let mut words = words.iter().map(String::as_str).peekable();
    let mut negated = false;
    let mut unknown = Vec::new();
    let mut statistic = Options::default();
    while let Some(word) = words.next() {
        if word == "!" {
            negated = true;
            continue;
        }
        let negated = std::mem::take(&mut negated);
        if HARMLESS.contains(&word) {
            words.next();
        } else if let Some(key) = key_of(word) {
            let value = words.next().unwrap_or_default();
            if negated || value.starts_with('!') {
                rule.broken.push(format!("linkbal has no negation, as of `{word}`"));
            } else if let Err(why) = add(rule, key, value, lines) {
                rule.broken.push(why);
            }
        } else if matches!(word, "-m" | "--match") {
            let module = words.next().unwrap_or_default();
            if !MODULES.contains(&module) {
                unknown.push(format!("-m {module}"));
            }
        } else if matches!(word, "--mode" | "--probability" | "--every" | "--packet") {
            let value = words.next().unwrap_or_default();
            // The rest of a part is a part, too, but which one is not worked out.
            statistic.take(if negated { "--mode" } else { word }, value);
        } else if matches!(word, "--mark" | "--state" | "--ctstate") {
            let value = words.next().unwrap_or_default();
            if value == "!" {
                rule.broken.push(format!("linkbal has no negation, as of `{word}`"));
            } else {
                order(rule, &mut state, word, value, negated);
            }
        } else if word.starts_with('-') && !WITHOUT_MEANING.contains(&word) {
            unknown.push(word.to_owned());
        }
    }
    state.chance = statistic.chance();
    // The options of a module that is not known need no words of their own.
    if let Some(first) = unknown.first() {
        rule.broken.push(format!("linkbal has nothing like `{first}`"));
    }
    state
}

/// Takes a condition on marks or on states.
fn order(rule: &mut Rule, state: &mut MarkState, word: &str, value: &str, negated: bool) {
    match (word, is_unmarked(value)) {
        ("--mark", true) if negated => state.marked = true,
        ("--mark", true) => state.unmarked = true,
        ("--mark", false) => {
            rule.broken.push(format!("it depends on the mark {value} of another rule"));
        }
        _ => {
            let new = value.split(',').any(|name| matches!(name, "NEW" | "UNTRACKED"));
            // A flow has its uplink from its first packet on.
            state.existing |= new == negated;
        }
    }
}

/// Returns the key for an option of iptables.
fn key_of(word: &str) -> Option<&'static str> {
    Some(match word {
        "-s" | "--source" | "--src" | "--src-range" => "source",
        "-d" | "--destination" | "--dst" | "--dst-range" => "destination",
        "-p" | "--protocol" => "protocol",
        "--sport" | "--sports" | "--source-port" | "--source-ports" => "sport",
        "--dport" | "--dports" | "--destination-port" | "--destination-ports" => "dport",
        "-i" | "--in-interface" => "interface",
        "--mac-source" => "mac",
        "--dscp" | "--dscp-class" => "dscp",
        _ => return None,
    })
}

/// Adds a condition to a rule; one that everything fits is none.
///
/// # Errors
/// The reason why linkbal cannot say it.
pub(super) fn add(rule: &mut Rule, key: &str, value: &str, lines: &Lines) -> Result<(), String> {
    let named = key == "destination" && values::prefixes(value).is_err() && is_domain(value);
    let key = if named { "domain" } else { key };
    let written = match key {
        "source" | "destination" => {
            let nets = values::prefixes(value)?;
            if nets.iter().any(values::is_whole_family) {
                return Ok(());
            }
            one_or_list(&values::prefix_texts(&nets))
        }
        "sport" | "dport" => one_or_list(&values::ports(value)?),
        "protocol" => match values::protocols(value)? {
            Some(names) => one_or_list(&names),
            None => return Ok(()),
        },
        "interface" if value == "lo" => {
            return Err("rules are for flows of the LAN, not for the gateway's own".into());
        }
        "interface" => quote(&values::pattern(value)),
        "dscp" => dscp(value).ok_or_else(|| format!("\"{value}\" is no DSCP"))?.to_string(),
        _ => quote(&value.to_lowercase()),
    };
    match rule.matches.iter().find(|one| one.key == key) {
        Some(known) if known.value != written => {
            Err(format!("a rule has one `{key}`, and both {} and {written} must fit", known.value))
        }
        Some(_) => Ok(()),
        None => {
            rule.matches.push(Setting::new(key, written, lines.clone()));
            Ok(())
        }
    }
}

/// Returns whether a text is the name of a host, and no address.
fn is_domain(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    let last = text.rsplit('.').next().unwrap_or_default();
    text.contains('.')
        && text.chars().all(fits)
        && last.chars().all(|c| c.is_ascii_alphabetic())
        && !last.is_empty()
}

/// Parses a DSCP: a number, or the name of a class (RFC 2474, 2597, 3246, 5865, 8622).
fn dscp(text: &str) -> Option<u8> {
    let name = text.to_ascii_uppercase();
    let number = match &*name {
        "BE" | "DF" => 0,
        "LE" => 1,
        "EF" => 46,
        "VA" | "VOICE-ADMIT" => 44,
        _ => match (name.strip_prefix("CS"), name.strip_prefix("AF"), name.strip_prefix("0X")) {
            (Some(class), ..) => digit(class, 7)?.checked_mul(8)?,
            (_, Some(class), _) => {
                let (class, drop) = class.split_at_checked(1)?;
                let (class, drop) = (digit(class, 4)?, digit(drop, 3)?);
                class.checked_mul(8)?.checked_add(drop.checked_mul(2)?)?
            }
            (.., Some(digits)) => u8::from_str_radix(digits, 16).ok()?,
            _ => name.parse().ok()?,
        },
    };
    (number < 64).then_some(number)
}

/// Parses one digit that is not above `highest`.
fn digit(text: &str, highest: u8) -> Option<u8> {
    text.parse().ok().filter(|digit| text.len() == 1 && *digit <= highest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_of_dscp_are_numbers() {
        let texts = ["EF", "AF41", "cs1", "be", "0x2e", "12", "AF51", "CS8", "64", "x", "AFé"];
        let numbers = [Some(46), Some(34), Some(8), Some(0), Some(46), Some(12)];
        let expected: Vec<Option<u8>> = numbers.into_iter().chain([None; 5]).collect();
        assert_eq!(texts.map(dscp).to_vec(), expected);
    }

    #[test]
    fn words_that_are_not_known_make_the_rule_a_comment() {
        let unknown = [
            "-m time --timestart 08:00",
            "--syn",
            "--helper ftp",
            "--physdev-in eth7",
            "-m socket",
            "-o eth1",
        ];
        for text in unknown {
            let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
            let mut rule = Rule::default();
            read(&mut rule, &words, &Lines::default());
            assert_eq!(rule.broken.len(), 1, "{text}");
        }
        let known = "-t mangle -A PREROUTING -w -m comment --comment my -m tcp --dport 25 -j MARK";
        let words: Vec<String> = known.split(' ').map(str::to_owned).collect();
        let mut rule = Rule::default();
        read(&mut rule, &words, &Lines::default());
        assert_eq!((rule.broken.len(), rule.matches.len()), (0, 1));
    }
}
