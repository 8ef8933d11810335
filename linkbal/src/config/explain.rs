//! Explanations of single keys, from their declarations and the commented configuration.

use super::{
    keys::ALL,
    parse::key::{Declared, Keys, Unset},
    schema::plain,
};

/// The commented configuration: all keys with their defaults and meanings.
pub const COMMENTED: &str = include_str!("../../linkbal.toml");

/// Most names that are suggested for one that is unknown.
const SUGGESTED: usize = 3;

/// Returns what a key means, what it can be, its default and an example; or the keys of a section.
///
/// The key is named like `uplink.weight`, `uplink.NAME.weight`, or `weight` alone.
///
/// # Errors
///
/// A text with the nearest keys, if there is none of that name.
pub fn explain(name: &str) -> Result<String, String> {
    let wanted = words(name);
    let keys = ALL.iter().flat_map(|keys| keys.all.iter().map(move |key| (*keys, *key)));
    let keys: Vec<_> = keys.filter(|(keys, key)| is_key(keys, *key, &wanted)).collect();
    let is_section = |keys: &&&Keys| {
        let path = words(keys.path);
        let itself = !wanted.is_empty() && is_same(&path, &wanted);
        // A word that stands for a name may be a key with a mistake.
        let exact = path.iter().all(|word| *word == "NAME" || wanted.contains(word));
        itself && exact && (name.contains('[') || !is_misspelled(keys, &wanted))
    };
    let sections: Vec<_> = ALL
        .iter()
        .filter(is_section)
        .filter(|_| keys.iter().all(|(_, key)| is_table(*key)))
        .collect();
    // A section is itself a key of what it is in, which says less.
    let single = keys.iter().filter(|_| sections.is_empty());
    let single = single.map(|(keys, key)| explain_key(keys, *key));
    let whole = sections.iter().map(|keys| explain_section(keys));
    let texts: Vec<String> = whole.chain(single).collect();
    if texts.is_empty() { Err(unknown(name)) } else { Ok(texts.join("\n")) }
}

/// Returns whether the last word is close to a key of a section, rather than a name.
fn is_misspelled(keys: &Keys, wanted: &[&str]) -> bool {
    let ends_with_name = keys.path.ends_with("NAME");
    let Some(last) = wanted.last().filter(|_| ends_with_name && wanted.len() > 1) else {
        return false;
    };
    keys.all.iter().any(|key| strsim::normalized_damerau_levenshtein(last, key.name()) > 0.6)
}

/// Returns the parts of a name, without brackets.
fn words(name: &str) -> Vec<&str> {
    let name = name.trim_matches(|c: char| c == '[' || c == ']' || c == '`' || c.is_whitespace());
    name.split('.').filter(|word| !word.is_empty()).collect()
}

/// Returns whether a path has these words; `NAME` stands for any one, and can be left out.
fn is_same(path: &[&str], wanted: &[&str]) -> bool {
    let without: Vec<&str> = path.iter().copied().filter(|word| *word != "NAME").collect();
    let fits = |(known, word): (&&str, &&str)| *known == "NAME" || known == word;
    without == wanted || path.len() == wanted.len() && path.iter().zip(wanted).all(fits)
}

/// Returns whether a key has this name: as a whole, or the end of it.
fn is_key(keys: &Keys, key: &dyn Declared, wanted: &[&str]) -> bool {
    let mut path = words(keys.path);
    path.push(key.name());
    if is_same(&path, wanted) {
        return true;
    }
    let without: Vec<&str> = path.into_iter().filter(|word| *word != "NAME").collect();
    !wanted.is_empty() && without.ends_with(wanted)
}

/// Returns whether the value of a key is a section, or a table.
fn is_table(key: &dyn Declared) -> bool {
    matches!(&*key.form(), "a section" | "sections" | "table")
}

fn full_name(keys: &Keys, key: &dyn Declared) -> String {
    if keys.path.is_empty() {
        key.name().to_owned()
    } else {
        format!("{}.{}", keys.path, key.name())
    }
}

fn explain_key(keys: &Keys, key: &dyn Declared) -> String {
    let default = match key.default() {
        Unset::Required => "none, it is required".to_owned(),
        Unset::Value(value) => value.to_owned(),
        Unset::Words(words) => plain(words),
    };
    let example =
        example_of(keys, key).map_or(String::new(), |line| format!("  example: {line}\n"));
    format!(
        "{}\n  {}\n  value:   {}\n  default: {default}\n{example}",
        full_name(keys, key),
        plain(key.doc()),
        plain(&key.form()),
    )
}

fn explain_section(keys: &Keys) -> String {
    let rows = keys
        .all
        .iter()
        .map(|key| format!("  {:18}{} ({})\n", key.name(), plain(key.doc()), plain(&key.form())));
    format!("{}, with the keys\n{}", keys.path, rows.collect::<String>())
}

