//! Templates of messages: texts with placeholders like `{text}`.
//!
//! A template that is JSON stays JSON whatever a placeholder stands for: it is parsed first, and the
//! placeholders in its strings are replaced then. In it, braces that stand for nothing are as they are.

use std::borrow::Cow;

use serde_json::Value;

/// Names of placeholders in the body of a message.
pub const PLACEHOLDERS: [&str; 5] = ["title", "text", "severity", "gateway", "time"];

/// Placeholder of a secret.
pub const TOKEN: &str = "token";

/// The body of a message, with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Template {
    /// A body in JSON.
    Json(Value),
    /// A plain text.
    Plain(String),
}

impl Default for Template {
    /// Returns a template with all placeholders, by their names.
    fn default() -> Template {
        let each = PLACEHOLDERS.map(|name| (name.to_owned(), Value::String(format!("{{{name}}}"))));
        Template::Json(Value::Object(each.into_iter().collect()))
    }
}

/// A fault of a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A text that begins like JSON, and is none.
    #[error("it is no JSON: {0}")]
    NoJson(String),
    /// A placeholder of that name does not exist.
    #[error("there is no placeholder {{{0}}}")]
    Unknown(String),
}

impl Template {
    /// Reads a template. What begins with a brace or a bracket is to be JSON.
    ///
    /// # Errors
    ///
    /// If it is not, or it has a placeholder that does not exist.
    pub fn parse(text: &str) -> Result<Template, TemplateError> {
        let begins_json = text.trim_start().starts_with(['{', '[']);
        let template = if begins_json {
            let value = serde_json::from_str(text);
            Template::Json(value.map_err(|error| TemplateError::NoJson(error.to_string()))?)
        } else {
            Template::Plain(text.to_owned())
        };
        let known = |name: &&String| !PLACEHOLDERS.contains(&name.as_str()) && *name != TOKEN;
        match template.placeholders().iter().find(known) {
            Some(name) => Err(TemplateError::Unknown(name.clone())),
            None => Ok(template),
        }
    }

    /// Returns the names of its placeholders.
    fn placeholders(&self) -> Vec<String> {
        let mut names = Vec::new();
        let mut collect = |text: &str| names.extend(placeholders(text).map(str::to_owned));
        match self {
            Template::Plain(text) => collect(text),
            Template::Json(value) => each_text(value, &mut collect),
        }
        names
    }

    /// Returns whether it has the placeholder of a secret.
    pub fn has_token(&self) -> bool {
        self.placeholders().iter().any(|name| name == TOKEN)
    }

    /// Returns the body, with what `value` has for each placeholder.
    pub fn fill<'a>(&self, value: &dyn Fn(&str) -> Option<&'a str>) -> String {
        match self {
            Template::Plain(text) => fill(text, value),
            Template::Json(json) => filled(json, value).to_string(),
        }
    }

    /// Returns the media type of the body.
    pub const fn media_type(&self) -> &'static str {
        match self {
            Template::Json(_) => "application/json",
            Template::Plain(_) => "text/plain; charset=utf-8",
        }
    }
}

/// Returns a text with what `value` has for each placeholder; those that it has nothing for stay.
pub fn fill<'a>(text: &str, value: &dyn Fn(&str) -> Option<&'a str>) -> String {
    let parts = parts(text).map(|part| match part {
        Part::Text(text) => Cow::Borrowed(text),
        Part::Placeholder(name) => {
            value(name).map_or_else(|| Cow::Owned(format!("{{{name}}}")), Cow::Borrowed)
        }
    });
    parts.collect()
}

