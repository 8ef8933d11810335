//! Jumps for packets without a mark: what their chain marks may be marked again within it.

use crate::import::{
    model::Rule,
    note::Lines,
    script::{
        chains::{Effect, Item},
        conditions,
    },
};

/// Says why a rule in such a chain is a comment.
pub(super) const WHY: &str = "its chain is for packets without a mark, and earlier rules mark some";

/// The marks of packets that a rule meets in its chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// None, or only those of rules before it in the chain.
    Unmarked,
    /// Some have marks of other chains, but no rule marks before it in its own: it has the condition of
    /// the jump.
    First,
    /// Some have marks of other chains, and some of its own.
    Unknown,
}

/// Returns whether a rule marks.
pub(super) fn is_mark(item: &Item) -> bool {
    matches!(item.effect, Effect::Mark(1..))
}

/// Returns which marks packets have that meet the rules. `before` says that they may have some from the
/// start.
pub(super) fn of(items: &[Item], before: bool) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut marks = before;
    while let Some(first) = items.get(entries.len()) {
        let jump = jump_of(first);
        let behind = items.get(entries.len()..).unwrap_or_default();
        let own = behind.iter().take_while(|one| jump_of(one) == jump).count();
        let own = behind.get(..own.max(1)).unwrap_or_default();
        if jump.is_some() && marks {
            entries.extend(of_chain(own));
        } else {
            entries.extend(own.iter().map(|_| Entry::Unmarked));
        }
        marks |= own.iter().any(is_mark);
    }
    entries
}

/// Returns the same for the rules of a chain that a jump leads to for packets without a mark.
fn of_chain(items: &[Item]) -> Vec<Entry> {
    let mut marks = false;
    let mut entries = Vec::new();
    for item in items {
        let mut rule = Rule::default();
        let words = item.words.last().copied().unwrap_or_default();
        let state = conditions::read(&mut rule, words, &Lines::default());
        let leaves = item.effect == Effect::End && state.marked;
        entries.push(match marks {
            // It asks for marks itself.
            _ if state.unmarked || leaves => Entry::Unmarked,
            false => Entry::First,
            true => Entry::Unknown,
        });
        marks |= is_mark(item);
        marks &= !(leaves && rule.matches.is_empty() && rule.broken.is_empty());
    }
    // Without one, the others say less than they did.
    if entries.contains(&Entry::Unknown) {
        entries.fill(Entry::Unknown);
    }
    entries
}

/// Returns the jump for packets without a mark that leads to a rule.
fn jump_of(item: &Item) -> Option<*const String> {
    let (_, jumps) = item.words.split_last()?;
    let unmarked = |words: &&&[String]| {
        conditions::read(&mut Rule::default(), words, &Lines::default()).unmarked
    };
    jumps.iter().find(unmarked).map(|words| words.as_ptr())
}
