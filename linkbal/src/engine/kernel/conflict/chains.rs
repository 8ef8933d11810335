//! Base chains of others that decide what passes, and what they do to a kind of packet, as far as
//! their rules tell.
//!
//! Only verdicts, interfaces, families and states of connections are read; any further condition of
//! a rule makes what it does uncertain ([`ChainVerdict::Unknown`]).

use std::collections::{BTreeMap, BTreeSet};

use linkbal_common::uplink::Family;
use serde::{Deserialize, Serialize};

use crate::per_family::PerFamily;

/// Maximum depth of jumps (`NFT_JUMP_STACK_SIZE` in the kernel).
const DEPTH: usize = 16;

/// Maximum number of rules that are kept, and of those that are tried for one packet.
const MAX_RULES: usize = 4096;

/// The chains of others at the hooks `input`, `forward` and `output` that can drop packets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Chains {
    /// Base chains.
    pub bases: Vec<BaseChain>,
    /// Rules that may end the way of a packet, by chain.
    pub rules: BTreeMap<String, Vec<Rule>>,
}

/// The place of a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Hook {
    /// Packets for this machine.
    Input,
    /// Forwarded packets.
    Forward,
    /// Packets of this machine.
    Output,
}

/// A base chain.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct BaseChain {
    /// Family, table and name.
    pub chain: String,
    /// The hook.
    pub hook: Hook,
    /// Families of the packets that it sees.
    pub families: PerFamily<bool>,
    /// Set if it drops what no rule decides.
    pub drops: bool,
}

/// A list of interfaces that a rule matches.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct InterfaceSet {
    /// Names; one that ends with `*` is the beginning of many.
    pub names: Vec<String>,
    /// Set if it matches all others instead.
    pub others: bool,
}

/// A rule that may end the way of a packet.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Rule {
    /// Interfaces that packets come in by.
    pub iif: Option<InterfaceSet>,
    /// Interfaces that packets leave by.
    pub oif: Option<InterfaceSet>,
    /// Families that it matches.
    pub families: PerFamily<bool>,
    /// Set if it matches packets that begin a connection.
    pub new: bool,
    /// Set if it matches packets of established connections.
    pub established: bool,
    /// Set if it matches ICMP alone.
    pub icmp: bool,
    /// Set if it has further conditions.
    pub narrow: bool,
    /// Action on a packet that matches.
    pub end: End,
}

/// The action of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// The packet is accepted.
    Accept,
    /// The packet is dropped or refused.
    Drop,
    /// Another chain is asked; if that does not decide, the next rule is.
    Jump(String),
    /// Another chain is asked; if that does not decide, the policy does.
    Goto(String),
    /// The chain is left.
    Return,
    /// A program, a map, or something unknown decides.
    Unknown,
}

/// A kind of packet.
#[derive(Clone, Copy, Debug)]
pub struct PacketKind<'a> {
    /// The family.
    pub family: Family,
    /// Interface that it comes in by.
    pub iif: Option<&'a str>,
    /// Interface that it leaves by.
    pub oif: Option<&'a str>,
    /// Set if it belongs to an established connection; else it begins one.
    pub established: bool,
}

/// Treatment of a kind of packet in a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChainVerdict {
    /// All are dropped.
    Drop,
    /// Unknown: what is not read here decides.
    Unknown,
    /// All pass.
    Accept,
}

/// Treatment of a packet by a chain.
#[derive(Clone, Copy, Debug)]
enum ChainOutcome {
    Decided(ChainVerdict),
    /// No rule decides for certain; set if one might have accepted it.
    Falls(bool),
}

impl Default for Rule {
    fn default() -> Rule {
        Rule {
            iif: None,
            oif: None,
            families: PerFamily::from_fn(|_| true),
            new: true,
            established: true,
            icmp: false,
            narrow: false,
            end: End::Unknown,
        }
    }
}

impl InterfaceSet {
    fn contain(&self, name: &str) -> bool {
        let is_it = |known: &String| match known.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => known == name,
        };
        self.names.iter().any(is_it) != self.others
    }
}

impl Rule {
    /// Returns whether it matches such packets; `None` if only some of them.
    fn matches(&self, kind: PacketKind<'_>) -> Option<bool> {
        let by = |names: &Option<InterfaceSet>, name: Option<&str>| {
            names.as_ref().is_none_or(|names| name.is_some_and(|name| names.contain(name)))
        };
        let state = if kind.established { self.established } else { self.new };
        // What is forwarded is asked for connections, and pings alone are none.
        let forwarded = kind.iif.is_some() && kind.oif.is_some();
        let possible = by(&self.iif, kind.iif)
            && by(&self.oif, kind.oif)
            && self.families[kind.family]
            && state
            && !(self.icmp && forwarded);
        match possible {
            false => Some(false),
            true => (!self.narrow && !self.icmp).then_some(true),
        }
    }
}

