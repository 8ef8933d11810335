//! Keys of the configuration: each is declared once, with its form. Readers, the keys that are
//! unknown, and the table in the documentation follow from the declarations.

use std::{ops::RangeInclusive, time::Duration};

use serde_json::{Value, json};
use toml::de::DeValue;

use super::{
    shape::{DURATION, Shape, Shaped},
    value,
};
use crate::config::diagnostics::problem::Fault;

/// A key of a section.
pub(in crate::config) struct Key<F> {
    pub(in crate::config) name: &'static str,
    pub(in crate::config) form: F,
    pub(in crate::config) default: Unset,
    pub(in crate::config) doc: &'static str,
}

/// The meaning of a key that is not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum Unset {
    /// A problem.
    Required,
    /// The same as this value, in TOML.
    Value(&'static str),
    /// A meaning in words.
    Words(&'static str),
}

/// The form of a value, in words.
pub(in crate::config) trait Describe {
    fn describe(&self) -> String;
}

/// A form that says by itself how a value is read.
pub(in crate::config) trait Form: Describe {
    type Value;

    fn read(&self, value: &DeValue<'_>) -> Result<Self::Value, Fault>;
}

/// A number from the first to the second one.
pub(in crate::config) struct Number(pub(in crate::config) u32, pub(in crate::config) u32);

/// A duration from the first to the second one.
pub(in crate::config) struct Time(pub(in crate::config) Duration, pub(in crate::config) Duration);

/// True or false.
pub(in crate::config) struct Flag;

/// Another form, or `"auto"`.
pub(in crate::config) struct Auto<F>(pub(in crate::config) F);

/// A form that only the reader of the key knows: in words, and its shape.
pub(in crate::config) struct Other(pub(in crate::config) &'static str, pub(in crate::config) Shape);

impl Number {
    pub(in crate::config) const fn range(&self) -> RangeInclusive<u32> {
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
        let [low, high] = [self.0, self.1].map(value::time_text);
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

impl Shaped for Number {
    fn schema(&self) -> Value {
        Shape::Integer(self.0, self.1).schema()
    }
}

impl Shaped for Time {
    fn schema(&self) -> Value {
        Shape::Like(DURATION).schema()
    }
}

impl Shaped for Flag {
    fn schema(&self) -> Value {
        json!({ "type": "boolean" })
    }
}

impl<F: Shaped> Shaped for Auto<F> {
    fn schema(&self) -> Value {
        json!({ "anyOf": [Shape::OneOf(&["auto"]).schema(), self.0.schema()] })
    }
}

impl Shaped for Other {
    fn schema(&self) -> Value {
        self.1.schema()
    }
}

/// A declared key, whatever its form is.
pub(in crate::config) trait Declared: AsRef<str> + Sync {
    fn name(&self) -> &'static str;
    fn form(&self) -> String;
    fn schema(&self) -> Value;
    fn default(&self) -> Unset;
    fn doc(&self) -> &'static str;
}

impl<F> AsRef<str> for Key<F> {
    fn as_ref(&self) -> &str {
        self.name
    }
}

impl<F: Describe + Shaped + Sync> Declared for Key<F> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn form(&self) -> String {
        self.form.describe()
    }

    fn schema(&self) -> Value {
        self.form.schema()
    }

    fn default(&self) -> Unset {
        self.default
    }

    fn doc(&self) -> &'static str {
        self.doc.trim_ascii()
    }
}

/// The keys of a section or of an inline table.
pub(in crate::config) struct Keys {
    /// The section: names from the root, joined by dots; empty for the root.
    pub(in crate::config) path: &'static str,
    pub(in crate::config) all: &'static [&'static dyn Declared],
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
            use $crate::config::parse::key::Key;

            $(pub(in crate::config) static $key: Key<$form> =
                Key { name: $name, form: $value, default: $default, doc: concat!($($doc),+) };)+

            pub(in crate::config) static KEYS: Keys = Keys { path: $path, all: &[$(&$key),+] };
        }
    };
}

pub(in crate::config) use keys;
