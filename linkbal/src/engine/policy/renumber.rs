//! The numbers of sticky sessions and rules after a change of the configuration.
//!
//! A session is known by its sticky class and rule, both by number (see
//! [`linkbal_common::flow::sticky_index`]). When rules are added, removed or reordered, its number
//! must follow, or it would stand for other flows; so must the rule in the reason of a flow, and the
//! counters of a rule. A rule is the same one if it matches the same,
//! and a class of ports if it has a port in common and the same `by`.

use std::collections::BTreeMap;

use linkbal_common::{
    flow::{Reason, reason, sticky_index},
    rule::NO_RULE,
    settings::MAX_PORT_CLASSES,
};

use super::super::indexed::Indexed;
use crate::config::{Config, Rule, Sticky};

/// The numbers after a change by those before it; those that are missing have ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Renumbering {
    classes: BTreeMap<u32, Kept>,
    rules: BTreeMap<u32, u32>,
}

/// A class and rule after the change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kept {
    index: u32,
    /// Uplinks that it may use, by bit.
    uplinks: u32,
}

impl Renumbering {
    /// Compares two configurations, one of which follows the other with its `uplinks`; returns
    /// `None` if there is nothing to renumber or end.
    pub fn new(before: &Config, after: &Config, uplinks: &[Indexed]) -> Option<Renumbering> {
        let mut changed = false;
        let mut kept = BTreeMap::new();
        let rules = rules(before, after);
        for old_rule in (0..before.rules.len() as u32).chain([NO_RULE]) {
            changed |= rules.get(&old_rule) != Some(&old_rule);
            for old_class in classes(before, old_rule) {
                let rule = rules.get(&old_rule).copied();
                let class = rule.and_then(|rule| class_after(before, after, old_class, rule));
                let Some((rule, class)) = rule.zip(class) else {
                    changed = true;
                    continue;
                };
                let (old, index) = (sticky_index(old_class, old_rule), sticky_index(class, rule));
                let allowed = members(after, uplinks, rule);
                changed |= index != old || members(before, uplinks, old_rule) & !allowed != 0;
                kept.insert(old, Kept { index, uplinks: allowed });
            }
        }
        changed.then_some(Renumbering { classes: kept, rules })
    }

    /// Returns the number of a session, or flow, on an uplink; `None` if it has ended.
    pub fn of(&self, index: u32, uplink: u32) -> Option<u32> {
        let kept = self.classes.get(&index)?;
        (kept.uplinks >> (uplink & 31) & 1 == 1).then_some(kept.index)
    }

    /// Returns a reason with the number that its rule has now.
    pub fn reason(&self, reason: Reason) -> Reason {
        let rule = match self.rules.get(&reason.rule.into()) {
            Some(rule) => u8::try_from(*rule).unwrap_or(reason::NO_LOOKUP),
            None => reason::NO_LOOKUP,
        };
        Reason { rule, ..reason }
    }
}

/// Returns the numbers that the rules of a configuration have in the one that follows it, without those
/// that are gone; and [`NO_RULE`].
pub fn rules(before: &Config, after: &Config) -> BTreeMap<u32, u32> {
    let all = (0..before.rules.len() as u32).chain([NO_RULE]);
    all.filter_map(|number| Some((number, rule_after(before, after, number)?))).collect()
}

/// Returns the rule with a number; `None` for flows without one.
fn rule(config: &Config, number: u32) -> Option<&Rule> {
    config.rules.get(number as usize)
}

/// Returns the classes that flows of a rule can be in: its own, or else those by port.
fn classes(config: &Config, number: u32) -> Vec<u32> {
    match rule(config, number) {
        Some(Rule { sticky: Some(_), .. }) => vec![MAX_PORT_CLASSES as u32 + number],
        _ => (0..config.sticky.len() as u32).collect(),
    }
}

fn rule_after(before: &Config, after: &Config, number: u32) -> Option<u32> {
    let Some(old) = rule(before, number) else { return Some(NO_RULE) };
    let found = after.rules.iter().position(|new| new.matches == old.matches)?;
    Some(found as u32)
}

/// Returns the class that continues `class`, for flows of the new rule `number`.
fn class_after(before: &Config, after: &Config, class: u32, number: u32) -> Option<u32> {
    let own = |config, class: u32| {
        class.checked_sub(MAX_PORT_CLASSES as u32).and_then(|number| rule(config, number)?.sticky)
    };
    let new_own = rule(after, number).and_then(|rule| rule.sticky);
    match (own(before, class), new_own) {
        (Some(old), Some(new)) => {
            let same = old.by == new.by && old.source_bits == new.source_bits;
            same.then_some(MAX_PORT_CLASSES as u32 + number)
        }
        (None, None) => {
            let old = before.sticky.get(class as usize)?;
            let continues = |new: &Sticky| {
                new.by == old.by && new.ports.iter().any(|port| old.ports.contains(port))
            };
            after.sticky.iter().position(continues).map(|found| found as u32)
        }
        _ => None,
    }
}

