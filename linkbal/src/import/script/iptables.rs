//! `iptables`: which of its rules are about the choice of a line.

use super::{
    conditions::{self, MarkState},
    facts::{Chained, Facts, Target, Translating},
    is_unmarked, lines_of, nat,
    routes::value_of,
};
use crate::import::{
    model::{Draft, Rule, Setting},
    note::{Lines, NoteKind},
    shell::Command,
    values,
};

/// Says what to do if flows are shared by a hash.
pub(super) const FILL_IN_HASH: &str = "weight: the script shares flows by `-j HMARK`, which is not worked out here: write the `weight` of \
     each uplink, or a [[rule]] with `use`";

/// Options that put a rule into a chain.
const ADDED: [&str; 4] = ["-A", "-I", "--append", "--insert"];

/// Reads `iptables`, or `ip6tables` if `ipv6`.
pub(super) fn read(
    draft: &mut Draft,
    facts: &mut Facts,
    command: &Command,
    words: &[&str],
    ipv6: bool,
) {
    let words: Vec<&str> = words.iter().flat_map(|word| apart(word)).collect();
    let table = value_of(&words, &["-t", "--table"]).unwrap_or("filter");
    let chain = value_of(&words, &ADDED).unwrap_or_default();
    let target = value_of(&words, &["-j", "--jump"]).unwrap_or_default();
    if table == "mangle" && !chain.is_empty() {
        return mangle(draft, facts, command, &words, ipv6);
    }
    if table == "mangle" && taken(draft, facts, command, &words, ipv6) {
        return;
    }
    if table == "nat" {
        outward(facts, &words, target);
        if nat::read(facts, draft, command, &words, ipv6) {
            return;
        }
    }
    let lines = lines_of(command);
    let replaced = words.iter().any(|word| matches!(*word, "-R" | "--replace"));
    if replaced && matches!(table, "mangle" | "nat") {
        return draft.untranslated(lines, "a rule that takes the place of another is not read");
    }
    let why = match (table, target) {
        _ if chain.is_empty() => {
            "linkbal's tables are its own: what empties others does not touch them"
        }
        // Which devices are those of uplinks is known in the end.
        ("nat", "MASQUERADE" | "SNAT") => {
            let own = |keys: &[&str]| value_of(&words, keys).map(str::to_owned);
            facts.translating.push(Translating {
                source: own(&["-s", "--source", "--src"]).filter(|text| !text.starts_with('!')),
                device: own(&["-o", "--out-interface"]).filter(|text| !text.starts_with('!')),
                to_address: target == "SNAT",
                lines,
            });
            return;
        }
        ("nat", "DNAT" | "REDIRECT") => {
            "port forwards stay yours; their answers leave by the right uplink"
        }
        ("nat", _) => "NAT rules of others go before linkbal's: see docs/coexistence.md",
        _ => "filters stay outside linkbal",
    };
    draft.unneeded(lines, why);
}

/// Takes what a rule of the table nat says of devices and of the machine's own addresses.
fn outward(facts: &mut Facts, words: &[&str], target: &str) {
    if !matches!(target, "MASQUERADE" | "SNAT") {
        return;
    }
    let device = value_of(words, &["-o", "--out-interface"]);
    let negated = words.iter().any(|word| word.starts_with('!'));
    facts.outward.extend(device.filter(|_| !negated).map(str::to_owned));
    facts.own.extend(value_of(words, &["--to-source", "--to"]).and_then(values::host));
}

