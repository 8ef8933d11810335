//! Texts that programs can tell apart: each has a code and arguments besides its words.
//!
//! Words may change, a code does not. The page translates texts by their codes.

use std::{collections::BTreeMap, fmt::Display, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

/// Arguments of a text, by name: numbers, names, and further texts with a code.
pub type Args = BTreeMap<String, Value>;

/// A text with a code.
pub trait Coded: Display {
    /// Returns the code: kebab-case, and the same for ever.
    fn code(&self) -> &'static str;

    /// Returns the arguments.
    fn args(&self) -> Args;
}

/// Parts of a text, the main one first.
pub trait Parts: Display {
    /// Returns the code and the arguments of each part.
    fn parts(&self) -> Vec<CodedText>;
}

impl<T: Coded> Parts for T {
    fn parts(&self) -> Vec<CodedText> {
        vec![CodedText::from(self)]
    }
}

/// A text as its code and arguments.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct CodedText {
    /// The code.
    pub code: String,
    /// The arguments, by name.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub args: Args,
}

impl<T: Coded> From<&T> for CodedText {
    fn from(text: &T) -> CodedText {
        CodedText { code: text.code().into(), args: text.args() }
    }
}

/// The codes of a reason, as the API has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Codes {
    /// Code of the main part; `None` without one.
    pub code: Option<String>,
    /// Arguments of the main part.
    pub args: Args,
    /// The other parts.
    pub more: Vec<CodedText>,
}

impl From<Vec<CodedText>> for Codes {
    fn from(parts: Vec<CodedText>) -> Codes {
        let mut parts = parts.into_iter();
        let main = parts.next();
        let (code, args) = main.map(|main| (main.code, main.args)).unzip();
        Codes { code, args: args.unwrap_or_default(), more: parts.collect() }
    }
}

/// Returns arguments with their names.
pub(crate) fn args<const N: usize>(named: [(&str, Value); N]) -> Args {
    named.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Returns a text with a code as an argument of another one.
pub(crate) fn nested(text: &impl Coded) -> Value {
    json!({ "code": text.code(), "args": text.args() })
}

/// Returns a time in seconds, to the millisecond.
pub(crate) fn seconds(time: Duration) -> Value {
    match time.subsec_millis() {
        0 => json!(time.as_secs()),
        _ => json!(time.as_millis() as f64 / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_seconds_have_no_point() {
        let each = [0, 5000, 5030, 3_600_000].map(|millis| seconds(Duration::from_millis(millis)));
        assert_eq!(json!(each).to_string(), "[0,5,5.03,3600]");
    }
}
