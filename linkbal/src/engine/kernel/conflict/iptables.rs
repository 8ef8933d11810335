//! The output of iptables-save, as far as it matters here: nft shows rules of iptables only by the
//! name of their targets, and those of iptables-legacy not at all.

use std::collections::BTreeSet;

use linkbal_common::uplink::Family;

use super::{
    each_packet::{self, Forwarded},
    forward,
    source_rule::{self, Leaving},
    survey::{Filter, FilterKind, MarkRule, Masquerade, SourceChange, Survey},
};
use crate::removal::shell_word;

/// The base chains that forwarded packets pass.
const BASES: [&str; 3] = ["PREROUTING", "FORWARD", "POSTROUTING"];

/// Maximum number of words of a rule that are read.
const WORDS: usize = 256;

impl Survey {
    /// Reads the output of a program such as `iptables-save`. Anything unknown is skipped.
    pub fn read_iptables(&mut self, save: &str, text: &str) {
        let command = save.strip_suffix("-save").unwrap_or(save);
        let six = command.starts_with("ip6");
        let mut table = "";
        let mut by_way = BTreeSet::new();
        let mut forwarded = Forwarded::new();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix('*') {
                table = name.trim();
            }
            // Those of nft are in its own listing.
            if table == "filter" && command.contains("legacy") {
                let (name, family) = if six { ("ip6", Family::Ipv6) } else { ("ip", Family::Ipv4) };
                self.closing.read_words(&format!("legacy {name} filter"), family, line);
            }
            if table == "filter" && forward::drops_words(line) {
                self.note_forward(&[if six { Family::Ipv6 } else { Family::Ipv4 }]);
            }
            let Some(rule) = line.strip_prefix("-A ") else { continue };
            let words: Vec<&str> = rule.split_whitespace().take(WORDS).collect();
            let Some(chain) = words.first() else { continue };
            let of_legacy = if command.contains("legacy") { "legacy " } else { "" };
            let family = if six { "ip6" } else { "ip" };
            let chain = format!("{of_legacy}{family} {table} {chain}");
            let delete = format!("{command} -t {table} -D {}", for_shell(rule));
            if BASES.iter().any(|base| words.first() == Some(base)) {
                forwarded.add_base(chain.clone());
            }
            let rule = self.read_words(&chain, &words, &delete);
            forwarded.add_rule(&chain, rule);
            match source_rule::read_words(&words) {
                Leaving::Source(address) if !by_way.contains(&chain) => {
                    self.sources.push(SourceChange { chain, address });
                }
                Leaving::ByWay => _ = by_way.insert(chain),
                Leaving::Source(_) | Leaving::Other => {}
            }
        }
        self.sources.sort_by(|a, b| (&a.chain, a.address).cmp(&(&b.chain, b.address)));
        self.sources.dedup();
        self.closing.prune();
        self.filters.extend(forwarded.findings());
    }

    /// Reads a rule; returns what it does to packets of established connections.
    fn read_words(
        &mut self,
        chain: &str,
        words: &[&str],
        delete: &str,
    ) -> each_packet::Rule<Filter> {
        let after = |option: &str| {
            let at = words.iter().position(|word| *word == option)?;
            words.get(at.checked_add(1)?).copied()
        };
        let delete = delete.to_owned();
        let target = after("-j").or_else(|| after("-g")).unwrap_or_default();
        match target {
            "MARK" | "CONNMARK" => {
                let (bits, value) = change(&after);
                let of_connection = target == "CONNMARK" && !words.contains(&"--restore-mark");
                let rule = MarkRule { bits, value, delete: delete.clone() };
                self.note(chain, of_connection, rule);
            }
            "TPROXY" => {
                if let Some((value, bits)) = after("--tproxy-mark").and_then(pair) {
                    let value = Some(value);
                    self.note(chain, false, MarkRule { bits, value, delete: delete.clone() });
                }
            }
            "MASQUERADE" => {
                let interface = after("-o").filter(|_| !words.contains(&"!")).map(str::to_owned);
                // The chain, the target, and the interface with its option.
                let known = if interface.is_some() { 5 } else { 3 };
                let (chain, narrow) = (chain.to_owned(), words.len() > known);
                self.masquerades.push(Masquerade {
                    chain,
                    interface,
                    narrow,
                    delete: delete.clone(),
                });
            }
            _ => {}
        }
        let six = chain.split(' ').any(|word| word == "ip6");
        let family = Some(if six { "ipv6" } else { "ipv4" }.to_owned());
        let interface = after("-i").map(str::to_owned);
        let narrow = ["-s", "-d", "--sport", "--dport", "--sports", "--dports"];
        let narrow = narrow.iter().any(|option| words.contains(option));
        let filter = |kind| Filter {
            chain: chain.to_owned(),
            kind,
            family: family.clone(),
            interface: interface.clone(),
            narrow,
            delete: delete.clone(),
        };
        self.filters.extend(kind(words, target).map(filter));
        let mut met = met(chain, words, target);
        met.finding = met.counts.then(|| filter(FilterKind::EachPacket));
        met
    }
}

