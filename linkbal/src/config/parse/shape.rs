//! Shapes of values, for the JSON schema: what a value looks like, not what it means.

use serde_json::{Value, json};

/// Shape of a value that only the reader of its key knows in full.
pub(in crate::config) enum Shape {
    /// Any text.
    Text,
    /// A text that fits a regular expression.
    Like(&'static str),
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// A whole number from the first to the second one.
    Integer(u32, u32),
    /// A number from the first to the second one.
    Decimal(f64, f64),
    /// A list.
    List(&'static Shape),
    /// A value, or a list of at least one.
    OneOrMore(&'static Shape),
    /// Any of these.
    Any(&'static [Shape]),
    /// The table with the keys of this path.
    Table(&'static str),
    /// A table of any names with such values.
    Named(&'static Shape),
}

/// Durations as humantime reads them.
pub(in crate::config) const DURATION: &str = r"^\s*([0-9]+\s*[A-Za-zµ]+\s*)+$|^0$";

/// A value whose shape can be described.
pub(in crate::config) trait Shaped {
    /// Returns the JSON schema of the value.
    fn schema(&self) -> Value;
}

impl Shaped for Shape {
    fn schema(&self) -> Value {
        match self {
            Shape::Text => json!({ "type": "string" }),
            Shape::Like(pattern) => json!({ "type": "string", "pattern": pattern }),
            Shape::OneOf(words) => json!({ "type": "string", "enum": words }),
            Shape::Integer(low, high) => {
                json!({ "type": "integer", "minimum": low, "maximum": high })
            }
            Shape::Decimal(low, high) => {
                json!({ "type": "number", "minimum": low, "maximum": high })
            }
            Shape::List(item) => json!({ "type": "array", "items": item.schema() }),
            Shape::OneOrMore(item) => {
                let list = json!({ "type": "array", "items": item.schema(), "minItems": 1 });
                json!({ "anyOf": [item.schema(), list] })
            }
            Shape::Any(all) => {
                json!({ "anyOf": all.iter().map(Shaped::schema).collect::<Vec<_>>() })
            }
            Shape::Table(path) => json!({ "$ref": format!("#/definitions/{path}") }),
            Shape::Named(value) => json!({
                "type": "object", "additionalProperties": value.schema(), "minProperties": 1
            }),
        }
    }
}