impl Chains {
    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bases.is_empty()
    }

    /// Adds a rule to a chain, unless there are too many.
    pub(super) fn add(&mut self, chain: &str, rule: Rule) {
        let rules = self.rules.entry(chain.to_owned()).or_default();
        match rules.len() {
            0..MAX_RULES => rules.push(rule),
            MAX_RULES => rules.push(Rule { narrow: true, ..Rule::default() }),
            _ => {}
        }
    }

    /// Keeps only base chains that can drop packets, and the chains that they lead to.
    pub(super) fn prune(&mut self) {
        let reached: Vec<BTreeSet<String>> =
            self.bases.iter().map(|base| self.reached(&base.chain)).collect();
        let drops = |chains: &BTreeSet<String>| {
            let mut rules = chains.iter().filter_map(|chain| self.rules.get(chain)).flatten();
            rules.any(|rule| rule.end == End::Drop && !rule.narrow)
        };
        let keep: Vec<bool> = self
            .bases
            .iter()
            .zip(&reached)
            .map(|(base, chains)| base.drops || drops(chains))
            .collect();
        let kept = || keep.iter().copied();
        let used: BTreeSet<String> =
            reached.into_iter().zip(kept()).filter(|(_, keep)| *keep).flat_map(|it| it.0).collect();
        let mut keep = kept();
        self.bases.retain(|_| keep.next().unwrap_or_default());
        self.rules.retain(|chain, _| used.contains(chain));
    }

    /// Returns a chain and those that it leads to.
    fn reached(&self, chain: &str) -> BTreeSet<String> {
        let mut reached = BTreeSet::new();
        let mut next = vec![chain.to_owned()];
        while let Some(chain) = next.pop() {
            let rules = self.rules.get(&chain).into_iter().flatten();
            next.extend(rules.filter_map(|rule| match &rule.end {
                End::Jump(to) | End::Goto(to) if !reached.contains(to) => Some(to.clone()),
                _ => None,
            }));
            reached.insert(chain);
        }
        reached
    }

    /// Returns what a base chain does to a kind of packet.
    pub fn verdict(&self, base: &BaseChain, kind: PacketKind<'_>) -> ChainVerdict {
        if !base.families[kind.family] {
            return ChainVerdict::Accept;
        }
        let mut left = MAX_RULES;
        match self.ask(&base.chain, kind, DEPTH, &mut left) {
            ChainOutcome::Decided(verdict) => verdict,
            ChainOutcome::Falls(_) if !base.drops => ChainVerdict::Accept,
            ChainOutcome::Falls(true) => ChainVerdict::Unknown,
            ChainOutcome::Falls(false) => ChainVerdict::Drop,
        }
    }

    fn ask(
        &self,
        chain: &str,
        kind: PacketKind<'_>,
        depth: usize,
        left: &mut usize,
    ) -> ChainOutcome {
        let Some(depth) = depth.checked_sub(1) else {
            return ChainOutcome::Decided(ChainVerdict::Unknown);
        };
        let mut maybe = false;
        for rule in self.rules.get(chain).into_iter().flatten() {
            let Some(rest) = left.checked_sub(1) else {
                return ChainOutcome::Decided(ChainVerdict::Unknown);
            };
            *left = rest;
            let matched = rule.matches(kind);
            if matched == Some(false) {
                continue;
            }
            let (outcome, leaves) = match &rule.end {
                End::Accept => (ChainOutcome::Decided(ChainVerdict::Accept), true),
                End::Drop => (ChainOutcome::Decided(ChainVerdict::Drop), true),
                End::Jump(to) => (self.ask(to, kind, depth, left), false),
                End::Goto(to) => (self.ask(to, kind, depth, left), true),
                End::Return => (ChainOutcome::Falls(false), true),
                End::Unknown => (ChainOutcome::Falls(true), false),
            };
            let accepts = !matches!(
                outcome,
                ChainOutcome::Decided(ChainVerdict::Drop) | ChainOutcome::Falls(false)
            );
            match outcome {
                ChainOutcome::Decided(ChainVerdict::Drop) if matched.is_some() && maybe => {
                    return ChainOutcome::Decided(ChainVerdict::Unknown);
                }
                ChainOutcome::Decided(_) if matched.is_some() => return outcome,
                _ => maybe |= accepts,
            }
            if leaves && matched.is_some() {
                return ChainOutcome::Falls(maybe);
            }
        }
        ChainOutcome::Falls(maybe)
    }
}

#[cfg(test)]
mod tests;