/// Returns the kind of filter that a rule is, if it is one.
fn kind(words: &[&str], target: &str) -> Option<FilterKind> {
    let rpfilter = words.windows(2).any(|pair| pair == ["-m", "rpfilter"]);
    match target {
        // Inverted, the match catches the packets that fail the test.
        _ if rpfilter && words.contains(&"--invert") && target != "LOG" && target != "RETURN" => {
            let loose = words.contains(&"--loose");
            (!loose).then_some(FilterKind::ReversePath)
        }
        "CT" if words.contains(&"--notrack") => Some(FilterKind::NoTrack),
        "NOTRACK" => Some(FilterKind::NoTrack),
        "TEE" => Some(FilterKind::Duplicate),
        "FLOWOFFLOAD" => Some(FilterKind::Offload),
        _ => None,
    }
}

/// Returns what a rule does to packets of established connections; see the same of nft in `each_packet`.
fn met(chain: &str, words: &[&str], target: &str) -> each_packet::Rule<Filter> {
    let states = words.windows(2).find_map(|pair| match pair {
        ["--ctstate" | "--state", states] => Some(*states),
        _ => None,
    });
    let of_new = states.is_some_and(|states| !states.contains("ESTABLISHED"));
    let counted = words
        .windows(2)
        .any(|pair| matches!(pair, ["-m", "limit" | "hashlimit" | "quota" | "connbytes"]));
    let beside = chain.rsplit_once(' ').map_or("", |(table, _)| table);
    // The chain, then the target with its option; a match of the state takes four words.
    let (alone, by_state) = (words.len() <= 3, words.len() <= 7 && states.is_some());
    each_packet::Rule {
        counts: !of_new && (target == "NFQUEUE" || counted && !matches!(target, "LOG" | "NFLOG")),
        finding: None,
        accepts: target == "ACCEPT" && by_state && !of_new && !words.contains(&"!"),
        of_new,
        conditional: !alone,
        targets: vec![format!("{beside} {target}")],
    }
}

/// Returns the bits that a target changes, and their new value if it is always the same.
fn change<'a>(after: &impl Fn(&str) -> Option<&'a str>) -> (u32, Option<u32>) {
    let exclusive = after("--set-xmark").and_then(pair);
    if let Some((value, mask)) = exclusive {
        // Bits of the mask are cleared, and those of the value flipped.
        return (mask | value, Some(value));
    }
    let plain = after("--set-mark").and_then(pair);
    if let Some((value, mask)) = plain {
        return (mask | value, Some(value));
    }
    let number = |option: &str| after(option).and_then(number);
    if let Some(value) = number("--or-mark").or_else(|| number("--xor-mark")) {
        return (value, Some(value));
    }
    if let Some(value) = number("--and-mark") {
        return (!value, Some(0));
    }
    // --save-mark and --restore-mark: the bits of the mask that is written.
    let masks = [number("--nfmask"), number("--ctmask"), number("--mask")];
    (masks.into_iter().flatten().reduce(|all, bits| all | bits).unwrap_or(u32::MAX), None)
}

/// Parses a value and its mask.
fn pair(text: &str) -> Option<(u32, u32)> {
    match text.split_once('/') {
        Some((value, mask)) => Some((number(value)?, number(mask)?)),
        None => Some((number(text)?, u32::MAX)),
    }
}

fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Returns a rule as iptables-save prints it in words of a shell: there a text with blanks is in double
/// quotes, with a backslash before a quote or a backslash (`xtables_save_string` in iptables'
/// libxtables/xtables.c), where a shell would still run what it holds.
fn for_shell(rule: &str) -> String {
    let mut words = vec![String::new()];
    let push = |words: &mut Vec<String>, letter: Option<char>| {
        if let Some(word) = words.last_mut() {
            word.extend(letter);
        }
    };
    let (mut quoted, mut letters) = (false, rule.trim_end().chars());
    while let Some(letter) = letters.next() {
        match letter {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            '\\' if quoted => push(&mut words, letters.next()),
            _ => push(&mut words, Some(letter)),
        }
    }
    // A shell that reads a script does not look for an earlier command.
    let word = |word: &String| if word == "!" { word.clone() } else { shell_word(word) };
    words.iter().map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
