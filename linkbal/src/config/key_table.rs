//! The table of all keys in the documentation.

use super::{
    keys::ALL,
    parse::key::{Declared, Keys, Unset},
};

/// Returns a Markdown table of the keys of `sections` and of the inline tables in them. Keys are
/// named from the root if there are several sections.
pub fn key_table(sections: &[&str]) -> String {
    let head = "| key | value | default | meaning |\n|---|---|---|---|\n".to_owned();
    let of_section =
        |keys: &&&Keys| keys.path.split('.').next().is_some_and(|first| sections.contains(&first));
    let rows = ALL.iter().filter(of_section).flat_map(|keys| {
        let path = shown_path(keys.path, sections.len() == 1);
        keys.all.iter().map(move |key| row(&path, *key))
    });
    rows.fold(head, |table, row| table + &row)
}

/// Returns keys whose defaults are values, each with its section and its default in TOML.
pub fn key_defaults() -> Vec<(&'static str, &'static str, &'static str)> {
    let all = ALL.iter().flat_map(|keys| keys.all.iter().map(|key| (keys.path, *key)));
    let values = all.filter_map(|(path, key)| match key.default() {
        Unset::Value(value) => Some((path, key.name(), value)),
        Unset::Required | Unset::Words(_) => None,
    });
    values.collect()
}

/// Returns what stands before the name of a key: its section, up to the last dot.
fn shown_path(path: &str, short: bool) -> String {
    let named = path.split_once(".NAME").map(|(_, rest)| rest);
    let rest = match (short, named) {
        (true, Some(rest)) => rest.trim_start_matches('.'),
        (true, None) => path.split_once('.').map_or("", |(_, rest)| rest),
        (false, _) => path,
    };
    if rest.is_empty() { String::new() } else { format!("{rest}.") }
}

fn row(path: &str, key: &dyn Declared) -> String {
    let default = match key.default() {
        Unset::Required => "required".to_owned(),
        Unset::Value(value) => format!("`{value}`"),
        Unset::Words(words) => words.to_owned(),
    };
    format!("| `{path}{}` | {} | {default} | {} |\n", key.name(), key.form(), key.doc())
}
