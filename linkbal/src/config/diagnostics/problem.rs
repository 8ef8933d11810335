//! Problems of a configuration, with their places.

use std::{
    cell::{OnceCell, RefCell},
    collections::HashSet,
    ops::Range,
    sync::Arc,
};

use miette::NamedSource;

/// Byte range in the text.
pub(in crate::config) type Span = Range<usize>;

/// A fault of a value, before its place is known.
#[derive(Debug)]
pub(in crate::config) struct Fault {
    pub(in crate::config) message: String,
    pub(in crate::config) help: String,
}

impl Fault {
    pub(in crate::config) fn new(message: impl Into<String>, help: impl Into<String>) -> Fault {
        Fault { message: message.into(), help: help.into() }
    }
}

/// A place in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// Bytes from the beginning of the file.
    pub span: Range<usize>,
    /// Line of the first byte, counted from 1.
    pub line: usize,
    /// Column of the first byte in its line, in bytes, counted from 1.
    pub column: usize,
}

/// An error or a warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The fault.
    pub message: String,
    /// Advice.
    pub help: String,
    /// The place; `None` if the file as a whole cannot be read.
    pub location: Option<Location>,
    /// Another place that is involved, and its label.
    pub(in crate::config) related: Option<(Span, &'static str)>,
    /// The file of `location`, if it is one that the configuration names.
    pub(in crate::config) file: Option<Arc<NamedSource<String>>>,
}

impl Problem {
    /// Returns the file of `location`, if it is not the configuration but one that it names.
    pub fn file(&self) -> Option<&str> {
        self.file.as_deref().map(NamedSource::name)
    }
}

/// Problems, each with the place in the configuration by which they are sorted.
type Found = RefCell<Vec<(usize, Problem)>>;

/// The problems found so far in a text.
pub(in crate::config) struct Problems<'a> {
    text: &'a str,
    /// The beginnings of the lines of `text`, once a place is asked for.
    lines: OnceCell<Vec<usize>>,
    found: Found,
    warnings: Found,
}

impl<'a> Problems<'a> {
    pub(in crate::config) fn new(text: &'a str) -> Problems<'a> {
        let lines = OnceCell::new();
        Problems { text, lines, found: RefCell::default(), warnings: RefCell::default() }
    }

    pub(in crate::config) fn report(&self, span: Span, fault: Fault) {
        self.push(&self.found, span, fault, None);
    }

    /// Reports a fault that another place, described by `label`, is part of.
    pub(in crate::config) fn report_related(
        &self,
        span: Span,
        fault: Fault,
        related: Span,
        label: &'static str,
    ) {
        self.push(&self.found, span, fault, Some((related, label)));
    }

    /// Reports a fault at `span` of `file`, which is named at `mention`.
    pub(in crate::config) fn report_in(
        &self,
        file: &Arc<NamedSource<String>>,
        span: Span,
        fault: Fault,
        mention: &Span,
    ) {
        let location = Some(locate(file.inner(), span));
        let Fault { message, help } = fault;
        let file = Some(file.clone());
        let problem = Problem { message, help, location, related: None, file };
        self.found.borrow_mut().push((mention.start, problem));
    }

    /// Warns of a value that is valid, but probably a mistake.
    pub(in crate::config) fn warn(&self, span: Span, fault: Fault) {
        self.push(&self.warnings, span, fault, None);
    }

    /// Warns like [`Problems::warn`], with another place, described by `label`.
    pub(in crate::config) fn warn_related(
        &self,
        span: Span,
        fault: Fault,
        related: Span,
        label: &'static str,
    ) {
        self.push(&self.warnings, span, fault, Some((related, label)));
    }

    fn push(&self, list: &Found, span: Span, fault: Fault, related: Option<(Span, &'static str)>) {
        let Fault { message, help } = fault;
        let start = span.start;
        let lines = self.lines.get_or_init(|| line_starts(self.text));
        let location = Some(locate_in(lines, span));
        let problem = Problem { message, help, location, related, file: None };
        list.borrow_mut().push((start, problem));
    }

    /// Returns the text of a place; empty if it is outside.
    pub(in crate::config) fn text_of(&self, span: Span) -> &'a str {
        self.text.get(span).unwrap_or_default()
    }

    /// Returns the end of the text, as the place of something that is missing altogether.
    pub(in crate::config) fn end(&self) -> Span {
        self.text.len()..self.text.len()
    }

    pub(in crate::config) fn is_empty(&self) -> bool {
        self.found.borrow().is_empty()
    }

    /// Returns the text, the problems and the warnings, in the order of the text.
    pub(in crate::config) fn into_parts(self) -> (&'a str, Vec<Problem>, Vec<Problem>) {
        (self.text, sorted(self.found), sorted(self.warnings))
    }
}

fn sorted(found: Found) -> Vec<Problem> {
    let mut found = found.into_inner();
    found.sort_by_key(|(at, _)| *at);
    let mut found: Vec<Problem> = found.into_iter().map(|(_, problem)| problem).collect();
    without_repeats(&mut found);
    found
}

/// Removes problems that are the same as an earlier one: a value may be read for several uplinks.
pub(super) fn without_repeats(found: &mut Vec<Problem>) {
    let mut seen = HashSet::new();
    found.retain(|problem| {
        let file = problem.file().map(str::to_owned);
        let at = problem.location.as_ref().map(|at| at.span.clone());
        seen.insert((file, at, problem.message.clone(), problem.help.clone()))
    });
}

/// Returns the place of a span of a text.
pub(in crate::config) fn locate(text: &str, span: Span) -> Location {
    locate_in(&line_starts(text), span)
}

/// Returns the beginnings of the lines of a text, in bytes.
fn line_starts(text: &str) -> Vec<usize> {
    let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
    [0].into_iter().chain(ends.map(|(at, _)| at.saturating_add(1))).collect()
}

/// Returns the place of a span of a text with these lines: a text may have very many problems.
fn locate_in(lines: &[usize], span: Span) -> Location {
    let line = lines.partition_point(|start| *start <= span.start);
    let start = lines.get(line.saturating_sub(1)).copied().unwrap_or_default();
    let column = span.start.saturating_sub(start).saturating_add(1);
    Location { line, column, span }
}

#[cfg(test)]
mod tests {
    use miette::{SourceCode as _, SourceSpan};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_place_is_where_the_report_shows_it(text in "([a-zä\\n]|\r\n){0,40}", at: prop::sample::Index) {
            let starts: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
            let start = *at.get(&starts);
            prop_assume!(!text[..start].ends_with('\r'));
            let place = text.read_span(&SourceSpan::from(start), 0, 0).expect("it is in the text");
            let Location { line, column, span } = locate(&text, start..start);
            prop_assert_eq!((line, column, span.start), (place.line() + 1, place.column() + 1, start));
        }
    }
}
