//! `linkbal rules`.

use std::fmt::Write as _;

use crate::api::rules::RuleUse;

/// Renders the rules in the order in which they are evaluated.
pub(super) fn render(rules: &[RuleUse]) -> String {
    let lines = |used: &RuleUse| match used.rule.lines {
        Some((first, last)) if first == last => format!("{first}"),
        Some((first, last)) => format!("{first}-{last}"),
        None => "-".into(),
    };
    let rows = rules.iter().map(|used| {
        let numbers = [used.flows, used.blocked].map(|number| number.to_string());
        (used.rule.name.clone(), lines(used), numbers)
    });
    let head = ("RULE".to_owned(), "LINES".to_owned(), ["FLOWS", "BLOCKED"].map(str::to_owned));
    let rows: Vec<_> = [head].into_iter().chain(rows).collect();
    let width = |of: fn(&(String, String, [String; 2])) -> &str| {
        rows.iter().map(|row| of(row).chars().count()).max().unwrap_or(0)
    };
    let (names, places) = (width(|row| &row.0), width(|row| &row.1));
    let (flows, blocked) = (width(|row| &row.2[0]), width(|row| &row.2[1]));
    let mut text = String::new();
    for (at, (name, place, [flow, block])) in rows.iter().enumerate() {
        let rest = match at.checked_sub(1).and_then(|at| rules.get(at)) {
            Some(used) => format!("{} -> {}", used.rule.matches, used.rule.uplinks),
            None => "MATCH -> UPLINKS".into(),
        };
        // A string takes all.
        let _ = writeln!(
            text,
            "{name:names$}  {place:>places$}  {flow:>flows$}  {block:>blocked$}  {rest}"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::outline::RuleWords;

    #[test]
    fn rules_come_in_order_with_their_counters() {
        let used = |name: &str, lines, flows, blocked| RuleUse {
            rule: RuleWords {
                name: name.into(),
                lines,
                matches: "destination port 25".into(),
                uplinks: "isp-a".into(),
            },
            flows,
            blocked,
        };
        let rules = [used("rule 1", Some((8, 12)), 1200, 0), used("no rule", None, 7, 31)];
        assert_eq!(
            render(&rules),
            "RULE     LINES  FLOWS  BLOCKED  MATCH -> UPLINKS\n\
             rule 1    8-12   1200        0  destination port 25 -> isp-a\n\
             no rule      -      7       31  destination port 25 -> isp-a\n"
        );
    }
}
