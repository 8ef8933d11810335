//! What is wrong with a configuration, shown at its place in the file.

use std::{cell::RefCell, error::Error, fmt, io, ops::Range, string::FromUtf8Error};

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode,
    SourceSpan,
};

/// Byte range in the text.
pub(super) type Span = Range<usize>;

/// What is wrong with a value, before it is known where the value stands.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) message: String,
    pub(super) help: String,
}

impl Fault {
    pub(super) fn new(message: impl Into<String>, help: impl Into<String>) -> Fault {
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

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: String,
    /// Where; `None` if the file as a whole cannot be read.
    pub location: Option<Location>,
    /// Another place that it has to do with, and what that is.
    related: Option<(Span, &'static str)>,
}

/// The problems found so far in a text.
pub(super) struct Problems<'a> {
    text: &'a str,
    found: RefCell<Vec<Problem>>,
}

impl<'a> Problems<'a> {
    pub(super) fn new(text: &'a str) -> Problems<'a> {
        Problems { text, found: RefCell::default() }
    }

    pub(super) fn report(&self, span: Span, fault: Fault) {
        self.push(span, fault, None);
    }

    /// Reports a fault that another place, described by `label`, is part of.
    pub(super) fn report_related(
        &self,
        span: Span,
        fault: Fault,
        related: Span,
        label: &'static str,
    ) {
        self.push(span, fault, Some((related, label)));
    }

    fn push(&self, span: Span, fault: Fault, related: Option<(Span, &'static str)>) {
        let Fault { message, help } = fault;
        let location = Some(locate(self.text, span));
        self.found.borrow_mut().push(Problem { message, help, location, related });
    }

    /// Where something that is missing altogether would have to be added.
    pub(super) fn end(&self) -> Span {
        self.text.len()..self.text.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.borrow().is_empty()
    }

    pub(super) fn into_error(self, name: &str) -> ConfigError {
        let mut problems = self.found.into_inner();
        problems.sort_by_key(|problem| problem.location.as_ref().map(|at| at.span.start));
        ConfigError::new(name, self.text.to_owned(), problems)
    }
}

fn locate(text: &str, span: Span) -> Location {
    let start = SourceSpan::from(span.start);
    let place = text.read_span(&start, 0, 0).expect("spans come from this text");
    Location { line: place.line() + 1, column: place.column() + 1, span }
}

/// Why a configuration cannot be used; shows all problems with their places in the file.
#[derive(Debug)]
pub struct ConfigError(Box<Inner>);

#[derive(Debug)]
struct Inner {
    file: NamedSource<String>,
    problems: Vec<Problem>,
}

impl ConfigError {
    fn new(name: &str, text: String, problems: Vec<Problem>) -> ConfigError {
        ConfigError(Box::new(Inner { file: NamedSource::new(name, text), problems }))
    }

    pub(super) fn unreadable(name: &str, error: &io::Error) -> ConfigError {
        let help = match error.kind() {
            io::ErrorKind::NotFound => "create it: the commented linkbal.toml is a good start",
            io::ErrorKind::PermissionDenied => "run linkbal as root, or make the file readable",
            io::ErrorKind::IsADirectory => "name the file in the directory",
            _ => "check that it is a plain file on a disk in good health",
        };
        let problem = Problem {
            message: format!("failed to read configuration {name}: {error}"),
            help: help.into(),
            location: None,
            related: None,
        };
        ConfigError::new(name, String::new(), vec![problem])
    }

    pub(super) fn not_utf8(name: &str, error: &FromUtf8Error) -> ConfigError {
        let at = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
        let problem = Problem {
            message: "this byte is not UTF-8 text".into(),
            help: "save the file with the encoding UTF-8".into(),
            location: Some(locate(&text, at..at + char::REPLACEMENT_CHARACTER.len_utf8())),
            related: None,
        };
        ConfigError::new(name, text, vec![problem])
    }

    /// What is wrong, in the order of the file; at least one.
    pub fn problems(&self) -> &[Problem] {
        &self.0.problems
    }
}

impl Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { file, problems } = &*self.0;
        match problems.len() {
            1 => writeln!(f, "1 problem in {}", file.name())?,
            count => writeln!(f, "{count} problems in {}", file.name())?,
        }
        let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor())
            .without_syntax_highlighting()
            .with_width(100);
        for problem in problems {
            writeln!(f)?;
            handler.render_report(f, &Shown { problem, file })?;
        }
        Ok(())
    }
}

/// A problem with the file that it is in.
#[derive(Debug)]
struct Shown<'a> {
    problem: &'a Problem,
    file: &'a NamedSource<String>,
}

impl Error for Shown<'_> {}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem.message)
    }
}

impl Diagnostic for Shown<'_> {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(&self.problem.help))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(self.file)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = self.problem.location.as_ref()?.span.clone();
        let primary = LabeledSpan::new_primary_with_span(None, span);
        let related = self.problem.related.as_ref().map(|(span, label)| {
            LabeledSpan::new_with_span(Some((*label).to_owned()), span.clone())
        });
        Some(Box::new([primary].into_iter().chain(related)))
    }
}
