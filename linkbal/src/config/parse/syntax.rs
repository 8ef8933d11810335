//! TOML syntax: parsed from text to a tree, with its errors reported.

use toml::de::{DeTable, Error};

use crate::config::diagnostics::problem::{Fault, Problems, Span};

/// Parses `text` to a tree, or reports its syntax errors, one for each line.
pub(in crate::config) fn parse<'a>(text: &'a str, problems: &Problems) -> Option<DeTable<'a>> {
    let (tree, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Some(tree.into_inner());
    }
    let mut errors: Vec<(Span, Error)> = errors
        .into_iter()
        .map(|error| (error.span().unwrap_or_else(|| problems.end()), error))
        .collect();
    errors.sort_by_key(|(span, _)| span.start);
    errors.truncate(trusted(&errors));
    let same_line = |from: usize, to: usize| !text.as_bytes()[from..to].contains(&b'\n');
    errors.dedup_by(|(next, _), (first, _)| same_line(first.start, next.start));
    for (span, error) in errors {
        let empty = span.is_empty();
        problems.report(span, fault(error.message(), empty));
    }
    None
}

/// Returns how many of the errors are meaningful: inside of a list or inline table that is never
/// closed everything looks wrong, so the errors after the first one there are dropped.
fn trusted(errors: &[(Span, Error)]) -> usize {
    let kinds = || errors.iter().map(|(_, e)| e.message().split(',').next().unwrap_or_default());
    let never_closed =
        kinds().any(|kind| matches!(kind, "unclosed array" | "unclosed inline table"));
    let first_inside = kinds().position(|kind| {
        kind.ends_with("array")
            || ["array element", "inline table", "key-value pairs"]
                .iter()
                .any(|of| kind.contains(of))
    });
    first_inside.filter(|_| never_closed).map_or(errors.len(), |index| index.saturating_add(1))
}

/// Returns the parser's message with advice; frequent messages are made clearer.
fn fault(message: &str, empty: bool) -> Fault {
    let quoting =
        "write texts in double quotes, like \"eth0\", and numbers without spaces or units";
    if message.contains("must be quoted") {
        let what =
            if empty { "the value is missing" } else { "neither a text in quotes nor a number" };
        return Fault::new(what, quoting);
    }
    let help = if message.contains("duplicate key") {
        "every section, and every key of a section, can be given once: join the two"
    } else if message.contains("between array elements") {
        "write a comma between the items, and `]` after the last"
    } else if message.contains("between key-value pairs") {
        "write a comma between the keys, and `}` after the last value"
    } else if message.ends_with("expected `\"`") {
        "write a text on one line, with a double quote on each side"
    } else if message.contains("unclosed") {
        "add what closes it"
    } else {
        "a line is `key = value`, a section begins with `[name]`, texts are in double quotes"
    };
    Fault::new(message, help)
}
