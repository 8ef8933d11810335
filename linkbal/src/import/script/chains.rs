//! Chains of the table mangle: what a packet meets on its way, one after the other.

use std::collections::BTreeSet;

use super::{
    conditions::{self, MarkState},
    facts::{Chained, Facts, Target},
};
use crate::import::{
    model::{Draft, Rule},
    note::Lines,
};

/// Deepest nesting of chains.
const DEPTH: usize = 8;

/// Most rules and jumps of a way.
const MAX_STEPS: usize = 4096;

/// Says why what else the table has is left out.
const OUTSIDE: &str = "linkbal only chooses uplinks: other rules of the table mangle stay outside";

/// Effect of a rule on the packets that fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Mark(u32),
    /// No later rule sees the packet.
    End,
}

/// A rule on the way of a packet.
#[derive(Clone, Debug)]
pub(super) struct Item<'a> {
    pub(super) effect: Effect,
    /// The conditions: those of the rules that jump to its chain, and its own.
    pub(super) words: Vec<&'a [String]>,
    pub(super) lines: Lines,
    /// A reason for which it can only be a comment.
    pub(super) broken: Option<String>,
}

/// A walk through the chains of a family.
pub(super) struct Walk<'a> {
    facts: &'a Facts,
    ipv6: bool,
    items: Vec<Item<'a>>,
    /// Number of rules and jumps so far.
    steps: usize,
    /// Places in `Facts::chained` of what was met.
    met: BTreeSet<usize>,
}

/// The rules that lead into a chain.
#[derive(Clone, Default)]
struct Caller<'a> {
    words: Vec<&'a [String]>,
    lines: Lines,
    chains: Vec<&'a str>,
    /// Set if something stands behind the jump.
    goes_on: bool,
    broken: Option<String>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(facts: &'a Facts, ipv6: bool) -> Walk<'a> {
        Walk { facts, ipv6, items: Vec::new(), steps: 0, met: BTreeSet::new() }
    }

    /// Returns what a packet meets in a chain of the kernel's.
    pub(super) fn through(&mut self, draft: &mut Draft, chain: &str) -> Vec<Item<'a>> {
        self.chain(draft, chain, &Caller::default());
        std::mem::take(&mut self.items)
    }

    /// Returns the marks that packets of the LAN do not meet; what else is left is told.
    pub(super) fn others(self, draft: &mut Draft) -> Vec<Item<'a>> {
        let mut others = Vec::new();
        for (at, rule) in self.facts.chained.iter().enumerate() {
            if rule.ipv6 != self.ipv6 || self.met.contains(&at) {
                continue;
            }
            let Target::Mark(number) = rule.target else {
                draft.untranslated(rule.lines.clone(), OUTSIDE);
                continue;
            };
            let why = match &*rule.chain {
                "OUTPUT" => {
                    "it marks the gateway's own connections, and no flows of the LAN".into()
                }
                "INPUT" | "FORWARD" | "POSTROUTING" => {
                    "it marks packets whose line is chosen already".into()
                }
                chain => format!("no rule that packets of the LAN meet leads to the chain {chain}"),
            };
            others.push(Item {
                effect: Effect::Mark(number),
                words: vec![&rule.words],
                lines: rule.lines.clone(),
                broken: Some(why),
            });
        }
        others
    }

    /// Returns the rules of a chain in their order, with their places in `Facts::chained`.
    fn rules(&self, chain: &str) -> Vec<(usize, &'a Chained)> {
        let mut rules = Vec::new();
        for (at, rule) in self.facts.chained.iter().enumerate() {
            if rule.chain != chain || rule.ipv6 != self.ipv6 {
                continue;
            }
            match rule.place {
                Some(place) => rules.insert(place.saturating_sub(1).min(rules.len()), (at, rule)),
                None => rules.push((at, rule)),
            }
        }
        rules
    }

    fn chain(&mut self, draft: &mut Draft, chain: &str, caller: &Caller<'a>) {
        let rules = self.rules(chain);
        let mut caller = caller.clone();
        let called = !caller.chains.is_empty();
        let mut left = rules.len();
        for (at, rule) in rules {
            left = left.saturating_sub(1);
            self.met.insert(at);
            self.steps = self.steps.saturating_add(1);
            if self.steps > MAX_STEPS {
                draft.untranslated(rule.lines.clone(), "the way through the chains is too long");
                continue;
            }
            match &rule.target {
                Target::Mark(number) => self.push(Effect::Mark(*number), rule, &caller),
                Target::Return if called && is_unconditional(rule) => {
                    draft.cover(rule.lines.clone());
                    break;
                }
                // Those packets come back to the chain that jumped here.
                Target::Return if called && caller.goes_on => {
                    draft.untranslated(
                        rule.lines.clone(),
                        "linkbal's rules have no chains to leave",
                    );
                    let why = format!("some packets leave the chain {chain} before it");
                    caller.broken.get_or_insert(why);
                }
                Target::Return | Target::Accept => self.push(Effect::End, rule, &caller),
                Target::Jump(to) | Target::Goto(to) => {
                    let behind = caller.goes_on || left > 0;
                    self.jump(draft, rule, to, &mut caller, behind);
                }
            }
        }
    }

    /// Goes through the chain that a rule jumps to.
    fn jump(
        &mut self,
        draft: &mut Draft,
        rule: &'a Chained,
        to: &'a str,
        caller: &mut Caller<'a>,
        behind: bool,
    ) {
        let known = !self.rules(to).is_empty();
        if !known || caller.chains.len() >= DEPTH || caller.chains.contains(&to) {
            return draft.untranslated(rule.lines.clone(), OUTSIDE);
        }
        draft.cover(rule.lines.clone());
        let mut called = caller.clone();
        called.words.push(&rule.words);
        called.lines = called.lines.and(&rule.lines);
        called.chains.push(to);
        called.goes_on = behind;
        called.broken = called.broken.or_else(|| rule.broken.clone());
        if behind && matches!(rule.target, Target::Goto(_)) {
            let why = format!("packets do not come back from the chain {to}");
            called.broken.get_or_insert(why.clone());
            caller.broken.get_or_insert(why);
        }
        self.chain(draft, to, &called);
    }

    fn push(&mut self, effect: Effect, rule: &'a Chained, caller: &Caller<'a>) {
        let mut words = caller.words.clone();
        words.push(&rule.words);
        let lines = caller.lines.clone().and(&rule.lines);
        let broken = caller.broken.clone().or_else(|| rule.broken.clone());
        let masked = rule.mask != u32::MAX && self.facts.masks.len() > 1;
        let several = "marks with several masks are put together".to_owned();
        let broken = broken.or(Some(several).filter(|_| masked));
        self.items.push(Item { effect, words, lines, broken });
    }
}

/// Returns whether all packets fit a rule.
fn is_unconditional(rule: &Chained) -> bool {
    let mut read = Rule::default();
    let state = conditions::read(&mut read, &rule.words, &rule.lines);
    state == MarkState::default()
        && rule.broken.is_none()
        && read.matches.is_empty()
        && read.broken.is_empty()
}
