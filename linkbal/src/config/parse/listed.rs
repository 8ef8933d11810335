//! Texts with several values, where others take a list apart by themselves.

/// Returns the items of a text like `80,443` or `eth0, eth1`, as they are written in a list; `None`
/// if it has only one.
pub(in crate::config) fn as_list(text: &str) -> Option<String> {
    let is_mark = |c: char| matches!(c, ',' | ';');
    let by_mark = text.contains(is_mark);
    let items: Vec<&str> = match by_mark {
        true => text.split(is_mark).map(str::trim).filter(|item| !item.is_empty()).collect(),
        false => text.split_whitespace().collect(),
    };
    // Spaces alone are only between numbers and addresses: others are in names.
    let is_simple = |item: &&str| {
        let simple = |c: char| c.is_ascii_hexdigit() || matches!(c, '.' | ':' | '/' | '-');
        item.contains(|c: char| c.is_ascii_digit()) && item.chars().all(simple) && *item != "-"
    };
    let several = items.len() > 1 && (by_mark || items.iter().all(is_simple));
    let written = |item: &&str| match item.parse::<u32>() {
        Ok(number) => number.to_string(),
        Err(_) => format!("{item:?}"),
    };
    several.then(|| items.iter().map(written).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_values_are_a_list() {
        for (text, items) in [
            ("80,443", "80, 443"),
            ("80, 8000-8100", "80, \"8000-8100\""),
            ("eth0, eth1,", "\"eth0\", \"eth1\""),
            ("192.0.2.1 192.0.2.2", "\"192.0.2.1\", \"192.0.2.2\""),
            ("80 443", "80, 443"),
            ("a;b", "\"a\", \"b\""),
        ] {
            assert_eq!(as_list(text).as_deref(), Some(items), "{text}");
        }
        for text in ["", "80", "my fiber", "80 - 90", "a b", ",", "80,"] {
            assert_eq!(as_list(text), None, "{text}");
        }
    }
}