/// Returns the names of the placeholders of a text, in order.
pub fn placeholders(text: &str) -> impl Iterator<Item = &str> {
    parts(text).filter_map(|part| match part {
        Part::Placeholder(name) => Some(name),
        Part::Text(_) => None,
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part<'a> {
    Text(&'a str),
    Placeholder(&'a str),
}

/// Returns the parts of a text: what is between braces is a placeholder if it is a name of small letters.
fn parts(text: &str) -> impl Iterator<Item = Part<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        if let Some((name, after)) = leading_placeholder(rest) {
            rest = after;
            return Some(Part::Placeholder(name));
        }
        // A brace that begins no placeholder is a part of the text.
        let begins = rest.char_indices().skip(1).find(|(at, letter)| {
            *letter == '{' && rest.get(*at..).and_then(leading_placeholder).is_some()
        });
        let (part, after) = rest.split_at(begins.map_or(rest.len(), |(at, _)| at));
        rest = after;
        Some(Part::Text(part))
    })
}

/// Returns the name of the placeholder that a text begins with, and what follows it.
fn leading_placeholder(text: &str) -> Option<(&str, &str)> {
    let (name, after) = text.strip_prefix('{')?.split_once('}')?;
    let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    is_name.then_some((name, after))
}

fn each_text(value: &Value, each: &mut dyn FnMut(&str)) {
    match value {
        Value::String(text) => each(text),
        Value::Array(items) => items.iter().for_each(|item| each_text(item, each)),
        Value::Object(entries) => entries.values().for_each(|item| each_text(item, each)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn filled<'a>(json: &Value, value: &dyn Fn(&str) -> Option<&'a str>) -> Value {
    match json {
        Value::String(text) => Value::String(fill(text, value)),
        Value::Array(items) => items.iter().map(|item| filled(item, value)).collect(),
        Value::Object(entries) => {
            let entries = entries.iter().map(|(key, item)| (key.clone(), filled(item, value)));
            Value::Object(entries.collect())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fill_all(template: &Template, text: &str) -> String {
        template.fill(&|name| PLACEHOLDERS.contains(&name).then_some(text))
    }

    #[test]
    fn json_stays_json() {
        let template = Template::parse(r#"{"chat_id": 12, "text": "*{title}*\n{text} {}"}"#);
        let template = template.expect("a template");
        let filled = fill_all(&template, "a \"b\"\n{text}\\");
        let value: Value = serde_json::from_str(&filled).expect("JSON");
        assert_eq!(value["chat_id"], 12);
        assert_eq!(value["text"], "*a \"b\"\n{text}\\*\na \"b\"\n{text}\\ {}");
        assert_eq!(template.media_type(), "application/json");
    }

    #[test]
    fn a_plain_text_is_no_json() {
        let template = Template::parse("{text}").expect_err("a brace begins JSON");
        assert!(template.to_string().starts_with("it is no JSON: "), "{template}");
        let template = Template::parse("Gateway: {text}").expect("a text");
        assert_eq!(fill_all(&template, "x"), "Gateway: x");
        assert!(!template.has_token());
        assert!(Template::parse("key={token}").expect("a text").has_token());
    }

    #[test]
    fn unknown_placeholders_are_told() {
        let unknown = |name: &str| Err(TemplateError::Unknown(name.into()));
        assert_eq!(Template::parse("- {message}"), unknown("message"));
        assert_eq!(Template::parse(r#"{"a": ["{txt}"]}"#), unknown("txt"));
        assert!(Template::parse(r#"{"{unused}": "{Text} {} { text } {"}"#).is_ok());
    }

    #[test]
    fn all_placeholders_are_in_the_default() {
        let value: Value =
            serde_json::from_str(&fill_all(&Template::default(), "x")).expect("JSON");
        assert_eq!(value.as_object().map(serde_json::Map::len), Some(PLACEHOLDERS.len()));
        assert!(value.as_object().is_some_and(|all| all.values().all(|value| value == "x")));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[ -~{}é\n]{0,60}", value: String) {
            if let Ok(template) = Template::parse(&text) {
                let body = fill_all(&template, &value);
                if template.media_type() == "application/json" {
                    prop_assert!(serde_json::from_str::<Value>(&body).is_ok());
                }
            }
        }

        #[test]
        fn parts_make_up_the_text(text in "[a-z{}_é]{0,40}") {
            prop_assert_eq!(fill(&text, &|_| None), text);
        }

        #[test]
        fn strings_of_json_are_what_was_put_in(value: String) {
            let template = Template::parse(r#"{"text": "{text}"}"#).expect("a template");
            let filled: Value = serde_json::from_str(&fill_all(&template, &value)).expect("JSON");
            prop_assert_eq!(&filled["text"], &Value::String(value));
        }
    }
}
