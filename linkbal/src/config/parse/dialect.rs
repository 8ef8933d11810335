//! Files of another format: one remedy for the file, instead of one for each of its lines.

use crate::config::diagnostics::problem::{Fault, Span};

/// Beginnings of lines by which the configuration of another tool is known, and the word for
/// `linkbal import`.
const TOOLS: [(&str, &str, &[&str]); 4] = [
    ("of mwan3", "mwan3", &["config interface", "config member", "config policy", "config rule"]),
    ("of VyOS", "vyos", &["set load-balancing", "load-balancing {"]),
    ("of EdgeOS", "edgeos", &["set load-balance ", "load-balance {"]),
    (
        "a shell script",
        "script",
        &[
            "#!/",
            "ip route",
            "ip rule",
            "/sbin/ip ",
            "iptables",
            "route add",
            "nft add",
            "sysctl -w",
        ],
    ),
];

const TOML: &str = "linkbal's configuration is TOML: `linkbal example` prints one to begin with";

/// Returns the fault of a broken file that is of another format, with its first line of that;
/// `None` for TOML with mistakes.
pub(super) fn other_format(text: &str) -> Option<(Span, Fault)> {
    let lines = || numbered(text).filter(|(_, line)| !is_blank(line));
    if lines().any(|(_, line)| is_toml_header(line)) {
        return None;
    }
    let begins = |marks: &[&str]| {
        numbered(text).find(|(_, line)| marks.iter().any(|mark| line.starts_with(mark)))
    };
    for (kind, word, marks) in TOOLS {
        if let Some((at, line)) = begins(marks) {
            let help = format!("translate it: linkbal import {word} FILE > linkbal.toml");
            return Some((place(at, line), Fault::new(format!("this is {kind}"), help)));
        }
    }
    let (at, first) = lines().next()?;
    let kind = if first.starts_with('{') {
        "JSON"
    } else if first.starts_with('<') {
        "XML"
    } else if first == "---" || is_yaml(&lines().map(|(_, line)| line).collect::<Vec<_>>()) {
        "YAML"
    } else {
        return None;
    };
    Some((place(at, first), Fault::new(format!("this looks like {kind}"), TOML)))
}

/// Returns the lines without blanks around, and the bytes before each.
fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut next = 0_usize;
    text.split_inclusive('\n').map(move |line| {
        let blank = line.len().saturating_sub(line.trim_start().len());
        let at = next.saturating_add(blank);
        next = next.saturating_add(line.len());
        (at.min(next), line.trim())
    })
}

fn place(at: usize, line: &str) -> Span {
    at..at.saturating_add(line.len())
}

fn is_blank(line: &str) -> bool {
    line.is_empty() || line.starts_with('#')
}

/// Returns whether a line is a header of TOML: what has brackets in scripts has spaces within.
fn is_toml_header(line: &str) -> bool {
    let code = line.split('#').next().unwrap_or_default().trim();
    let inner = code.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    inner.is_some_and(|inner| !inner.is_empty() && !inner.starts_with(' '))
}

/// Returns whether lines have the form `key:` or `- value`, most of them, and none `key = value`.
fn is_yaml(lines: &[&str]) -> bool {
    let is_key = |line: &&&str| {
        let key = line.trim_start_matches("- ").split(':').next().unwrap_or_default();
        let plain = key.chars().all(|c| c.is_alphanumeric() || "_-.\"'".contains(c));
        let rest = line.trim_start_matches("- ").get(key.len()..).unwrap_or_default();
        !key.is_empty() && plain && (rest == ":" || rest.starts_with(": "))
    };
    let keys = lines.iter().filter(is_key).count();
    let opens = lines.iter().any(|line| line.ends_with(':'));
    let is_assignment =
        |line: &&str| line.split_once('=').is_some_and(|(key, _)| !key.contains(':'));
    opens && keys.saturating_mul(2) >= lines.len() && !lines.iter().any(is_assignment)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn said(text: &str) -> Option<(String, String)> {
        other_format(text).map(|(span, fault)| (text[span].to_owned(), fault.message))
    }

    #[test]
    fn a_file_of_another_format_is_known_by_its_lines() {
        for (text, line, message) in [
            ("# ours\nlan:\n  interfaces: [br0]\nuplink:\n  - fiber: x\n", "lan:", "YAML"),
            ("---\nlan: br0\n", "---", "YAML"),
            ("#!/bin/sh\nWAN=eth0\n[ -n \"$WAN\" ]\n", "#!/bin/sh", "a shell script"),
            ("WAN=eth0\n  ip route add default\n", "ip route add default", "a shell script"),
            ("{\n \"lan\": {}\n}\n", "{", "JSON"),
            ("<?xml version=\"1.0\"?>\n<pfsense>\n", "<?xml version=\"1.0\"?>", "XML"),
            (
                "config globals 'globals'\nconfig interface 'wan'\n",
                "config interface 'wan'",
                "mwan3",
            ),
        ] {
            let (found, said) = said(text).unwrap_or_else(|| panic!("{text}"));
            assert!(found == line && said.contains(message), "{found}: {said}");
        }
        for text in [
            "",
            "# nothing\n",
            "weight: 5\n",
            "[lan]\ninterfaces: [\"br0\"]\nuplink:\n",
            "[[rule]]\nmatch: {}\n",
            "lan.interfaces = [\"a\"\nuplink.a.interface = \"b\"\n",
        ] {
            assert_eq!(said(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_has_places_within_it(text in any::<String>()) {
            if let Some((span, _)) = other_format(&text) {
                prop_assert!(text.get(span).is_some());
            }
        }
    }
}
