//! The JSON schema of the configuration, for editors and other programs.
//!
//! The declarations of the keys make it. A value that it refuses, linkbal refuses, too; errors that
//! take more than one value to be seen, like an unknown uplink in a rule, only linkbal finds.

use serde_json::{Map, Value, json};

use super::{
    keys::ALL,
    parse::key::{Declared, Keys, Unset},
};

/// Returns the schema (JSON Schema draft 7, which editors know).
pub fn text() -> String {
    let text = serde_json::to_string_pretty(&schema());
    // Fails only for maps whose keys are no text; there are none.
    text.unwrap_or_default() + "\n"
}

fn schema() -> Value {
    let (root, tables): (Vec<&Keys>, Vec<&Keys>) =
        ALL.iter().partition(|keys| keys.path.is_empty());
    let definitions = tables.iter().map(|keys| (keys.path.to_owned(), table(keys)));
    let mut schema = root.first().map_or(Value::Null, |keys| table(keys));
    schema["$schema"] = "http://json-schema.org/draft-07/schema#".into();
    schema["title"] = "Configuration of linkbal".into();
    schema["definitions"] = Value::Object(definitions.collect());
    schema
}

/// Returns the schema of a section, or of an inline table.
fn table(keys: &Keys) -> Value {
    let properties: Map<String, Value> =
        keys.all.iter().map(|key| (key.name().to_owned(), property(*key))).collect();
    let required = keys.all.iter().filter(|key| key.default() == Unset::Required);
    let required: Vec<&str> = required.map(|key| key.name()).collect();
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn property(key: &dyn Declared) -> Value {
    let mut schema = key.schema();
    let about = format!("{} ({})", plain(key.doc()), plain(&key.form()));
    match key.default() {
        Unset::Required => {}
        Unset::Value(value) => schema["default"] = json_of(value),
        Unset::Words(words) => {
            schema["description"] = format!("{about}. Default: {}", plain(words)).into();
            return described(schema);
        }
    }
    schema["description"] = about.into();
    described(schema)
}

/// Wraps a reference: what stands beside one is not looked at in draft 7.
fn described(mut schema: Value) -> Value {
    let Some(reference) = schema.as_object_mut().and_then(|schema| schema.remove("$ref")) else {
        return schema;
    };
    schema["allOf"] = json!([{ "$ref": reference }]);
    schema
}

/// Returns a value in TOML as JSON.
fn json_of(value: &str) -> Value {
    let parsed: Option<toml::Table> = toml::from_str(&format!("value = {value}")).ok();
    parsed.and_then(|table| serde_json::to_value(table.get("value")?).ok()).unwrap_or_default()
}

/// Returns a text of the documentation without its links and quotes.
pub(super) fn plain(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some((before, link)) = rest.split_once('[') {
        shown.push_str(before);
        rest = link;
        match link_in(link) {
            Some((name, after)) => {
                shown.push_str(name);
                rest = after;
            }
            None => shown.push('['),
        }
    }
    shown.push_str(rest);
    shown.replace('`', "")
}

/// Returns the words of a link, from behind its first bracket, and what follows it.
fn link_in(text: &str) -> Option<(&str, &str)> {
    let (name, rest) = text.split_once(']')?;
    let (_, after) = rest.strip_prefix('(')?.split_once(')')?;
    (!name.contains('[')).then_some((name, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_quotes_are_left_out() {
        assert_eq!(plain("see [NAT](#nat), `[lan]` and [A](b.md#c)."), "see NAT, [lan] and A.");
        assert_eq!(plain("`[[sticky]]`"), "[[sticky]]");
        assert_eq!(json_of("\"200ms\""), Value::from("200ms"));
        assert_eq!(json_of("0x10"), Value::from(16));
        assert_eq!(json_of("[]"), json!([]));
    }

    /// Checks that all tables which are referred to are there.
    #[test]
    fn references_lead_somewhere() {
        let text = text();
        let schema: Value = serde_json::from_str(&text).expect("JSON");
        let mut references = 0;
        for part in text.split("\"#/definitions/").skip(1) {
            let path = part.split('"').next().expect("its end");
            assert!(schema["definitions"][path].is_object(), "{path}");
            references += 1;
        }
        assert!(references >= ALL.len() - 1, "{references}");
    }
}