/// Reads a rule of the table mangle.
fn mangle(draft: &mut Draft, facts: &mut Facts, command: &Command, words: &[&str], ipv6: bool) {
    let lines = lines_of(command);
    let jump = value_of(words, &["-j", "--jump"]).unwrap_or_default();
    let goto = value_of(words, &["-g", "--goto"]);
    let text = value_of(words, &["--set-mark", "--set-xmark", "--or-mark"]);
    let mark = text.and_then(number);
    let mask = text.map_or(u32::MAX, mask);
    let changes = words.iter().find(|word| matches!(**word, "--and-mark" | "--xor-mark"));
    if let Some(word) = changes {
        return draft.untranslated(lines, format!("linkbal has nothing like `{word}`"));
    }
    let added_bits = words.contains(&"--or-mark");
    if mark.is_some() && !added_bits && mask != u32::MAX {
        facts.masks.insert(mask);
    }
    let chain = value_of(words, &ADDED).unwrap_or_default();
    let late = !matches!(chain, "PREROUTING" | "INPUT" | "OUTPUT");
    facts.saves_late |= late && words.contains(&"--save-mark");
    if is_restored(facts, command, chain, words, jump) {
        return draft.unneeded(lines, "a connection that exists keeps its uplink by itself");
    }
    let broken = if added_bits {
        Some("it adds bits to the mark of another rule".to_owned())
    } else {
        command.doubtful.then(|| super::DOUBTFUL.to_owned())
    };
    let target = match (jump, goto, mark) {
        ("MARK" | "CONNMARK", _, Some(number)) => Target::Mark(number & mask),
        ("MARK", ..) => return draft.unneeded(lines, "linkbal's marks are its own"),
        ("HMARK", ..) => {
            return draft.note(NoteKind::FillIn, lines, FILL_IN_HASH);
        }
        ("CONNMARK", ..) => {
            let why = "linkbal keeps the uplink of a connection in its mark by itself";
            return draft.unneeded(lines, why);
        }
        ("TCPMSS", ..) => {
            let why = "linkbal clamps the MSS by itself: see `mtu` of an uplink";
            return draft.unneeded(lines, why);
        }
        ("RETURN", ..) => Target::Return,
        ("ACCEPT", ..) => Target::Accept,
        (_, Some(chain), _) => Target::Goto(chain.into()),
        (chain, ..) => Target::Jump(chain.into()),
    };
    let added = words.iter().position(|word| ADDED.contains(word)).unwrap_or_default();
    let first = words.get(added).is_some_and(|word| matches!(*word, "-I" | "--insert"));
    let number = words.get(added.saturating_add(2)).and_then(|word| word.parse().ok());
    facts.chained.push(Chained {
        chain: words.get(added.saturating_add(1)).copied().unwrap_or_default().into(),
        words: words.iter().map(|word| (*word).to_owned()).collect(),
        target,
        place: first.then(|| number.unwrap_or(1)),
        mask,
        broken,
        ipv6,
        lines,
    });
}

/// Returns whether a rule lets what has a mark go right behind one that restores it: new connections have
/// none there.
fn is_restored(
    facts: &mut Facts,
    command: &Command,
    chain: &str,
    words: &[&str],
    jump: &str,
) -> bool {
    let before = facts.restored.take();
    let mut rule = Rule::default();
    let said: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let state = conditions::read(&mut rule, &said, &Lines::default());
    let last = words.iter().any(|word| matches!(*word, "-A" | "--append"));
    if jump == "CONNMARK" {
        let all = rule.broken.len() == usize::from(words.contains(&"--restore-mark"));
        let sure = last && all && state == MarkState::default() && !command.doubtful;
        facts.restored = (sure && words.contains(&"--restore-mark")).then(|| (chain.into(), rule));
        return false;
    }
    let within = |(of, restore): &(String, Rule)| {
        let has = |set: &Setting| {
            rule.matches.iter().any(|one| one.key == set.key && one.value == set.value)
        };
        of == chain && restore.matches.iter().all(has)
    };
    matches!(jump, "ACCEPT" | "RETURN")
        && last
        && state.marked
        && before.as_ref().is_some_and(within)
}

/// Takes a rule away that the script has added before, if it always does; returns whether it was one.
fn taken(
    draft: &mut Draft,
    facts: &mut Facts,
    command: &Command,
    words: &[&str],
    ipv6: bool,
) -> bool {
    /// Returns the words behind the verb and the place.
    fn said<'w>(words: &[&'w str], verbs: &[&str]) -> Option<Vec<&'w str>> {
        let at = words.iter().position(|word| verbs.contains(word))?;
        let mut said = words.to_vec();
        said.remove(at);
        let place = at.saturating_add(1);
        if said.get(place).is_some_and(|word| word.parse::<u32>().is_ok()) {
            said.remove(place);
        }
        Some(said)
    }
    let always = !command.conditional && !command.doubtful && command.function.is_none();
    let Some(wanted) = said(words, &["-D", "--delete"]).filter(|_| always) else { return false };
    let same = |one: &Chained| {
        let own: Vec<&str> = one.words.iter().map(String::as_str).collect();
        one.ipv6 == ipv6 && said(&own, &ADDED).as_ref() == Some(&wanted)
    };
    let Some(at) = facts.chained.iter().position(same) else { return false };
    let added = facts.chained.remove(at);
    let why = "the script adds it, and takes it away behind";
    draft.unneeded(added.lines.and(&lines_of(command)), why);
    true
}

/// Takes `--option=value` apart.
fn apart<'a>(word: &&'a str) -> Vec<&'a str> {
    match word.split_once('=') {
        Some((option, value)) if option.starts_with("--") => vec![option, value],
        _ => vec![*word],
    }
}

/// Returns the mask of a mark: all bits if it has none that can be read.
pub(super) fn mask(text: &str) -> u32 {
    text.split_once('/').and_then(|(_, mask)| number(mask)).unwrap_or(u32::MAX)
}

/// Parses a mark, without its mask.
pub(super) fn number(text: &str) -> Option<u32> {
    if is_unmarked(text) {
        return Some(0);
    }
    let text = text.split('/').next().unwrap_or_default();
    match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}
