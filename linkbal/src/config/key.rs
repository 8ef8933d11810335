//! Keys of the configuration: each is declared once, with its form. Readers, the keys that are
//! unknown, and the table in the documentation follow from the declarations.

use std::{ops::RangeInclusive, time::Duration};

use toml::de::DeValue;

use super::{problem::Fault, value};

/// A key of a section.
pub(super) struct Key<F> {
    pub(super) name: &'static str,
    pub(super) form: F,
    pub(super) default: Unset,
    pub(super) doc: &'static str,
}

/// The meaning of a key that is not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unset {
    /// A problem.
    Required,
    /// The same as this value, in TOML.
    Value(&'static str),
    /// A meaning in words.
    Words(&'static str),
}

/// The form of a value, in words.
pub(super) trait Describe {
    fn describe(&self) -> String;
}

/// A form that says by itself how a value is read.
pub(super) trait Form: Describe {
    type Value;

    fn read(&self, value: &DeValue<'_>) -> Result<Self::Value, Fault>;
}

/// A number from the first to the second one.
pub(super) struct Number(pub(super) u32, pub(super) u32);

/// A duration from the first to the second one.
pub(super) struct Time(pub(super) Duration, pub(super) Duration);

/// True or false.
pub(super) struct Flag;

/// Another form, or `"auto"`.
pub(super) struct Auto<F>(pub(super) F);

/// A form that only the reader of the key knows.
pub(super) struct Other(pub(super) &'static str);

impl Number {
    pub(super) const fn range(&self) -> RangeInclusive<u32> {
        self.0..=self.1
    }
}

impl Describe for Number {
    fn describe(&self) -> String {
        format!("{} to {}", self.0, self.1)
    }
}

impl Form for Number {
    type Value = u32;

    fn read(&self, value: &DeValue<'_>) -> Result<u32, Fault> {
        value::integer(self.range())(value)
    }
}

impl Describe for Time {
    fn describe(&self) -> String {
        let [low, high] = [self.0, self.1].map(humantime::format_duration);
        format!("{low} to {high}")
    }
}

impl Form for Time {
    type Value = Duration;

    fn read(&self, value: &DeValue<'_>) -> Result<Duration, Fault> {
        value::duration(self.0..=self.1)(value)
    }
}

impl Describe for Flag {
    fn describe(&self) -> String {
        "`true` or `false`".into()
    }
}

impl Form for Flag {
    type Value = bool;

    fn read(&self, value: &DeValue<'_>) -> Result<bool, Fault> {
        value::boolean(value)
    }
}

impl<F: Describe> Describe for Auto<F> {
    fn describe(&self) -> String {
        format!("`\"auto\"`, or {}", self.0.describe())
    }
}

impl<F: Form> Form for Auto<F> {
    type Value = Option<F::Value>;

    fn read(&self, value: &DeValue<'_>) -> Result<Option<F::Value>, Fault> {
        value::auto_or(|value| self.0.read(value))(value)
    }
}

impl Describe for Other {
    fn describe(&self) -> String {
        self.0.into()
    }
}

/// A declared key, whatever its form is.
pub(super) trait Declared: AsRef<str> + Sync {
    fn name(&self) -> &'static str;
    fn form(&self) -> String;
    fn default(&self) -> Unset;
    fn doc(&self) -> &'static str;
}

impl<F> AsRef<str> for Key<F> {
    fn as_ref(&self) -> &str {
        self.name
    }
}

impl<F: Describe + Sync> Declared for Key<F> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn form(&self) -> String {
        self.form.describe()
    }

    fn default(&self) -> Unset {
        self.default
    }

    fn doc(&self) -> &'static str {
        self.doc.trim_ascii()
    }
}

/// The keys of a section or of an inline table.
pub(super) struct Keys {
    /// The section: names from the root, joined by dots; empty for the root.
    pub(super) path: &'static str,
    pub(super) all: &'static [&'static dyn Declared],
}

/// Declares the keys of a section, in a module of their own.
macro_rules! keys {
    (
        $(#[$about:meta])* $section:ident = $path:literal;
        $($(#[doc = $doc:literal])+ $key:ident: $form:ty = $name:literal, $value:expr, $default:expr;)+
    ) => {
        $(#[$about])*
        pub(in crate::config) mod $section {
            use super::*;
            use $crate::config::key::Key;

            $(pub(in crate::config) static $key: Key<$form> =
                Key { name: $name, form: $value, default: $default, doc: concat!($($doc),+) };)+

            pub(in crate::config) static KEYS: Keys = Keys { path: $path, all: &[$(&$key),+] };
        }
    };
}

pub(super) use keys;