/// Returns the uplinks that flows of a rule may use, by bit.
fn members(config: &Config, uplinks: &[Indexed], number: u32) -> u32 {
    let named = rule(config, number).map_or(&[][..], |rule| &rule.members);
    let member = |indexed: &&Indexed| {
        named.is_empty() || named.iter().any(|member| member.uplink == indexed.config.name)
    };
    uplinks.iter().filter(member).fold(0, |bits, indexed| bits | 1 << indexed.index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::indexed::assign;

    fn config(sections: &str) -> Config {
        let text = format!(
            "[lan]\ninterfaces = [\"lan0\"]\n[uplink.a]\ninterface = \"wan-a\"\n\
             [uplink.b]\ninterface = \"wan-b\"\n{sections}"
        );
        Config::parse(&text, "test").expect("a configuration")
    }

    fn renumbering(before: &str, after: &str) -> Option<Renumbering> {
        let (before, after) = (config(before), config(after));
        Renumbering::new(&before, &after, &assign(&after.uplinks, &BTreeMap::new()))
    }

    const BANK: &str = "[[rule]]\nmatch = { destination = [\"203.0.113.0/24\"] }\nuse = \"a\"\n";
    const MAIL: &str = "[[rule]]\nmatch = { dport = [25] }\n";

    #[test]
    fn what_stays_where_it_is_needs_no_work() {
        assert_eq!(renumbering("", ""), None);
        assert_eq!(renumbering(BANK, BANK), None);
        assert_eq!(renumbering(BANK, &format!("{BANK}{MAIL}")), None, "a rule behind it");
        assert_eq!(renumbering(MAIL, &format!("{MAIL}use = [\"b\", \"a\"]\n")), None);
    }

    #[test]
    fn a_rule_that_changes_places_takes_its_sessions_along() {
        let moved = renumbering(BANK, &format!("{MAIL}{BANK}")).expect("work");
        assert_eq!(moved.of(sticky_index(0, 0), 0), Some(sticky_index(0, 1)));
        assert_eq!(moved.of(sticky_index(0, NO_RULE), 1), Some(sticky_index(0, NO_RULE)));
    }

    #[test]
    fn a_reason_follows_its_rule_and_a_rule_that_is_gone_is_no_other() {
        let because = |rule| Reason { kind: reason::BUCKET, rule };
        let moved = renumbering(&format!("{BANK}{MAIL}"), MAIL).expect("work");
        assert_eq!(moved.reason(because(1)), because(0));
        assert_eq!(moved.reason(because(0)), because(reason::NO_LOOKUP));
        let none = NO_RULE as u8;
        assert_eq!(moved.reason(because(none)), because(none));
        assert_eq!(moved.reason(because(reason::NO_LOOKUP)), because(reason::NO_LOOKUP));
    }

    #[test]
    fn a_session_ends_with_its_rule_or_where_it_is_no_longer_allowed() {
        let gone = renumbering(&format!("{BANK}{MAIL}"), MAIL).expect("work");
        assert_eq!(gone.of(sticky_index(0, 0), 0), None);
        assert_eq!(gone.of(sticky_index(0, 1), 0), Some(sticky_index(0, 0)));
        let other = renumbering(BANK, &BANK.replace("\"a\"", "\"b\"")).expect("work");
        assert_eq!(other.of(sticky_index(0, 0), 0), None, "the rule no longer wants uplink a");
        assert_eq!(other.of(sticky_index(0, 0), 1), Some(sticky_index(0, 0)));
    }

    #[test]
    fn a_class_of_ports_is_known_by_its_ports_and_ends() {
        let https = "[[sticky]]\nports = [443]\n";
        let games = "[[sticky]]\nports = [27015]\nby = \"src\"\n";
        let moved = renumbering(https, &format!("{games}{https}")).expect("work");
        assert_eq!(moved.of(sticky_index(0, NO_RULE), 0), Some(sticky_index(1, NO_RULE)));
        let other_ends = format!("{https}by = \"src\"\n");
        let ended = renumbering(https, &other_ends).expect("work");
        assert_eq!(ended.of(sticky_index(0, NO_RULE), 0), None);
    }

    #[test]
    fn the_class_of_a_rule_follows_it() {
        let own = format!("{BANK}sticky = {{ by = \"src\", idle = \"1h\" }}\n");
        let moved = renumbering(&own, &format!("{MAIL}{own}")).expect("work");
        let class = MAX_PORT_CLASSES as u32;
        assert_eq!(moved.of(sticky_index(class, 0), 0), Some(sticky_index(class + 1, 1)));
        let ended = renumbering(&own, BANK).expect("work");
        assert_eq!(ended.of(sticky_index(class, 0), 0), None);
    }
}