/// Returns a line of the commented configuration with a key, or one with its default.
fn example_of(keys: &Keys, key: &dyn Declared) -> Option<String> {
    let default = match key.default() {
        Unset::Required => None,
        Unset::Value(value) => Some(value.to_owned()),
        // The kernel's own defaults are values, too.
        Unset::Words(words) => {
            let word = plain(words);
            Some(word).filter(|word| !word.contains(' ') && !matches!(&**word, "none" | "any"))
        }
    };
    let line = example(keys.path, key.name()).map(str::to_owned);
    line.or_else(|| default.map(|value| format!("{} = {value}", key.name())))
}

/// Returns a line of the commented configuration with a key, from its own section if there is one.
fn example(path: &str, key: &str) -> Option<&'static str> {
    let own = path.split('.').next().unwrap_or_default();
    let mut section = "";
    let mut found: Option<(bool, &str)> = None;
    for line in COMMENTED.lines() {
        let code = line.trim_start_matches('#').trim();
        let header = code.trim_start_matches('[').split(['.', ']']).next();
        if code.starts_with('[') && code.ends_with(']') {
            section = header.unwrap_or_default();
            if path.is_empty() && section == key {
                return Some(code);
            }
            continue;
        }
        let here = section == own;
        if sets(code, key) && (found.is_none() || here && found.is_some_and(|(own, _)| !own)) {
            found = Some((here, code));
        }
    }
    found.map(|(_, line)| line)
}

/// Returns whether a line, as code, sets a key: at its beginning or in braces.
fn sets(code: &str, key: &str) -> bool {
    let at_start = code.split_once('=').is_some_and(|(name, _)| name.trim() == key);
    let inside = |mark: &str| code.contains(&format!("{mark}{key} = "));
    let is_code = code.starts_with("{ ")
        || code.split_once(" = ").is_some_and(|(name, _)| !name.contains(' '));
    at_start || is_code && (inside("{ ") || inside(", "))
}

fn unknown(name: &str) -> String {
    let wanted = words(name).join(".").to_lowercase();
    let last = wanted.rsplit('.').next().unwrap_or_default();
    let all = ALL.iter().flat_map(|keys| {
        keys.all.iter().map(move |key| (full_name(keys, *key).replace(".NAME", ""), key.name()))
    });
    let mut near: Vec<(f64, String)> = all
        .map(|(full, short)| {
            let whole = strsim::normalized_damerau_levenshtein(&wanted, &full);
            let part = strsim::normalized_damerau_levenshtein(last, short);
            // The whole name decides between keys of the same name.
            (whole.max(part + 0.01 * whole), full)
        })
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    let near: Vec<String> = near.into_iter().take(SUGGESTED).map(|(_, name)| name).collect();
    format!("there is no key {name:?}; the nearest are: {}", near.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_explained_by_any_of_its_names() {
        let expected = "uplink.NAME.weight\n  share of new flows within its tier; 0: only when all \
                        others are down\n  value:   0 to 10000\n  default: 1\n";
        for name in ["uplink.weight", "uplink.NAME.weight", "uplink.fiber.weight", "weight"] {
            let text = explain(name).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(text.starts_with(expected), "{name}: {text}");
            assert!(text.contains("\n  example: weight = "), "{text}");
        }
        let text = explain("by").expect("two keys");
        assert!(text.contains("sticky.by\n") && text.contains("rule.sticky.by\n"), "{text}");
        assert!(explain("match.dport").expect("a key").starts_with("rule.match.dport\n"));
    }

    #[test]
    fn a_section_lists_its_keys() {
        for name in ["kernel", "[kernel]"] {
            let text = explain(name).expect("a section");
            assert!(text.starts_with("kernel, with the keys\n  fwmark_mask "), "{text}");
        }
        assert!(explain("[uplink.fiber]").expect("a section").contains("  weight "));
        assert!(explain("probe.limits").expect("a table").contains("latency"));
    }

    #[test]
    fn the_nearest_keys_are_named() {
        let text = explain("uplink.wieght").expect_err("no key");
        assert!(
            text.starts_with("there is no key \"uplink.wieght\"; the nearest are: uplink.weight"),
            "{text}"
        );
        let text = explain("Interval").expect_err("keys are in lower case");
        assert!(text.contains("the nearest are: probe.interval"), "{text}");
        for name in ["", ".", "[]", "\u{0}", "a.b.c.d"] {
            assert!(explain(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn every_key_has_an_example() {
        let all = ALL.iter().flat_map(|keys| keys.all.iter().map(move |key| (keys, key)));
        let without = all.filter(|(keys, key)| example_of(keys, **key).is_none());
        let without: Vec<String> = without.map(|(keys, key)| full_name(keys, *key)).collect();
        assert!(without.is_empty(), "not in linkbal.toml: {without:?}");
    }
}
