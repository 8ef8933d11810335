//! Rules in words, with their place in the file.

use serde::{Deserialize, Serialize};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};
use utoipa::ToSchema;

use super::{Config, Match, Otherwise, Rule};
use crate::protocol;

/// A rule in words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct RuleWords {
    /// Name, such as `rule 2`: its number in the file, counted from 1.
    pub name: String,
    /// First and last line in the file, counted from 1; null for a rule that an uplink's
    /// `resolvers` stand for.
    pub lines: Option<(usize, usize)>,
    /// The flows that it matches.
    pub matches: String,
    /// The uplinks of its group, the preferred ones first, and what happens without them.
    pub uplinks: String,
}

/// Returns the rules of a configuration in the order in which they are evaluated; `text` is the file
/// that it was read from.
pub fn rules(config: &Config, text: &str) -> Vec<RuleWords> {
    let resolvers = config.uplinks.iter().filter(|uplink| !uplink.resolvers.is_empty());
    let names = resolvers.map(|uplink| (format!("resolvers of {}", uplink.name), None));
    let lines = lines(text);
    let numbered =
        (0..).map(|at: usize| (format!("rule {}", at.saturating_add(1)), lines.get(at).copied()));
    let rules = config.rules.iter().zip(names.chain(numbered));
    let words = |(rule, (name, lines)): (&Rule, _)| RuleWords {
        name,
        lines,
        matches: matches(&rule.matches),
        uplinks: uplinks(rule),
    };
    rules.map(words).collect()
}

/// Returns the first and the last line of each `[[rule]]`; nothing if the text is no TOML.
fn lines(text: &str) -> Vec<(usize, usize)> {
    let Ok(root) = DeTable::parse(text) else { return Vec::new() };
    let line = |at: usize| {
        let before = text.as_bytes().get(..at).unwrap_or_default();
        before.iter().filter(|byte| **byte == b'\n').count().saturating_add(1)
    };
    let list = root.get_ref().get("rule").map(Spanned::get_ref);
    let Some(DeValue::Array(rules)) = list else { return Vec::new() };
    let of = |rule: &Spanned<DeValue<'_>>| {
        let last = end(rule).max(rule.span().start.saturating_add(1));
        (line(rule.span().start), line(last.saturating_sub(1)))
    };
    rules.iter().map(of).collect()
}

/// Returns the end of a value, with those inside it.
fn end(value: &Spanned<DeValue<'_>>) -> usize {
    let inside = match value.get_ref() {
        DeValue::Table(table) => table.values().map(end).max(),
        DeValue::Array(array) => array.iter().map(end).max(),
        _ => None,
    };
    inside.unwrap_or(0).max(value.span().end)
}

/// Returns the conditions in words.
fn matches(matches: &Match) -> String {
    let ports = |ports: &[(u16, u16)]| {
        join(ports.iter().map(|(first, last)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        }))
    };
    let mac = |mac: &[u8; 6]| mac.map(|byte| format!("{byte:02x}")).join(":");
    let conditions = [
        ("source", join(&matches.source)),
        ("destination", join(&matches.destination)),
        ("domain", join(&matches.domain)),
        ("protocol", join(matches.protocol.iter().map(|number| protocol::name(*number)))),
        ("source port", ports(&matches.source_port)),
        ("destination port", ports(&matches.destination_port)),
        ("DSCP", join(&matches.dscp)),
        ("interface", join(&matches.interface)),
        ("VLAN", join(&matches.vlan)),
        ("MAC", join(matches.mac.iter().map(mac))),
    ];
    let given = conditions.iter().filter(|(_, values)| !values.is_empty());
    let all: Vec<_> = given.map(|(name, values)| format!("{name} {values}")).collect();
    if all.is_empty() { "everything".into() } else { all.join(", ") }
}

/// Returns the group of a rule in words.
fn uplinks(rule: &Rule) -> String {
    if rule.members.is_empty() {
        return "all uplinks".into();
    }
    let mut members: Vec<_> = rule.members.iter().collect();
    members.sort_by_key(|member| member.tier);
    let weighted = members.windows(2).any(|pair| pair[0].tier == pair[1].tier);
    let names = members.iter().map(|member| match weighted {
        true => format!("{} ({})", member.uplink, member.weight),
        false => member.uplink.clone(),
    });
    let group = names.collect::<Vec<_>>().join(if weighted { " and " } else { ", then " });
    match rule.otherwise {
        Otherwise::Balance => group,
        Otherwise::Drop => group + ", or else dropped",
        Otherwise::Reject => group + ", or else rejected",
    }
}

/// Joins at most four values, and says how many others there are.
fn join<T: ToString>(values: impl IntoIterator<Item = T>) -> String {
    const SHOWN: usize = 4;
    let values: Vec<_> = values.into_iter().map(|value| value.to_string()).collect();
    let shown = values.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(" or ");
    match values.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} or {more} others"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[lan]\ninterfaces = [\"lan0\"]\n[uplink.a]\ninterface = \"wan-a\"\n\
        resolvers = [\"203.0.113.1\"]\n[uplink.b]\ninterface = \"wan-b\"\n\
        [[rule]]\n# Mail.\nmatch = { dport = [25, \"465-467\"] }\nuse = \"b\"\notherwise = \"drop\"\n\n\
        [[rule]]\nuse = [\n  \"b\",\n  \"a\"\n]\n[rule.match]\nsource = \"10.0.0.0/24\"\n\
        [[rule]]\nuse = { a = 10, b = 20 }\n";

    #[test]
    fn rules_have_the_words_and_lines_of_the_file() {
        let config = Config::parse(TEXT, "test").expect("a configuration");
        let rules = rules(&config, TEXT);
        let names: Vec<_> = rules.iter().map(|rule| (rule.name.as_str(), rule.lines)).collect();
        let expected = [
            ("resolvers of a", None),
            ("rule 1", Some((8, 12))),
            ("rule 2", Some((14, 20))),
            ("rule 3", Some((21, 22))),
        ];
        assert_eq!(names, expected);
        assert_eq!(rules[1].matches, "protocol tcp or udp or sctp, destination port 25 or 465-467");
        assert_eq!(rules[1].uplinks, "b, or else dropped");
        assert_eq!(rules[2].matches, "source 10.0.0.0/24");
        assert_eq!(rules[2].uplinks, "b, then a");
        assert_eq!((&*rules[3].matches, &*rules[3].uplinks), ("everything", "a (10) and b (20)"));
    }
}
