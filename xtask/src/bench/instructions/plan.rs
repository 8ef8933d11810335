//! The plan: which gateways are measured, with how many flows and in which directions.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::contenders::{Contender, LINKBAL, MASQUERADE, MASQUERADE_IPV6, all};

/// Default number of flows.
const FLOWS: u32 = 500;
/// Maximum number of flows that are measured as new ones, too.
const NEW_FLOWS: u32 = 500;

/// The directions in their order.
pub(super) const DIRECTIONS: [&str; 3] = ["up", "down", "new"];

/// Selects the contenders that have one of the words as their name or, if none is called so, as a
/// part of it, and those that they are compared with; all if there is no word.
///
/// # Errors
/// If a word selects nothing.
pub(super) fn contenders(words: &[String], short: bool) -> Result<Vec<Contender>> {
    if short {
        return Ok(all().into_iter().filter(|c| [MASQUERADE, LINKBAL].contains(&c.name)).collect());
    }
    let all = all();
    let mut wanted = BTreeSet::new();
    for word in words {
        let exact = all.iter().any(|contender| contender.name == word);
        let fits = |name: &str| if exact { name == word } else { name.contains(word.as_str()) };
        let names: Vec<_> = all.iter().map(|c| c.name).filter(|name| fits(name)).collect();
        ensure!(!names.is_empty(), "no contender is called {word}: {}", names_of(&all));
        wanted.extend(names);
    }
    let wanted = |name: &str| words.is_empty() || wanted.contains(name);
    let ipv6 = all.iter().any(|contender| wanted(contender.name) && contender.is_ipv6());
    let compared = |name| name == MASQUERADE || ipv6 && name == MASQUERADE_IPV6;
    Ok(all.iter().filter(|c| wanted(c.name) || compared(c.name)).cloned().collect())
}

fn names_of(contenders: &[Contender]) -> String {
    contenders.iter().map(|contender| contender.name).collect::<Vec<_>>().join(", ")
}

/// Returns the plan as the guest reads it.
pub(super) fn to_json(contenders: &[Contender], flows: &[u32]) -> Value {
    let flows = if flows.is_empty() { &[FLOWS] } else { flows };
    // New flows are the same, however many others there are; many more take long.
    let directions = |flows| if flows <= NEW_FLOWS { &DIRECTIONS[..] } else { &DIRECTIONS[..2] };
    let measurement = |flows: &u32| json!({ "flows": flows, "directions": directions(*flows) });
    json!({
        "contenders": contenders.iter().map(Contender::to_json).collect::<Vec<_>>(),
        "measurements": flows.iter().map(measurement).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(words: &[&str], short: bool) -> Vec<&'static str> {
        let words: Vec<_> = words.iter().map(|&word| word.to_owned()).collect();
        contenders(&words, short)
            .map(|all| all.iter().map(|c| c.name).collect())
            .unwrap_or_default()
    }

    #[test]
    fn without_words_all_are_measured() {
        assert_eq!(selected(&[], false).len(), all().len());
    }

    #[test]
    fn what_is_selected_is_compared_with_its_own_masquerade() {
        assert_eq!(selected(&["vyos"], false), [MASQUERADE, "vyos"]);
        assert_eq!(selected(&["linkbal"], false), [MASQUERADE, LINKBAL]);
        assert_eq!(
            selected(&["resil", "100"], false),
            [MASQUERADE, "resilient", "linkbal-100-rules"]
        );
        let with_ipv6 = [MASQUERADE, MASQUERADE_IPV6, "linkbal-ipv6"];
        assert_eq!(selected(&["linkbal-ipv6"], false), with_ipv6);
        assert!(selected(&["nobody"], false).is_empty());
    }

    #[test]
    fn the_short_form_has_two_contenders() {
        assert_eq!(selected(&[], true), [MASQUERADE, LINKBAL]);
    }

    #[test]
    fn many_flows_are_not_measured_as_new_ones() {
        let plan = to_json(&[], &[1, 50_000]);
        assert_eq!(plan["measurements"][0]["directions"], json!(["up", "down", "new"]));
        assert_eq!(plan["measurements"][1]["directions"], json!(["up", "down"]));
        assert_eq!(to_json(&[], &[])["measurements"][0]["flows"], 500);
    }
}
