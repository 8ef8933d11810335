//! Findings about the values of a configuration on a machine, shown at their places in the file.

use std::{error::Error, fmt};

use miette::{NamedSource, Severity as Shade};
use serde::Serialize;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    problem::{Problem, Span, locate},
    report::{Shown, render},
};
use crate::config::Sources;

/// The weight of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something cannot work.
    Error,
    /// Something works worse than it should, or will not work for long.
    Warning,
    /// Something is worth knowing.
    Hint,
}

/// A place in a configuration by its keys, as the values do not know their place in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Keys from the root on: the first path that exists counts, and else what exists of the first.
    pub paths: Vec<Vec<String>>,
    /// A text of the value, if only one of several is meant: the first that contains it counts.
    pub value: Option<String>,
}

impl Place {
    /// Returns the place of a key.
    pub fn key(keys: &[&str]) -> Place {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        Place { paths: vec![keys], value: None }
    }

    /// Returns the same place, or another one if that has no such key.
    #[must_use]
    pub fn or(mut self, keys: &[&str]) -> Place {
        self.paths.push(keys.iter().map(|key| (*key).to_owned()).collect());
        self
    }

    /// Returns the place of one element of the value.
    #[must_use]
    pub fn of(mut self, value: &(impl ToString + ?Sized)) -> Place {
        self.value = Some(value.to_string());
        self
    }

    /// Returns the place in a text; `None` if that is no TOML, or has nothing of it.
    fn span(&self, tree: &DeTable<'_>) -> Option<Span> {
        let whole = |path: &&Vec<String>| depth(tree, path).1 == path.len();
        let path = self.paths.iter().find(whole).or(self.paths.first())?;
        let (at, depth) = depth(tree, path);
        let at = at?;
        let exact = self.value.as_deref().filter(|_| depth == path.len());
        let exact = exact.and_then(|value| containing(&at, value));
        Some(exact.unwrap_or_else(|| at.span()))
    }
}

/// Returns the value at a path, as far as that exists, and how many of its keys do.
fn depth<'t, 'a>(
    tree: &'t DeTable<'a>,
    path: &[String],
) -> (Option<Spanned<&'t DeValue<'a>>>, usize) {
    let mut table = tree;
    let mut at = None;
    for (depth, key) in path.iter().enumerate() {
        let Some(value) = table.get(key.as_str()) else { return (at, depth) };
        at = Some(Spanned::new(value.span(), value.get_ref()));
        match value.get_ref() {
            DeValue::Table(next) => table = next,
            _ => return (at, depth.saturating_add(1)),
        }
    }
    (at, path.len())
}

/// Returns the place of the first text within a value that contains another one.
fn containing(value: &Spanned<&DeValue<'_>>, wanted: &str) -> Option<Span> {
    match value.get_ref() {
        DeValue::String(text) => text.contains(wanted).then(|| value.span()),
        DeValue::Array(items) => {
            let items = || items.iter().map(|item| Spanned::new(item.span(), item.get_ref()));
            let equal = |item: &Spanned<&DeValue<'_>>| matches!(item.get_ref(), DeValue::String(text) if text.as_ref() == wanted);
            let exact = items().find(equal).map(|item| item.span());
            exact.or_else(|| items().find_map(|item| containing(&item, wanted)))
        }
        DeValue::Table(entries) => entries
            .values()
            .find_map(|entry| containing(&Spanned::new(entry.span(), entry.get_ref()), wanted)),
        _ => None,
    }
}

/// Something about a value of the configuration on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The weight.
    pub severity: Severity,
    /// The place in the configuration.
    pub place: Place,
    /// The finding.
    pub message: String,
    /// Advice.
    pub help: String,
}

impl Finding {
    /// Creates a finding.
    pub fn new(
        severity: Severity,
        place: Place,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Finding {
        Finding { severity, place, message: message.into(), help: help.into() }
    }
}

/// Findings with their places in a file, in the order of the file; shows all of them.
#[derive(Debug)]
pub struct Findings {
    file: NamedSource<String>,
    found: Vec<(Severity, Problem)>,
}

impl Findings {
    /// Locates findings in the text of a configuration, whose file is shown as `name`.
    pub fn locate(sources: &Sources, name: &str, found: Vec<Finding>) -> Findings {
        let (tree, _) = DeTable::parse_recoverable(&sources.text);
        let tree = tree.into_inner();
        let problem = |finding: Finding| {
            let Finding { severity, place, message, help } = finding;
            let span = place.span(&tree);
            let location = span.map(|span| locate(&sources.text, span));
            (severity, Problem { message, help, location, related: None, file: None })
        };
        let mut found: Vec<_> = found.into_iter().map(problem).collect();
        let start = |problem: &Problem| problem.location.as_ref().map(|at| at.span.start);
        found.sort_by_key(|(severity, problem)| (start(problem), *severity));
        found.dedup();
        Findings { file: NamedSource::new(name, sources.text.clone()), found }
    }

