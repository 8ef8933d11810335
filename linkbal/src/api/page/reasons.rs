//! A search for what the page shows as the daemon says it, and does not translate.
//!
//! Reasons for the state of an uplink, and advice, have codes: there are words for each. Other texts, and
//! failures of probes, are those of the sources: one that is added there is found by itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use crate::{
    coded::CodedText,
    engine::{
        health::{Cause, reason},
        kernel::unready,
    },
    events::EventKind,
};

/// The sources of texts without codes, those of events and of probes: files, and folders with all that is
/// in them.
const SOURCES: [&str; 9] = [
    "daemon/drill.rs",
    "engine/admin.rs",
    "engine/health/state.rs",
    "engine/kernel/bond/state.rs",
    "engine/kernel/lease.rs",
    "events/render.rs",
    "events/trouble.rs",
    "sys/probe.rs",
    "sys/probe",
];

/// Sources whose single words are shown, too: the states in events.
const WORDS: [&str; 4] =
    ["engine/admin.rs", "engine/health/state.rs", "engine/kernel/bond/state.rs", "src/events/"];

/// Files that only tests have.
const TESTS: [&str; 1] = ["tests.rs"];

/// Parts of sources that the page does not show, from their beginning to their end.
const HIDDEN: [[&str; 2]; 8] = [
    ["#[serde(", "]"],
    [".expect(", ")"],
    [".starts_with(", ")"],
    [".join(", ")"],
    [" at: \"", "\""],
    ["what: format!(", ")"],
    ["let more = ", ";\n"],
    ["concat!(", ")"],
];

/// Texts that come from elsewhere: names, numbers of things, and the C library's errors of the kernel.
const OTHERS: [&str; 13] = [
    "ipv4",
    "ipv6",
    "ipv4 and ipv6",
    "address",
    "not probed (it keeps its state)",
    "it keeps its state",
    "1 of 2 targets",
    "for this machine cannot",
    "1 uplink",
    "2 uplinks",
    "Connection refused (os error 111)",
    "No route to host (os error 113)",
    "Network is unreachable (os error 101)",
];

/// A letter in place of what is put into a text.
const VALUE: char = '\u{1}';

/// Returns the texts of the page, each with its translation.
fn pairs() -> Vec<(String, String)> {
    let file = include_str!("reasons.js");
    let (_, list) = file.split_once("const PAIRS = [").expect("the list");
    let (list, _) = list.split_once("\n];").expect("its end");
    let texts = literals(list);
    texts.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
}

/// Returns the texts between quotation marks in code of either language, comments left out.
fn literals(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = code;
    while let Some(at) = rest.find(['"', '\'', '/']) {
        let (token, behind) = rest[at..].split_at(1);
        rest = match token {
            "/" if behind.starts_with('/') => behind.split_once('\n').map_or("", |(_, next)| next),
            "'" if behind.starts_with(['"', '/']) => &behind[1..],
            "\"" => {
                let (text, next) = literal(behind);
                found.push(text);
                next
            }
            _ => behind,
        };
    }
    found
}

/// Returns a text up to its quotation mark, and what is behind that.
fn literal(code: &str) -> (String, &str) {
    let mut text = String::new();
    let mut rest = code;
    loop {
        let at = rest.find(['"', '\\']).expect("the end of a text");
        text.push_str(&rest[..at]);
        if rest[at..].starts_with('"') {
            return (text, &rest[at + 1..]);
        }
        rest = &rest[at + 1..];
        match rest.strip_prefix('\n') {
            Some(next) => rest = next.trim_start(),
            None => {
                text.extend(rest.chars().next());
                rest = &rest[1..];
            }
        }
    }
}

/// Returns the code of a file without its tests, and without what is hidden.
fn shown(file: &str) -> String {
    let code = file.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    HIDDEN.iter().fold(code.to_owned(), |code, [begin, end]| {
        let mut parts = code.split(begin);
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |kept, part| kept + part.split_once(end).map_or(part, |(_, rest)| rest))
    })
}

fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(path).expect("a folder of sources");
    let inside = entries.map(|entry| entry.expect("an entry").path());
    let of_daemon = |path: &PathBuf| !TESTS.iter().any(|name| path.ends_with(name));
    inside.filter(of_daemon).flat_map(|path| files(&path)).collect()
}

/// Returns the pieces of all texts of the daemon.
fn said() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found: BTreeSet<String> = OTHERS.iter().map(|text| (*text).to_owned()).collect();
    found.extend(EventKind::ALL.map(|kind| kind.name().to_owned()));
    found.extend(Cause::ALL.map(|cause| cause.name().to_owned()));
    for source in SOURCES {
        for file in files(&root.join(source)) {
            let code = shown(&fs::read_to_string(&file).expect("a source"));
            let place = file.to_string_lossy();
            let with_words = WORDS.iter().any(|part| place.contains(part));
            let texts = literals(&code).into_iter();
            let texts = texts.filter(|text| with_words || text.contains(' '));
            found.extend(texts.flat_map(|text| pieces(&text)));
        }
    }
    found
}

