//! Typed access to a TOML tree that reports values that do not fit, and goes on.

use std::slice;

use toml::{
    Spanned,
    de::{DeString, DeTable, DeValue},
};

use super::{
    key::{Declared, Form, Key, Keys},
    listed::as_list,
    synonym::{self, Meant},
    value,
};
use crate::config::diagnostics::problem::{Fault, Problems, Span};

/// A TOML table, with its place.
pub(in crate::config) struct Section<'a> {
    table: &'a DeTable<'a>,
    span: Span,
    /// Names from the root, joined by dots; empty for the root.
    path: String,
    problems: &'a Problems<'a>,
    /// Known keys that unknown ones were probably meant to be, with those.
    misspelled: Vec<(&'static str, &'a str)>,
}

impl<'a> Section<'a> {
    /// Returns the section of the whole file.
    pub(in crate::config) fn root(
        table: &'a DeTable<'a>,
        problems: &'a Problems<'a>,
    ) -> Section<'a> {
        let span = problems.end();
        Section { table, span, path: String::new(), problems, misspelled: Vec::new() }
    }

    /// Returns the section of `table`, which is the value of `key`.
    pub(in crate::config) fn child(
        &self,
        key: &str,
        table: &Spanned<&'a DeTable<'a>>,
    ) -> Section<'a> {
        Section {
            table: table.get_ref(),
            span: table.span(),
            path: self.path_of(key),
            problems: self.problems,
            misspelled: Vec::new(),
        }
    }

    /// Reports all keys but `known` ones.
    pub(in crate::config) fn knowing(mut self, keys: &Keys) -> Section<'a> {
        let known: Vec<&'static str> = keys.all.iter().map(|key| key.name()).collect();
        let mut listed = false;
        for (key, value) in self.entries() {
            let name: &'a str = key.get_ref();
            if known.contains(&name) {
                continue;
            }
            let raw = self.problems.text_of(value.span());
            let (similar, mut help) = advice(keys.path, name, value.get_ref(), raw, &known);
            // All keys help once, and only where nothing else does.
            if similar.is_none() && !std::mem::replace(&mut listed, true) {
                help = format!("{help}; the keys here are: {}", known.join(", "));
            }
            let message = format!("unknown key `{}`", self.path_of(name));
            self.problems.report(key.span(), Fault::new(message, help));
            self.misspelled.extend(similar.map(|similar| (similar, name)));
        }
        self
    }

    /// Returns keys and values in the order of the file.
    pub(in crate::config) fn entries(&self) -> Vec<(&'a Spanned<DeString<'a>>, &'a Value<'a>)> {
        let mut entries: Vec<_> = self.table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        entries
    }

    /// Returns the value of `key`, if it exists and has its form.
    pub(in crate::config) fn value<F: Form>(&self, key: &Key<F>) -> Option<Spanned<F::Value>> {
        self.read(key, self.table.get(key.name)?, |value| key.form.read(value))
    }

    /// Returns the value of `key`, if it exists and `read` accepts it.
    pub(in crate::config) fn get<T>(
        &self,
        key: &dyn Declared,
        read: impl Fn(&'a DeValue<'a>) -> Result<T, Fault>,
    ) -> Option<Spanned<T>> {
        self.read(key, self.table.get(key.name())?, read)
    }

    /// Returns whether `key` exists.
    pub(in crate::config) fn has(&self, key: &dyn Declared) -> bool {
        self.table.contains_key(key.name())
    }

    /// Reports `fault` if `key` does not exist, unless a misspelling of it was reported.
    pub(in crate::config) fn require(&self, key: &dyn Declared, fault: Fault) {
        if !self.has(key) && !self.misspelled.iter().any(|(meant, _)| *meant == key.name()) {
            self.problems.report(self.span.clone(), fault);
        }
    }

    /// Returns the section `key`, if it exists; else one that was probably meant by another name,
    /// so that what is in it is checked, too.
    pub(in crate::config) fn section(
        &self,
        key: &dyn Declared,
        help: &'static str,
    ) -> Option<Section<'a>> {
        if !self.has(key) {
            return self.meant_sections(key).into_iter().next();
        }
        self.get(key, value::table(help)).map(|table| self.child(key.name(), &table))
    }

    /// Returns the sections by which `key` was probably meant.
    pub(in crate::config) fn meant_sections(&self, key: &dyn Declared) -> Vec<Section<'a>> {
        let meant = self.misspelled.iter().filter(|(meant, _)| *meant == key.name());
        let named = meant.filter_map(|(_, name)| {
            let value = self.table.get(*name)?;
            let table = Spanned::new(value.span(), value.get_ref().as_table()?);
            Some(self.child(name, &table))
        });
        named.collect()
    }

    /// Returns the list `key`, if it exists.
    pub(in crate::config) fn list<T>(
        &self,
        key: &dyn Declared,
        help: &'static str,
        read: impl Fn(&'a DeValue<'a>) -> Result<T, Fault>,
    ) -> Option<List<T>> {
        let array = self.get(key, Self::hinting(key.name(), true, value::array(help)))?;
        let read = Self::hinting(key.name(), false, read);
        Some(self.items(key, array.get_ref(), array.span(), read))
    }

    /// Returns the value of `key`, or the list of values, if `key` exists. An empty list is a
    /// problem: it could mean all or nothing.
    pub(in crate::config) fn one_or_more<T>(
        &self,
        key: &dyn Declared,
        read: impl Fn(&'a DeValue<'a>) -> Result<T, Fault>,
    ) -> Option<List<T>> {
        let value = self.table.get(key.name())?;
        let values = value.get_ref().as_array().map_or(slice::from_ref(value), |list| list);
        if values.is_empty() {
            let help = format!("write a value, or leave `{}` out if any will do", key.name());
            self.report(key, value.span(), Fault::new("the list is empty", help));
        }
        let alone = !value.get_ref().is_array();
        let read = Self::hinting(key.name(), alone, read);
        Some(self.items(key, values, value.span(), read))
    }

    fn items<T>(
        &self,
        key: &dyn Declared,
        values: &'a [Value<'a>],
        span: Span,
        read: impl Fn(&'a DeValue<'a>) -> Result<T, Fault>,
    ) -> List<T> {
        let items: Vec<_> = values.iter().filter_map(|item| self.read(key, item, &read)).collect();
        List { complete: items.len() == values.len(), items, span }
    }

    /// Reads one value of `key`.
    pub(in crate::config) fn read<T>(
        &self,
        key: impl AsRef<str>,
        value: &'a Value<'a>,
        read: impl Fn(&'a DeValue<'a>) -> Result<T, Fault>,
    ) -> Option<Spanned<T>> {
        match read(value.get_ref()) {
            Ok(accepted) => Some(Spanned::new(value.span(), accepted)),
            Err(fault) => {
                self.report(key, value.span(), fault);
                None
            }
        }
    }

    /// Adds to the faults of a reader that a text with several values is to be a list: the value of
    /// `key` if it is the text alone, else items of it.
    fn hinting<T>(
        key: &'static str,
        alone: bool,
        read: impl Fn(&'a DeValue<'a>) -> Result<T, Fault>,
    ) -> impl Fn(&'a DeValue<'a>) -> Result<T, Fault> {
        move |value| {
            read(value).map_err(|fault| match value.as_str().and_then(as_list) {
                Some(items) if alone => {
                    Fault::new(fault.message, format!("write a list: {key} = [{items}]"))
                }
                Some(items) => Fault::new(fault.message, format!("write the items apart: {items}")),
                None => fault,
            })
        }
    }

    /// Reports a fault of the value of `key`.
    pub(in crate::config) fn report(&self, key: impl AsRef<str>, span: Span, fault: Fault) {
        self.problems.report(span, self.name_fault(key, fault));
    }

    /// Warns that the value of `key` is valid, but probably a mistake.
    pub(in crate::config) fn warn(&self, key: impl AsRef<str>, span: Span, fault: Fault) {
        self.problems.warn(span, self.name_fault(key, fault));
    }

    /// Reports a fault of the value of `key` that another place, described by `label`, is part of.
    pub(in crate::config) fn report_related(
        &self,
        key: impl AsRef<str>,
        span: Span,
        fault: Fault,
        related: Span,
        label: &'static str,
    ) {
        self.problems.report_related(span, self.name_fault(key, fault), related, label);
    }

    /// Reports every item that is repeated in the list of `key`.
    pub(in crate::config) fn report_repeated<T: PartialEq + ToString>(
        &self,
        key: impl AsRef<str>,
        items: &[Spanned<T>],
    ) {
        let key = key.as_ref();
        for (index, item) in items.iter().enumerate() {
            let first = items[..index].iter().find(|first| first.get_ref() == item.get_ref());
            if let Some(first) = first {
                let message = format!("{} is listed twice", item.get_ref().to_string());
                let fault = Fault::new(message, "remove one of the two");
                self.report_related(key, item.span(), fault, first.span(), "first here");
            }
        }
    }

    /// Returns the place of this section: its header, or the value of an inline table.
    pub(in crate::config) fn span(&self) -> Span {
        self.span.clone()
    }

    pub(in crate::config) fn problems(&self) -> &'a Problems<'a> {
        self.problems
    }

    fn name_fault(&self, key: impl AsRef<str>, fault: Fault) -> Fault {
        Fault::new(format!("`{}`: {}", self.path_of(key), fault.message), fault.help)
    }

    fn path_of(&self, key: impl AsRef<str>) -> String {
        let key = key.as_ref().escape_debug();
        if self.path.is_empty() { key.to_string() } else { format!("{}.{key}", self.path) }
    }
}