    /// Returns the findings with their severities.
    pub fn found(&self) -> &[(Severity, Problem)] {
        &self.found
    }

    /// Returns whether one of them is more than a hint.
    pub fn is_bad(&self) -> bool {
        self.found.iter().any(|(severity, _)| *severity != Severity::Hint)
    }

    /// Returns the findings as values for programs.
    pub fn for_programs(&self) -> Vec<LocatedFinding> {
        let each = self.found.iter().map(|(severity, problem)| LocatedFinding {
            severity: *severity,
            line: problem.location.as_ref().map(|at| at.line),
            column: problem.location.as_ref().map(|at| at.column),
            message: problem.message.clone(),
            help: problem.help.clone(),
        });
        each.collect()
    }
}

/// A finding for programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LocatedFinding {
    /// The weight.
    pub severity: Severity,
    /// Line in the file, counted from 1; null if it has no place there.
    pub line: Option<usize>,
    /// Column in bytes, counted from 1.
    pub column: Option<usize>,
    /// The finding.
    pub message: String,
    /// Advice.
    pub help: String,
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Findings { file, found } = self;
        match found.len() {
            0 => return Ok(()),
            1 => writeln!(f, "1 finding on this machine about {}", file.name())?,
            count => writeln!(f, "{count} findings on this machine about {}", file.name())?,
        }
        for (severity, problem) in found {
            let shade = match severity {
                Severity::Error => Shade::Error,
                Severity::Warning => Shade::Warning,
                Severity::Hint => Shade::Advice,
            };
            render(f, &Shown { problem, file, severity: shade })?;
        }
        Ok(())
    }
}

impl Error for Findings {}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[lan]\ninterfaces = [\"lan0\", \"lan\"]\n\n[uplink.a]\ninterface = \"wan-a\"\n\
        gateway = \"192.0.2.1\"\n\n[probe]\ntargets = [\"9.9.9.9\", { url = \"http://192.168.1.7/\" }]\n";

    fn at(place: Place) -> (usize, String) {
        let sources = Sources { text: TEXT.into(), ..Sources::default() };
        let finding = Finding::new(Severity::Error, place, "m", "h");
        let found = Findings::locate(&sources, "f.toml", vec![finding]);
        let location = found.found()[0].1.location.clone().expect("a place");
        (location.line, TEXT[location.span].to_owned())
    }

    #[test]
    fn a_place_is_found_by_its_keys_or_as_near_as_there_is_something() {
        let uplink = |key| Place::key(&["uplink", "a", key]);
        assert_eq!(at(uplink("interface")), (5, "\"wan-a\"".into()));
        // The address stands alone instead of in a table.
        let gateway = Place::key(&["uplink", "a", "gateway", "ipv4"]);
        assert_eq!(at(gateway), (6, "\"192.0.2.1\"".into()));
        assert_eq!(at(uplink("mtu")), (4, "[uplink.a]".into()));
        let lan = Place::key(&["lan", "interfaces"]);
        assert_eq!(at(lan.clone().of("lan")), (2, "\"lan\"".into()));
        assert_eq!(at(lan.of("eth9")).0, 2);
        let targets = Place::key(&["uplink", "a", "probe", "targets"]).or(&["probe", "targets"]);
        assert_eq!(at(targets.clone().of("192.168.1.7")), (9, "\"http://192.168.1.7/\"".into()));
        assert_eq!(at(targets.of("9.9.9.9")), (9, "\"9.9.9.9\"".into()));
    }

    #[test]
    fn findings_are_shown_with_their_severity_and_line() {
        let sources = Sources { text: TEXT.into(), ..Sources::default() };
        let place = Place::key(&["uplink", "a", "interface"]);
        let hint = Finding::new(Severity::Hint, place, "it is so", "do this");
        let found = Findings::locate(&sources, "f.toml", vec![hint]);
        let text = found.to_string();
        assert!(!found.is_bad() && text.contains("f.toml:5:13"), "{text}");
        assert!(text.contains("it is so") && text.contains("do this"), "{text}");
        let located = found.for_programs();
        assert_eq!((located[0].line, located[0].column), (Some(5), Some(13)));
        assert_eq!(Findings::locate(&sources, "f.toml", vec![]).to_string(), "");
    }
}