/// Splits a text into pieces as the page does, with [`VALUE`] in place of each placeholder.
fn pieces(text: &str) -> Vec<String> {
    let mut plain = String::new();
    for part in text.split_inclusive('}') {
        match part.split_once('{') {
            Some((before, _)) => plain.extend(before.chars().chain([VALUE])),
            None => plain.push_str(part),
        }
    }
    let plain = plain.replace("; ", "\n").replace(": ", "\n").replace("), ", ")\n");
    let is_command = |piece: &str| piece.starts_with('`') && piece.find("` ").is_none();
    let has_words =
        |piece: &str| piece.split(|c: char| !c.is_alphabetic()).any(|word| word.len() > 1);
    let is_said = |piece: &&str| has_words(piece) && !is_command(piece);
    plain.split('\n').filter(is_said).map(str::to_owned).collect()
}

/// Returns whether a text of the page, with `{0}` for anything, is that of a piece.
fn fits(text: &str, piece: &str) -> bool {
    let mut parts = text.split('{').map(|part| part.split_once('}').map_or(part, |(_, rest)| rest));
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = piece.strip_prefix(first) else { return false };
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        let mut ends = rest.char_indices().skip(1).map(|(at, _)| at).chain([rest.len()]);
        let found = match parts.peek() {
            Some(_) => ends.find(|at| *at > 0 && rest[*at..].starts_with(part)),
            None => rest.strip_suffix(part).map(str::len).filter(|at| *at > 0),
        };
        let Some(at) = found else { return false };
        rest = if parts.peek().is_some() { &rest[at + part.len()..] } else { "" };
    }
    rest.is_empty()
}

/// Returns the languages of the page but English, which the daemon speaks, each with its texts by code.
fn by_code() -> Vec<(&'static str, BTreeMap<&'static str, &'static str>)> {
    let (_, names) =
        include_str!("words.js").split_once("const LANGUAGES = { ").expect("languages");
    let (names, _) = names.split_once(" };").expect("their end");
    let names = names.split(", ").filter_map(|name| name.split(':').next());
    let (_, all) = include_str!("reasons.js").split_once("const TEXTS = {").expect("the texts");
    let (all, _) = all.split_once("\n};").expect("their end");
    let texts = |name: &str| {
        let (_, own) = all.split_once(&format!("\n  {name}: {{")).expect("texts of a language");
        let (own, _) = own.split_once("\n  },").expect("their end");
        let entry = |line: &'static str| line.trim().strip_suffix("\",")?[1..].split_once("\": \"");
        own.lines().filter_map(entry).collect()
    };
    names.filter(|name| *name != "en").map(|name| (name, texts(name))).collect()
}

#[test]
fn every_code_has_words_and_arguments_in_each_language() {
    let reasons = reason::tests::coded_samples();
    let remedies = unready::samples().into_iter().map(|remedy| CodedText::from(&remedy));
    let samples: Vec<CodedText> = reasons.into_iter().chain(remedies).collect();
    let languages = by_code();
    assert!(!languages.is_empty());
    for (language, texts) in languages {
        for CodedText { code, args } in &samples {
            let text = texts.get(&**code);
            let text = text.unwrap_or_else(|| panic!("{language} has no words for {code}"));
            let used = text.split('{').skip(1).filter_map(|part| part.split(['}', ':']).next());
            for name in used {
                assert!(args.contains_key(name), "{language}: {code} has no {name}");
            }
        }
        let codes: BTreeSet<&str> = samples.iter().map(|sample| &*sample.code).collect();
        let idle: Vec<_> = texts.keys().filter(|code| !codes.contains(**code)).collect();
        assert!(idle.is_empty(), "{language}: nothing has the code {idle:?}");
    }
}

#[test]
fn the_manual_has_every_code() {
    let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/events-and-api.md");
    let manual = fs::read_to_string(manual).expect("the manual");
    let (_, section) = manual.split_once("### Codes of reasons").expect("its section");
    let (section, _) = section.split_once("\n## ").expect("its end");
    let reasons = reason::tests::coded_samples();
    let remedies = unready::samples().into_iter().map(|remedy| CodedText::from(&remedy));
    for CodedText { code, args } in reasons.into_iter().chain(remedies) {
        let line = section.lines().find(|line| line.contains(&format!("`{code}`")));
        let line = line.unwrap_or_else(|| panic!("{code} is not in the manual"));
        for name in args.keys() {
            assert!(line.contains(&format!("`{name}`")), "{code} has {name}");
        }
    }
}

#[test]
fn every_text_of_the_daemon_has_a_translation() {
    let (pairs, said) = (pairs(), said());
    let unknown: Vec<&String> =
        said.iter().filter(|piece| !pairs.iter().any(|(text, _)| fits(text, piece))).collect();
    assert!(unknown.is_empty(), "reasons.js has no words for {unknown:#?}");
}

#[test]
fn every_translation_is_of_a_text_and_has_its_values() {
    let (pairs, said) = (pairs(), said());
    let first = |piece: &String| pairs.iter().position(|(text, _)| fits(text, piece));
    let used: BTreeSet<usize> = said.iter().filter_map(first).collect();
    let idle: Vec<_> = pairs.iter().enumerate().filter(|(at, _)| !used.contains(at)).collect();
    assert!(idle.is_empty(), "the daemon does not say this, or an earlier pair has it: {idle:#?}");
    for (english, portuguese) in &pairs {
        let values = |text: &str| -> BTreeSet<char> {
            text.split('{').skip(1).filter_map(|part| part.chars().next()).collect()
        };
        assert_eq!(values(english), values(portuguese), "{english:?}");
    }
}
