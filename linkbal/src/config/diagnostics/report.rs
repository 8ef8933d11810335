//! Problems as they are shown: each with its place in the file.

use std::{error::Error, fmt, io, path::Path, string::FromUtf8Error};

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, Severity,
    SourceCode,
};

use super::{
    problem::{Problem, Problems, locate},
    wrap,
};
use crate::words::count;

/// The problems for which a configuration cannot be used; shows all with their places in the file, in
/// lines as wide as the formatter says.
#[derive(Debug)]
pub struct ConfigError(Box<Report>);

/// Warnings about a configuration that can be used.
#[derive(Debug)]
pub struct Warnings(Report);

#[derive(Debug)]
struct Report {
    file: NamedSource<String>,
    problems: Vec<Problem>,
    severity: Severity,
}

impl ConfigError {
    pub(in crate::config) fn new(name: &str, text: String, problems: Vec<Problem>) -> ConfigError {
        let file = NamedSource::new(name, text);
        ConfigError(Box::new(Report { file, problems, severity: Severity::Error }))
    }

    /// Returns the problems of a file as an error.
    pub(in crate::config) fn of(found: Problems<'_>, name: &str) -> ConfigError {
        let (text, problems, _) = found.into_parts();
        ConfigError::new(name, text.to_owned(), problems)
    }

    pub(in crate::config) fn unreadable(name: &str, error: &io::Error) -> ConfigError {
        let help = match error.kind() {
            io::ErrorKind::NotFound => &create(name),
            io::ErrorKind::PermissionDenied => "run linkbal as root, or make the file readable",
            io::ErrorKind::IsADirectory => "name the file in the directory",
            _ => "check that it is a plain file on a disk in good health",
        };
        let problem = Problem {
            message: format!("failed to read configuration {name}: {error}"),
            help: help.into(),
            location: None,
            related: None,
            file: None,
        };
        ConfigError::new(name, String::new(), vec![problem])
    }

    pub(in crate::config) fn not_utf8(name: &str, error: &FromUtf8Error) -> ConfigError {
        let at = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
        let problem = Problem {
            message: "this byte is not UTF-8 text".into(),
            help: "save the file with the encoding UTF-8".into(),
            location: Some(locate(
                &text,
                at..at.saturating_add(char::REPLACEMENT_CHARACTER.len_utf8()),
            )),
            related: None,
            file: None,
        };
        ConfigError::new(name, text, vec![problem])
    }

    /// Returns the problems, in the order of the file; at least one.
    pub fn problems(&self) -> &[Problem] {
        &self.0.problems
    }

    /// Returns the first problem with its place and the number of all, in one line.
    pub fn summary(&self) -> String {
        self.of_all(self.0.lines().next().unwrap_or_default())
    }

    /// Returns the place of the first problem and the number of all, in one line. Nothing of the file is
    /// in it, which may have secrets.
    pub fn public_summary(&self) -> String {
        let first = self.problems().first().map(|problem| match self.0.place(problem) {
            Some(place) => format!("{place}: `linkbal check` says why"),
            // The file cannot be read at all.
            None => problem.message.clone(),
        });
        self.of_all(first.unwrap_or_default())
    }

    fn of_all(&self, first: String) -> String {
        match self.problems().len() {
            0 | 1 => first,
            all => format!("{first}; and {}", count(all.saturating_sub(1), "more problem")),
        }
    }
}

/// Returns the commands that create a configuration.
fn create(name: &str) -> String {
    let folder = Path::new(name).parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.filter(|folder| !folder.exists());
    let folder = folder.map(|folder| format!("mkdir -p {}; ", folder.display()));
    let folder = folder.unwrap_or_default();
    format!("create it: {folder}linkbal example > {name}, and change it as your network is")
}

impl Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Warnings {
    /// Returns the warnings of a file.
    pub(in crate::config) fn of(found: Problems<'_>, name: &str) -> Warnings {
        let (text, _, warnings) = found.into_parts();
        let file = NamedSource::new(name, text.to_owned());
        Warnings(Report { file, problems: warnings, severity: Severity::Warning })
    }

    /// Returns the warnings, in the order of the file.
    pub fn problems(&self) -> &[Problem] {
        &self.0.problems
    }

    /// Returns each warning on one line, with its place, as for a log.
    pub fn lines(&self) -> impl Iterator<Item = String> + '_ {
        self.0.lines()
    }
}

impl Report {
    /// Returns each problem on one line, with its place.
    fn lines(&self) -> impl Iterator<Item = String> + '_ {
        self.problems.iter().map(|problem| {
            let at = self.place(problem).map_or(String::new(), |at| format!("{at}: "));
            format!("{at}{} ({})", problem.message, problem.help)
        })
    }

    /// Returns where a problem is; `None` if its file cannot be read.
    fn place(&self, problem: &Problem) -> Option<String> {
        let name = problem.file.as_deref().unwrap_or(&self.file).name();
        let at = problem.location.as_ref()?;
        Some(format!("{name}:{}:{}", at.line, at.column))
    }
}

impl fmt::Display for Warnings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { file, problems, severity } = self;
        let kind = if *severity == Severity::Error { "problem" } else { "warning" };
        writeln!(f, "{} in {}", count(problems.len(), kind), file.name())?;
        for problem in problems {
            let file = problem.file.as_deref().unwrap_or(file);
            render(f, &Shown { problem, file, severity: *severity })?;
        }
        Ok(())
    }
}

/// Renders a problem with the line that it is in, as wide as the formatter says: `{error:80}`.
pub(super) fn render(f: &mut fmt::Formatter<'_>, shown: &Shown<'_>) -> fmt::Result {
    writeln!(f)?;
    GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor())
        .without_syntax_highlighting()
        .with_width(f.width().unwrap_or(wrap::WIDTH).max(wrap::MIN_WIDTH))
        .with_word_separator(wrap::SEPARATOR)
        .with_word_splitter(wrap::SPLITTER)
        .with_break_words(false)
        .render_report(f, shown)
}

/// A problem with the file that it is in.
#[derive(Debug)]
pub(super) struct Shown<'a> {
    pub(super) problem: &'a Problem,
    pub(super) file: &'a NamedSource<String>,
    pub(super) severity: Severity,
}

impl Error for Shown<'_> {}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem.message)
    }
}

impl Diagnostic for Shown<'_> {
    fn severity(&self) -> Option<Severity> {
        Some(self.severity)
    }

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
