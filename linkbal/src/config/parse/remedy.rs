//! Remedies for broken TOML: what was probably meant, and the exact line to write.

use crate::config::diagnostics::problem::{Fault, Span};

/// Sections that are written once for each, with two brackets.
const REPEATED: [&str; 2] = ["rule", "sticky"];

const QUOTING: &str =
    "write texts in double quotes, like \"eth0\", and numbers without spaces or units";

/// A fault of the syntax, and another place that is part of it.
pub(super) struct Remedy {
    /// The place, if it is not that of the parser.
    pub(super) span: Option<Span>,
    pub(super) fault: Fault,
    pub(super) related: Option<(Span, &'static str)>,
}

/// Returns the fault for an error of the parser at a place in a text.
pub(super) fn remedy(text: &str, span: &Span, message: &str) -> Remedy {
    let line = line_at(text, span.start);
    if message.contains("duplicate key") {
        return duplicate(text, span);
    }
    if is_unquoted(message) && !span.is_empty() {
        let place = value_at(text, span, &line);
        let fault = unquoted(text[place.clone()].trim());
        return Remedy { span: Some(place), fault, related: None };
    }
    let line = &text[line];
    let fault = if message.contains("must be quoted") {
        Some(Fault::new("the value is missing", QUOTING))
    } else if message.contains("unclosed table") || message.contains("unclosed array table") {
        spaced_header(line)
    } else if message.contains("key with no value") || message.contains("invalid unquoted key") {
        no_value(line)
    } else {
        None
    };
    Remedy { span: None, fault: fault.unwrap_or_else(|| general(message)), related: None }
}

/// Returns whether a message is about a value that is no number, but was read as one.
fn is_unquoted(message: &str) -> bool {
    let kinds =
        ["must be quoted", "invalid float", "invalid time", "invalid boolean", "invalid date"];
    let more = ["invalid integer", "invalid datetime", "invalid offset"];
    kinds.iter().chain(&more).any(|kind| message.contains(kind))
}

/// Returns the place of the line with a byte, without its end.
fn line_at(text: &str, at: usize) -> Span {
    let start = text[..at].rfind('\n').map_or(0, |before| before.saturating_add(1));
    let end = text[at..].find('\n').map_or(text.len(), |length| at.saturating_add(length));
    start..end
}

/// Returns the place of the whole value that a part of it is in.
fn value_at(text: &str, span: &Span, line: &Span) -> Span {
    const BEFORE: [char; 4] = ['=', '[', ',', '{'];
    const AFTER: [char; 4] = [',', ']', '}', '#'];
    let before = text[line.start..span.start].rfind(BEFORE);
    let start = before.map_or(span.start, |at| line.start.saturating_add(at).saturating_add(1));
    let after = text[span.start..line.end].find(AFTER);
    let end = after.map_or(line.end, |at| span.start.saturating_add(at));
    let raw = &text[start..end];
    let blank = raw.len().saturating_sub(raw.trim_start().len());
    let start = start.saturating_add(blank);
    start..start.saturating_add(raw.trim().len())
}

/// Returns the fault of a value that should have stood in quotes.
fn unquoted(raw: &str) -> Fault {
    let what = "neither a text in quotes nor a number";
    let help: String = match &*raw.to_lowercase() {
        "yes" | "true" => "write true".into(),
        "no" | "false" => "write false".into(),
        "on" | "off" => {
            format!("write true or false, or {raw:?} in double quotes where that is a word")
        }
        _ if raw.contains(['“', '”', '„', '‘', '’']) => {
            let inner = raw.trim_matches(|c| matches!(c, '“' | '”' | '„' | '‘' | '’'));
            format!("write {inner:?}, with straight double quotes")
        }
        _ if raw.contains(['"', '\'', '=']) || is_number_like(raw) => QUOTING.into(),
        _ => format!("write it in double quotes: {raw:?}"),
    };
    Fault::new(what, help)
}

/// Returns whether a text is made of digits alone, with something between them.
fn is_number_like(raw: &str) -> bool {
    raw.chars().all(|c| c.is_ascii_digit() || c == ' ' || c == '_')
}

/// Returns the fault of a header with spaces in a name.
fn spaced_header(line: &str) -> Option<Fault> {
    let inner = line.trim().trim_start_matches('[');
    let name = inner.split(']').next().filter(|name| name.len() < inner.len())?;
    let words: Vec<&str> = name.split_whitespace().collect();
    if words.len() < 2 || name.contains(['"', '\'']) {
        return None;
    }
    let brackets = if line.trim().starts_with("[[") { ("[[", "]]") } else { ("[", "]") };
    let help = format!("write {}{}{}", brackets.0, words.join("-"), brackets.1);
    Some(Fault::new("there is a space in a name", help))
}

/// Returns the fault of a line without `key = value`.
fn no_value(line: &str) -> Option<Fault> {
    let line = line.split('#').next()?.trim();
    if let Some(name) = line.strip_suffix('{') {
        let help = format!("write the section as [{}], without braces", name.trim());
        return Some(Fault::new("a section has no braces", help));
    }
    if let Some((key, value)) = line.split_once('=') {
        let words: Vec<&str> = key.split_whitespace().collect();
        let help = format!("write {} = {}", words.join("_"), value.trim());
        return (words.len() > 1).then(|| Fault::new("there is a space in a key", help));
    }
    let (key, value) = line.split_once(':').or_else(|| line.split_once(char::is_whitespace))?;
    let help = format!("write {} = {}", key.trim(), value.trim());
    Some(Fault::new("`=` is missing between key and value", help))
}

/// Returns the fault of a section or a key that is there twice.
fn duplicate(text: &str, span: &Span) -> Remedy {
    let line = line_at(text, span.start);
    let own = text[line.clone()].trim();
    if !own.starts_with('[') {
        return duplicate_key(text, span);
    }
    let name = header_name(own).unwrap_or_default();
    let same = |other: &Span| header_name(&text[other.clone()]) == Some(name);
    let first = lines_before(text, line.start).find(same);
    let is_list = |place: &Span| text[place.clone()].trim().starts_with("[[");
    let earlier_list = first.as_ref().is_some_and(is_list);
    let fault = if REPEATED.contains(&name) || earlier_list || own.starts_with("[[") {
        let message = format!("[{name}] and [[{name}]] do not go together");
        let message = if own.starts_with("[[") == earlier_list {
            format!("there are several sections [{name}]")
        } else {
            message
        };
        Fault::new(message, format!("write each as [[{name}]], with two brackets on each side"))
    } else {
        let message = format!("the section [{name}] is there twice");
        Fault::new(message, "join the two, or give this one another name")
    };
    Remedy { span: None, fault, related: first.map(|first| (first, "first here")) }
}

fn duplicate_key(text: &str, span: &Span) -> Remedy {
    let key = &text[span.clone()];
    let is_header = |place: &Span| text[place.clone()].trim().starts_with('[');
    let own_section: Vec<Span> = lines_before(text, line_at(text, span.start).start)
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .take_while(|place| !is_header(place))
        .collect();
    let sets = |place: &&Span| {
        text[(*place).clone()].split_once('=').is_some_and(|(name, _)| name.trim() == key)
    };
    let first = own_section.iter().find(sets).cloned();
    let fault = Fault::new(format!("`{key}` is there twice"), "remove one of the two");
    Remedy { span: None, fault, related: first.map(|first| (first, "first here")) }
}

/// Returns the places of all lines before a byte, from the first.
fn lines_before(text: &str, end: usize) -> impl Iterator<Item = Span> + '_ {
    let mut start = 0;
    text[..end].split_inclusive('\n').map(move |line| {
        let place = start..usize::saturating_add(start, line.trim_end().len());
        start = usize::saturating_add(start, line.len());
        place
    })
}

/// Returns the name of a section's header; `None` for another line.
fn header_name(line: &str) -> Option<&str> {
    let inner = line.trim().strip_prefix('[')?;
    let inner = inner.strip_prefix('[').unwrap_or(inner);
    inner.split(']').next().map(str::trim)
}

/// Returns the parser's message with advice.
fn general(message: &str) -> Fault {
    let help = if message.contains("between array elements") {
        "write a comma between the items, and `]` after the last"
    } else if message.contains("between key-value pairs") {
        "write a comma between the keys, and `}` after the last value"
    } else if message.ends_with("expected `\"`") {
        "write a text on one line, with a double quote on each side"
    } else if message.contains("unclosed") {
        "add what closes it"
    } else {
        "a line is `key = value`, a section begins with `[name]`, texts are in double quotes"
    };
    Fault::new(message, help)
}