/// The items of a list that were accepted.
pub(in crate::config) struct List<T> {
    pub(in crate::config) items: Vec<Spanned<T>>,
    /// Set if all items were accepted.
    pub(in crate::config) complete: bool,
    /// Place of the brackets and everything between them.
    pub(in crate::config) span: Span,
}

/// A value, with its place.
pub(in crate::config) type Value<'a> = Spanned<DeValue<'a>>;

/// Returns advice for a name that is none of `known`, which are called `what`.
pub(crate) fn names_help(name: &str, what: &str, known: &[&str]) -> String {
    let listed = known.join(", ");
    match most_similar(name, known) {
        Some(meant) => format!("did you mean {meant:?}? {what} are: {listed}"),
        None => format!("{what} are: {listed}"),
    }
}

/// Returns what an unknown key was probably meant to be, and what to do with it and its value, which
/// stands in the file as `raw`.
fn advice(
    path: &str,
    name: &str,
    value: &DeValue<'_>,
    raw: &str,
    known: &[&'static str],
) -> (Option<&'static str>, String) {
    if let Some(Meant { key, help }) = synonym::meant(path, name, known) {
        let own = synonym::own_line(path, name, key, help.as_deref(), value, raw);
        let help = own.or(help).unwrap_or_else(|| format!("did you mean `{key}`?"));
        return (Some(key), help);
    }
    match (most_similar(name, known), synonym::nowhere(name)) {
        (Some(meant), _) => (Some(meant), format!("did you mean `{meant}`?")),
        (None, Some(help)) => (None, help.into()),
        (None, None) => (None, "remove it".into()),
    }
}

/// Returns the known name that `name` was probably meant to be.
fn most_similar<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    if let Some(same) = known.iter().find(|known| known.eq_ignore_ascii_case(name)) {
        return Some(same);
    }
    known
        .iter()
        .map(|known| (strsim::normalized_damerau_levenshtein(name, known), *known))
        .filter(|(similarity, _)| *similarity > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}
