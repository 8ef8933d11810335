//! Rules of the table mangle and chains of the script's own: which of them are there for the uplinks.

use std::collections::BTreeSet;

use crate::{
    import::{
        script::{facts::Facts, iptables, is_unknown, routes::value_of, within::name_of},
        shell::Command,
    },
    removal::{Stage, Step, shell_word},
};

/// Options that put a rule into a chain.
pub(super) const ADDED: [&str; 4] = ["-A", "-I", "--append", "--insert"];

/// Chains of the kernel's.
const KERNEL: [&str; 5] = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];

/// Deepest nesting of chains.
const DEPTH: usize = 8;

/// Says why a rule that keeps marks stays.
const KEEPS: &str = "marks that stay may need it";

/// End of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Goes,
    Stays(&'static str),
    /// Stays without a word, or goes with its chain.
    Untold,
}

/// The purpose of a rule, by its own words.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Purpose {
    /// Marks packets for an uplink.
    Balances,
    /// Marks packets for something else.
    Other,
    /// Keeps or clears marks.
    Keeps,
    /// Leaves the chain.
    Leaves,
    Jumps(String),
    /// Does something that is no mark.
    Else,
}

/// A rule.
pub(super) struct Entry {
    /// Place of its command.
    at: usize,
    program: String,
    chain: String,
    purpose: Purpose,
}

/// All rules that the script puts into the table mangle, and those that mark in others.
pub(super) struct Chains {
    entries: Vec<Entry>,
    /// Chains of the script's own that are for the uplinks alone, with the program that makes them.
    own: BTreeSet<(String, String)>,
    /// Chains that mark for an uplink.
    balancing: BTreeSet<(String, String)>,
    /// Set if marks stay.
    others: bool,
    /// Set if marks go.
    any: bool,
}

impl Entry {
    /// Returns whether a program is iptables.
    pub(super) fn is_of(program: &str) -> bool {
        let rest = program.strip_prefix("ip6tables").or_else(|| program.strip_prefix("iptables"));
        matches!(rest, Some("" | "-legacy" | "-nft"))
    }

    fn read(at: usize, command: &Command, facts: &Facts) -> Option<Entry> {
        let words: Vec<&str> = command.words.iter().map(String::as_str).collect();
        let program = *words.first()?;
        let chain = value_of(&words, &ADDED)?;
        if !Entry::is_of(name_of(program)) {
            return None;
        }
        let mangle = value_of(&words, &["-t", "--table"]) == Some("mangle");
        let target = value_of(&words, &["-j", "--jump", "-g", "--goto"])?;
        let purpose = match target {
            "MARK" | "CONNMARK" => of_mark(&words, facts),
            "HMARK" if leading(facts).next().is_some() => Purpose::Balances,
            "HMARK" => Purpose::Other,
            "ACCEPT" | "RETURN" if mangle => Purpose::Leaves,
            _ if !mangle => return None,
            chain if is_own(facts, chain) => Purpose::Jumps(chain.into()),
            _ => Purpose::Else,
        };
        let (program, chain) = (name_of(program).to_owned(), chain.to_owned());
        Some(Entry { at, program, chain, purpose })
    }

    fn place(&self) -> (String, String) {
        (self.program.clone(), self.chain.clone())
    }
}

/// Returns whether rules are put into a chain of this name.
fn is_own(facts: &Facts, chain: &str) -> bool {
    facts.chained.iter().any(|rule| rule.chain == chain)
}

/// Returns the ip rules for marks that lead to uplinks.
fn leading(facts: &Facts) -> impl Iterator<Item = &crate::import::script::facts::IpRule> {
    facts.rules.iter().filter(|ip| ip.fwmark.is_some() && facts.leads_out(&ip.table))
}

/// Returns the purpose of a rule that marks.
fn of_mark(words: &[&str], facts: &Facts) -> Purpose {
    let text = value_of(words, &["--set-mark", "--set-xmark", "--or-mark"]);
    if text.is_some_and(is_unknown) {
        return Purpose::Balances;
    }
    let number = text.and_then(|text| Some(iptables::number(text)? & iptables::mask(text)));
    match number {
        None | Some(0) => Purpose::Keeps,
        Some(number) if leading(facts).any(|ip| ip.leads(number)) => Purpose::Balances,
        Some(_) => Purpose::Other,
    }
}

impl Chains {
    /// Reads the rules of all commands.
    pub(super) fn read(commands: &[Command], facts: &Facts) -> Chains {
        let all = commands.iter().enumerate();
        let entries: Vec<Entry> =
            all.filter_map(|(at, command)| Entry::read(at, command, facts)).collect();
        let has = |purpose: Purpose| entries.iter().any(|one| one.purpose == purpose);
        let (any, others) = (has(Purpose::Balances), has(Purpose::Other));
        let mut balancing: BTreeSet<(String, String)> = BTreeSet::new();
        let mut mixed: BTreeSet<(String, String)> = BTreeSet::new();
        for _ in 0..DEPTH {
            for one in &entries {
                match &one.purpose {
                    Purpose::Balances => _ = balancing.insert(one.place()),
                    Purpose::Jumps(to) => {
                        let to = (one.program.clone(), to.clone());
                        if balancing.contains(&to) {
                            balancing.insert(one.place());
                        }
                        if mixed.contains(&to) {
                            mixed.insert(one.place());
                        }
                    }
                    Purpose::Other | Purpose::Else => _ = mixed.insert(one.place()),
                    Purpose::Keeps if others => _ = mixed.insert(one.place()),
                    Purpose::Keeps | Purpose::Leaves => {}
                }
            }
        }
        let own = balancing.iter().filter(|place| !mixed.contains(*place));
        let own = own.filter(|(_, chain)| !KERNEL.contains(&&**chain)).cloned().collect();
        Chains { entries, own, balancing, others, any }
    }

    /// Returns what becomes of the rule of a command; `None` if it is none of these.
    pub(super) fn fate(&self, at: usize) -> Option<Fate> {
        let entry = self.entries.iter().find(|entry| entry.at == at)?;
        let place = entry.place();
        if self.own.contains(&place) {
            return Some(Fate::Untold);
        }
        Some(match &entry.purpose {
            Purpose::Balances => Fate::Goes,
            Purpose::Other => Fate::Stays("no ip rule for an uplink asks for its mark"),
            Purpose::Keeps if self.others || !self.any => Fate::Stays(KEEPS),
            Purpose::Keeps => Fate::Goes,
            Purpose::Leaves if !self.balancing.contains(&place) => Fate::Untold,
            Purpose::Leaves if self.others => Fate::Stays(KEEPS),
            Purpose::Leaves => Fate::Goes,
            Purpose::Jumps(to) if self.own.contains(&(entry.program.clone(), to.clone())) => {
                Fate::Goes
            }
            Purpose::Jumps(to) if self.balancing.contains(&(entry.program.clone(), to.clone())) => {
                Fate::Stays("its chain does more than mark for the uplinks")
            }
            Purpose::Jumps(_) | Purpose::Else => Fate::Untold,
        })
    }

    /// Returns the steps that take away the chains that are for the uplinks alone.
    pub(super) fn emptied(&self) -> Vec<Step> {
        let step = |option: &str, (program, chain): &(String, String)| {
            let words = [program.as_str(), "-t", "mangle", option, chain].map(shell_word);
            Step::new(Stage::Marks, "", words.join(" "))
        };
        let known = || self.own.iter().filter(|(_, chain)| !is_unknown(chain));
        known()
            .map(|place| step("-F", place))
            .chain(known().map(|place| step("-X", place)))
            .collect()
    }
}
