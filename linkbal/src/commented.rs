//! Pieces of a configuration with comments, as programs write it.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr},
};

/// Column at which the comment of a line begins.
const COMMENT: usize = 44;

/// Longest line of comments, in characters.
const WIDTH: usize = 98;

/// Longest name of an uplink, in bytes.
const NAME_LENGTH: usize = 32;

/// Returns a line of TOML with a comment behind it; without one if that is empty.
pub(crate) fn with_comment(text: &str, comment: &str) -> String {
    if comment.is_empty() {
        return text.to_owned();
    }
    format!("{text:COMMENT$} # {}", comment.replace(char::is_control, " "))
}

/// Returns a text in double quotes, as TOML writes it.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                // Writing to a string cannot fail.
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

/// Returns one value as it is, and several as a list.
pub(crate) fn one_or_list(values: &[String]) -> String {
    match values {
        [single] => single.clone(),
        several => list(several),
    }
}

/// Returns a list.
pub(crate) fn list(values: &[String]) -> String {
    format!("[{}]", values.join(", "))
}

/// Returns a key of TOML, in quotes if need be.
pub(crate) fn key(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !name.is_empty() && name.chars().all(bare) { name.to_owned() } else { quote(name) }
}

/// Returns the address if another machine can have it.
pub(crate) fn host(text: &str) -> Option<IpAddr> {
    let address: IpAddr = text.parse().ok()?;
    let none = address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || address == IpAddr::V4(Ipv4Addr::BROADCAST)
        || address.to_canonical() != address;
    (!none).then_some(address)
}

/// Returns whether a text can be the name of a device.
pub(crate) fn is_device(text: &str) -> bool {
    crate::config::is_interface_name(text) && !text.contains(['"', '\\', '*', '$', '?'])
}

/// Returns a text as an item of a list in comments.
pub(crate) fn item(text: &str) -> String {
    comment(text, "# -", "#  ")
}

/// Returns a text as lines of comments.
pub(crate) fn paragraph(text: &str) -> String {
    comment(text, "#", "#")
}

/// Returns lines of comments, the first of which begins with `first`, and the others with `next`.
fn comment(text: &str, first: &str, next: &str) -> String {
    let (mut out, mut line, mut begins) = (String::new(), first.to_owned(), true);
    for word in text.split_whitespace() {
        let length = line.chars().count().saturating_add(word.chars().count());
        if length >= WIDTH && !begins {
            out.push_str(&line);
            out.push('\n');
            line = next.to_owned();
        }
        line.push(' ');
        line.extend(word.chars().filter(|c| !c.is_control()));
        begins = false;
    }
    out + &line + "\n"
}

/// Returns a possible name of an uplink that none of `taken` has, as much like `id` as can be.
pub(crate) fn uplink_name(id: &str, taken: &[String]) -> String {
    unique(&possible(id), taken)
}

/// Returns the name with everything but letters, digits, `-` and `_` replaced.
fn possible(id: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let name = id.chars().map(|c| if fits(c) { c } else { '-' });
    let name: String = name.take(NAME_LENGTH).collect();
    if name.is_empty() { "uplink".into() } else { name }
}

fn unique(name: &str, taken: &[String]) -> String {
    if !taken.iter().any(|known| known == name) {
        return name.to_owned();
    }
    let short: String = name.chars().take(NAME_LENGTH.saturating_sub(3)).collect();
    let numbered = (2..100).map(|number| format!("{short}-{number}"));
    numbered.into_iter().find(|name| !taken.contains(name)).unwrap_or(short)
}
