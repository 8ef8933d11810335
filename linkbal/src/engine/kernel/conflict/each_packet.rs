//! Rules of others that count or read each packet of a connection: they do not see those of shortcuts.
//!
//! A packet of an established connection is followed from the base chains that forwarded packets pass
//! through all chains that these lead to, up to the rule that accepts established connections: what
//! comes after it sees new ones alone.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Maximum depth of values that are searched, and of chains that lead to each other: the kernel's own
/// limit is 16 (`NFT_JUMP_STACK_SIZE`).
const DEPTH: usize = 16;

/// A rule, as far as it concerns packets of established connections, with a finding of type `T`.
#[derive(Debug)]
pub(super) struct Rule<T> {
    /// Set if it counts or reads each packet that it sees, and does something upon that.
    pub(super) counts: bool,
    /// The finding for that.
    pub(super) finding: Option<T>,
    /// Set if it accepts all packets of established connections.
    pub(super) accepts: bool,
    /// Set if it sees new connections alone.
    pub(super) of_new: bool,
    /// Set if not all packets match.
    pub(super) conditional: bool,
    /// The chains that it leads to.
    pub(super) targets: Vec<String>,
}

/// Chains and their rules, in order.
#[derive(Debug)]
pub(super) struct Forwarded<T> {
    bases: BTreeSet<String>,
    rules: BTreeMap<String, Vec<Rule<T>>>,
}

impl<T> Forwarded<T> {
    /// Creates a firewall without chains.
    pub(super) const fn new() -> Forwarded<T> {
        Forwarded { bases: BTreeSet::new(), rules: BTreeMap::new() }
    }

    /// Adds a chain that forwarded packets begin with.
    pub(super) fn add_base(&mut self, chain: String) {
        self.bases.insert(chain);
    }

    /// Adds the next rule of a chain.
    pub(super) fn add_rule(&mut self, chain: &str, rule: Rule<T>) {
        self.rules.entry(chain.to_owned()).or_default().push(rule);
    }

    /// Returns the findings of the rules that packets of established connections meet.
    pub(super) fn findings(mut self) -> Vec<T> {
        let mut met = BTreeMap::new();
        for base in &self.bases {
            self.follow(base, DEPTH, &mut met);
        }
        let mut found = Vec::new();
        for (chain, rules) in &mut self.rules {
            let until = met.get(chain).copied().unwrap_or_default().1;
            found.extend(rules.iter_mut().take(until).filter_map(|rule| rule.finding.take()));
        }
        found
    }

    /// Follows packets through a chain; returns whether all are accepted there, and how many rules they
    /// meet. Each chain is followed once.
    fn follow(
        &self,
        chain: &str,
        depth: usize,
        met: &mut BTreeMap<String, (bool, usize)>,
    ) -> (bool, usize) {
        if let Some(known) = met.get(chain) {
            return *known;
        }
        let rules = self.rules.get(chain).map(Vec::as_slice).unwrap_or_default();
        let Some(depth) = depth.checked_sub(1) else { return (false, rules.len()) };
        let mut result = (false, rules.len());
        // Chains that lead to each other, which the kernel refuses, end here.
        met.insert(chain.to_owned(), result);
        for (number, rule) in (1..).zip(rules).filter(|(_, rule)| !rule.of_new) {
            let mut targets = rule.targets.iter();
            let ends = targets.any(|target| self.follow(target, depth, met).0);
            if rule.accepts || ends && !rule.conditional {
                result = (true, number);
                break;
            }
        }
        met.insert(chain.to_owned(), result);
        result
    }
}

/// Returns the names of the sets of a listing whose elements count packets, such as quotas of hosts.
pub(super) fn counting_sets(objects: &[Value]) -> BTreeSet<String> {
    let sets = objects.iter().filter_map(|object| object.get("set").or_else(|| object.get("map")));
    let counting =
        sets.filter(|set| ["stmt", "elem"].iter().any(|part| counts(&set[*part], DEPTH)));
    counting.filter_map(|set| Some(format!("@{}", set["name"].as_str()?))).collect()
}

/// Returns what a rule of a listing does; `chain_name` names a chain of its table.
pub(super) fn read<T>(
    statements: &[Value],
    counting_sets: &BTreeSet<String>,
    chain_name: &dyn Fn(&str) -> String,
) -> Rule<T> {
    let state = statements.iter().find_map(|statement| {
        let matched = &statement["match"];
        (matched["left"]["ct"]["key"] == "state" && matched["op"] != "!=").then_some(matched)
    });
    let of_established = state.map(|state| state["right"].to_string().contains("established"));
    let matches = statements.iter().filter(|statement| statement.get("match").is_some()).count();
    let accepts_all = of_established == Some(true) && matches == 1 && has(statements, "accept");
    let accepts = accepts_all || statements.iter().any(accepts_by_state);
    let mut targets = Vec::new();
    statements.iter().for_each(|statement| collect_targets(statement, DEPTH, &mut targets));
    let of_new = of_established == Some(false);
    Rule {
        counts: !of_new && counts_each(statements, counting_sets),
        finding: None,
        accepts,
        of_new,
        conditional: matches > 0 || has(statements, "vmap"),
        targets: targets.into_iter().map(chain_name).collect(),
    }
}

/// Returns whether a rule hands each packet to a program, or counts them and decides by that: one that only
/// logs does not.
fn counts_each(statements: &[Value], counting_sets: &BTreeSet<String>) -> bool {
    let verdicts = ["drop", "reject", "accept", "jump", "goto", "mangle", "vmap"];
    let decides = verdicts.into_iter().any(|verdict| has(statements, verdict));
    let mut sets = statements.iter().filter_map(|statement| statement["match"]["right"].as_str());
    let counted = statements.iter().any(|statement| counts(statement, DEPTH))
        || sets.any(|set| counting_sets.contains(set));
    has(statements, "queue") || decides && counted
}

fn has(statements: &[Value], name: &str) -> bool {
    statements.iter().any(|statement| statement.get(name).is_some())
}

/// Returns whether there is a limit, a quota, or what connection tracking counted, anywhere in a value.
fn counts(value: &Value, depth: usize) -> bool {
    let Some(depth) = depth.checked_sub(1) else { return false };
    match value {
        Value::Array(all) => all.iter().any(|value| counts(value, depth)),
        Value::Object(members) => members.iter().any(|(name, value)| {
            let of_connection = name == "ct"
                && ["bytes", "packets", "avgpkt"].iter().any(|key| value["key"] == *key);
            name == "limit" || name == "quota" || of_connection || counts(value, depth)
        }),
        _ => false,
    }
}

/// Returns whether a statement accepts established connections by a map of states.
fn accepts_by_state(statement: &Value) -> bool {
    let map = &statement["vmap"];
    let entries = map["data"]["set"].as_array().map(Vec::as_slice).unwrap_or_default();
    map["key"]["ct"]["key"] == "state"
        && entries.iter().any(|entry| entry[0] == "established" && entry[1].get("accept").is_some())
}

/// Collects the names of chains that a value leads to.
fn collect_targets<'a>(value: &'a Value, depth: usize, found: &mut Vec<&'a str>) {
    let Some(depth) = depth.checked_sub(1) else { return };
    match value {
        Value::Array(all) => all.iter().for_each(|value| collect_targets(value, depth, found)),
        Value::Object(members) => {
            for (name, value) in members {
                match name.as_str() {
                    "jump" | "goto" => found.extend(value["target"].as_str()),
                    _ => collect_targets(value, depth, found),
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
