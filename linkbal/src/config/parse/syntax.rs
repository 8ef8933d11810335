//! TOML syntax: parsed from text to a tree, with its errors reported.

use toml::de::{DeTable, Error};

use super::{
    dialect::other_format,
    remedy::{Remedy, remedy},
};
use crate::config::diagnostics::problem::{Problems, Span};

/// Parses `text` to a tree, or reports its syntax errors, one for each line.
pub(in crate::config) fn parse<'a>(text: &'a str, problems: &Problems) -> Option<DeTable<'a>> {
    let (tree, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Some(tree.into_inner());
    }
    if let Some((span, fault)) = other_format(text) {
        problems.report(span, fault);
        return None;
    }
    let mut errors: Vec<(Span, Error)> = errors
        .into_iter()
        .map(|error| (error.span().unwrap_or_else(|| problems.end()), error))
        .collect();
    errors.sort_by_key(|(span, _)| span.start);
    errors.truncate(trusted(&errors));
    let same_line = |from: usize, to: usize| !text.as_bytes()[from..to].contains(&b'\n');
    errors.dedup_by(|(next, _), (first, _)| same_line(first.start, next.start));
    drop_repeated(text, &mut errors);
    for (span, error) in errors {
        let Remedy { span: better, fault, related } = remedy(text, &span, error.message());
        let span = better.unwrap_or(span);
        match related {
            Some((related, label)) => problems.report_related(span, fault, related, label),
            None => problems.report(span, fault),
        }
    }
    None
}

/// Drops the errors of all keys in a section that is itself there twice.
fn drop_repeated(text: &str, errors: &mut Vec<(Span, Error)>) {
    let is_duplicate = |error: &Error| error.message().contains("duplicate key");
    let is_header = |at: usize| {
        let line = text[..at].rsplit('\n').next().unwrap_or_default();
        line.trim_start().starts_with('[')
    };
    let mut repeated: Option<usize> = None;
    errors.retain(|(span, error)| {
        if !is_duplicate(error) {
            return true;
        }
        if is_header(span.start) {
            repeated = Some(span.start);
            return true;
        }
        // As long as no other section has begun.
        let same = repeated.is_some_and(|from| !text[from..span.start].contains("\n["));
        !same
    });
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
