//! The contents of a table, from either of the two forms in which nft prints them.
//!
//! `nft --echo` prints what one transaction told the kernel, `nft list` what exists. Both print the
//! same words for a rule, but differ around it: the former wraps each object in the operation on
//! it, prints elements apart from their set, and has sets in the order in which they were written.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

const FAMILY: &str = "inet";

/// A table of family `inet`, without handles and counts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    /// The table itself, chains, sets, and other objects without an order.
    things: BTreeSet<String>,
    /// Rules in the order of their chain, by the chain's name.
    rules: BTreeMap<String, Vec<String>>,
    /// Elements of named sets, by the set's name.
    elements: BTreeMap<String, BTreeSet<String>>,
}

impl Table {
    /// Reads the output of nft; `None` if the table of that name is not in it.
    pub(super) fn read(name: &str, printed: &Value) -> Option<Table> {
        let mut table = Table::default();
        let entries = printed.get("nftables")?.as_array()?;
        let present = entries.iter().filter_map(present);
        present.for_each(|(kind, thing)| table.add(name, kind, thing));
        (!table.things.is_empty()).then_some(table)
    }

    fn add(&mut self, name: &str, kind: &str, thing: &Value) {
        let word = |key: &str| thing.get(key).and_then(Value::as_str).unwrap_or_default();
        let table = if kind == "table" { word("name") } else { word("table") };
        if table != name || word("family") != FAMILY {
            return;
        }
        let mut bare = plain(thing);
        if let Some(elements) = bare.as_object_mut().and_then(|bare| bare.remove("elem")) {
            let listed = elements.get("set").unwrap_or(&elements).as_array();
            let elements = listed.into_iter().flatten().map(Value::to_string);
            self.elements.entry(word("name").to_owned()).or_default().extend(elements);
        }
        match kind {
            "rule" => {
                self.rules.entry(word("chain").to_owned()).or_default().push(bare.to_string());
            }
            "element" => {}
            _ => drop(self.things.insert(format!("{kind} {bare}"))),
        }
    }
}

/// Returns kind and contents of an entry, if it exists after the transaction.
fn present(entry: &Value) -> Option<(&str, &Value)> {
    let (kind, thing) = entry.as_object()?.iter().next()?;
    match kind.as_str() {
        "add" | "insert" | "create" => present(thing),
        // What a transaction deletes is of the table that was there before.
        "metainfo" | "delete" | "flush" => None,
        kind => Some((kind, thing)),
    }
}

/// Leaves out values that change by themselves or on every write, and sorts sets.
fn plain(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let kept = members.iter().filter(|(key, _)| !is_passing(key));
            let kept = kept.map(|(key, value)| {
                let value = plain(value);
                (key.clone(), if key == "set" { ordered(value) } else { value })
            });
            kept.collect()
        }
        Value::Array(elements) => elements.iter().map(plain).collect(),
        other => other.clone(),
    }
}

fn is_passing(key: &str) -> bool {
    ["handle", "packets", "bytes", "expires"].contains(&key)
}

fn ordered(set: Value) -> Value {
    match set {
        Value::Array(mut elements) => {
            elements.sort_by_cached_key(Value::to_string);
            Value::Array(elements)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn table(entries: &Value) -> Option<Table> {
        Table::read("linkbal", &json!({ "nftables": entries }))
    }

    fn chain(name: &str, handle: u32) -> Value {
        json!({"chain": {"family": "inet", "table": "linkbal", "name": name, "handle": handle}})
    }

    fn rule(handle: u32, expr: &Value) -> Value {
        let place = json!({"family": "inet", "table": "linkbal", "chain": "forward"});
        let mut rule = place.as_object().expect("an object").clone();
        rule.extend([("handle".into(), handle.into()), ("expr".into(), expr.clone())]);
        json!({ "rule": rule })
    }

    fn head() -> Value {
        json!({"table": {"family": "inet", "name": "linkbal", "handle": 2}})
    }

    #[test]
    fn an_echo_and_a_listing_of_the_same_table_are_the_same() {
        let set = |elements: Value| json!([{"match": {"right": {"set": elements}}}]);
        let counted = |packets: u32| json!([{"counter": {"packets": packets, "bytes": 9}}]);
        let named = |elements: Option<Value>| {
            let mut set =
                json!({"family": "inet", "table": "linkbal", "name": "s", "type": "mark"});
            if let Some(elements) = elements {
                set["elem"] = elements;
            }
            set
        };
        let element = |one: u32| {
            json!({"add": {"element": {"family": "inet", "table": "linkbal", "name": "s",
                "elem": {"set": [one]}}}})
        };
        let echo = json!([
            {"add": {"table": {"family": "inet", "name": "linkbal", "handle": 1}}},
            {"delete": chain("old", 9)},
            {"add": head()},
            {"add": {"set": named(None)}},
            element(7),
            element(3),
            {"add": chain("forward", 1)},
            {"add": chain("postrouting", 2)},
            {"add": rule(3, &set(json!(["b", "a"])))},
            {"add": rule(4, &counted(0))},
        ]);
        let listing = json!([
            {"metainfo": {"version": "1.0.6"}},
            head(),
            chain("postrouting", 7),
            chain("forward", 8),
            {"set": named(Some(json!([3, 7])))},
            rule(9, &set(json!(["a", "b"]))),
            rule(11, &counted(5)),
        ]);
        let echo = table(&echo).expect("a table");
        assert_eq!(Some(&echo), table(&listing).as_ref());
    }

    #[test]
    fn whatever_is_more_or_less_or_elsewhere_makes_another_table() {
        let drop = json!([{"drop": null}]);
        let accept = json!([{"accept": null}]);
        let full = [head(), chain("forward", 1), rule(2, &drop), rule(3, &accept)];
        let written = table(&json!(full));
        for without in 1..full.len() {
            let mut less = full.to_vec();
            less.remove(without);
            assert_ne!(table(&json!(less)), written);
        }
        let more = [&full[..], &[chain("other", 4)]].concat();
        assert_ne!(table(&json!(more)), written);
        let mut turned = full.to_vec();
        turned.swap(2, 3);
        assert_ne!(table(&json!(turned)), written);
    }

    #[test]
    fn the_tables_of_others_are_none_of_ours() {
        let other = json!({"table": {"family": "inet", "name": "filter"}});
        let family = json!({"table": {"family": "ip", "name": "linkbal"}});
        assert_eq!(table(&json!([other, family])), None);
        assert_eq!(table(&json!([head(), other])), table(&json!([head()])));
        assert_eq!(Table::read("linkbal", &json!({})), None);
    }
}
