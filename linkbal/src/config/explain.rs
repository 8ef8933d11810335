//! Explanations of single keys, from their declarations and the commented configuration.

use super::{
    Config,
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
    if wanted.is_empty() && name.trim().is_empty() {
        return Ok(all_sections());
    }
    let sections: Vec<_> = ALL.iter().filter(is_section).collect();
    // A section is itself a key of what it is in, which says less.
    let single = keys.iter().filter(|(_, key)| sections.is_empty() || !is_table(*key));
    let single = single.map(|(keys, key)| explain_key(keys, *key));
    let whole = sections.iter().map(|keys| explain_section(keys));
    let texts: Vec<String> = whole.chain(single).collect();
    if texts.is_empty() { Err(unknown(name)) } else { Ok(texts.join("\n")) }
}

/// Returns the names of all sections, as they are asked for.
fn sections() -> Vec<String> {
    let paths = ALL.iter().map(|keys| keys.path.replace(".NAME", ""));
    paths.filter(|path| !path.is_empty()).collect()
}

fn all_sections() -> String {
    let of = |path: &String| format!("  linkbal check --explain {path}\n");
    format!("the sections, each with its keys:\n{}", sections().iter().map(of).collect::<String>())
}

/// Returns a text of the documentation with the files that its links lead to.
fn with_files(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some((before, link)) = rest.split_once("](") {
        let Some((target, after)) = link.split_once(')') else { break };
        let file = if target.starts_with('#') { "configuration.md" } else { "" };
        // Other brackets are part of what is written.
        let (text, name) = before.rsplit_once('[').unwrap_or((before, ""));
        shown.push_str(text);
        shown.push_str(name);
        shown.push_str(&format!(" (docs/{file}{target})"));
        rest = after;
    }
    shown.push_str(rest);
    shown.replace('`', "")
}

/// Returns what the words mean that a key can have, as the remedy for another word says it; `None` for
/// keys of another kind.
fn meanings(keys: &Keys, key: &dyn Declared) -> Option<String> {
    let wrong = "?";
    let path = keys.path.replace("NAME", "x");
    let (section, inner) = path.split_once('.').unwrap_or((&path, ""));
    let inner = if inner.is_empty() { String::new() } else { format!("{inner}.") };
    let text = match section {
        "rule" | "sticky" => format!("[[{section}]]\n{inner}{} = {wrong:?}\n", key.name()),
        "" => return None,
        _ => format!("[{section}]\n{inner}{} = {wrong:?}\n", key.name()),
    };
    let error = Config::parse(&text, "example").err()?;
    let unknown = format!("{wrong:?} is unknown");
    let problem = error.problems().iter().find(|problem| problem.message.ends_with(&unknown))?;
    let help = problem.help.strip_prefix("write ").unwrap_or(&problem.help);
    Some(help.to_owned())
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
    let value = meanings(keys, key).unwrap_or_else(|| plain(&key.form()));
    format!(
        "{}\n  {}\n  value:   {value}\n  default: {default}\n{example}",
        full_name(keys, key),
        with_files(key.doc()),
    )
}

fn explain_section(keys: &Keys) -> String {
    let rows = keys.all.iter().map(|key| {
        format!("  {:18}{} ({})\n", key.name(), with_files(key.doc()), plain(&key.form()))
    });
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
    let (near, sections) = (near.join(", "), sections().join(", "));
    format!("there is no key {name:?}; the nearest are: {near}; the sections are: {sections}")
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
        for name in [".", "[]", "\u{0}", "a.b.c.d"] {
            assert!(explain(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn words_come_with_their_meanings() {
        for (name, words) in [
            ("on_down", "value:   \"reset\" (clients reconnect at once), \"move\" (for "),
            ("uplink.nat", "\"masquerade\" (hosts leave with"),
            ("probe.on_degraded", "\"avoid\" (new connections"),
            ("sticky.by", "\"src\" (all flows of a source)"),
            ("rule.sticky.by", "\"src\" (all flows of a source)"),
            ("rule.otherwise", "\"drop\" or \"reject\" (say so"),
            ("accelerate.mode", "\"flowtable\" (its flowtable"),
            ("bond.mode", "balance-rr, active-backup"),
            ("bond.xmit_hash_policy", "layer2, "),
        ] {
            let text = explain(name).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(text.contains(words), "{name}: {text}");
        }
    }

    #[test]
    fn sections_are_listed_also_where_a_key_has_their_name() {
        for (name, key) in [("uplink", "  weight "), ("nat", "  exempt "), ("probe", "  interval ")]
        {
            let text = explain(name).expect("a section");
            assert!(text.contains(", with the keys\n") && text.contains(key), "{name}: {text}");
        }
        let text = explain("").expect("all sections");
        for name in ["uplink", "rule.match", "bond"] {
            let line = format!("  linkbal check --explain {name}\n");
            assert!(text.contains(&line), "{text}");
        }
        let error = explain("nonsense").expect_err("no key");
        assert!(error.contains("; the sections are: lan, local, "), "{error}");
    }

    #[test]
    fn links_name_their_files() {
        let text = explain("probe.targets").expect("a key");
        assert!(text.contains("see Probe targets (docs/health-checks.md#probe-targets)"), "{text}");
        let text = explain("uplink.mtu").expect("a key");
        assert!(text.contains("MTU (docs/configuration.md#mtu)"), "{text}");
        let all = ALL.iter().flat_map(|keys| keys.all.iter().map(move |key| (keys, *key)));
        for (keys, key) in all {
            let text = explain_key(keys, key);
            assert!(!text.contains("]("), "{text}");
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
