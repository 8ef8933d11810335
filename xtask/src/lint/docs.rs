//! The beginnings of doc comments, those of modules included: a verb for functions, a noun for the rest.

use super::Violation;

/// First words that say neither what a function does nor what a thing is.
const VAGUE: [&str; 28] = [
    "As",
    "Everybody",
    "How",
    "If",
    "It",
    "Its",
    "Likewise",
    "Nobody",
    "So",
    "Somebody",
    "That",
    "Their",
    "There",
    "These",
    "They",
    "This",
    "Those",
    "What",
    "Whatever",
    "When",
    "Where",
    "Whether",
    "Which",
    "Who",
    "Whoever",
    "Whom",
    "Whose",
    "Why",
];

/// Words that look like verbs in the third person, but are none that says what a function does.
const NO_VERBS: [&str; 5] = ["Always", "Does", "Has", "Is", "Needs"];

/// Words before `fn` in a declaration.
const QUALIFIERS: [&str; 6] = ["pub", "const", "async", "unsafe", "extern", "\"C\""];

/// Finds doc comments that begin with a word that they should not begin with.
pub(super) fn check(file: &str, text: &str) -> Vec<Violation> {
    if !file.ends_with(".rs") {
        return Vec::new();
    }
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let begins = |&at: &usize| is_doc(lines[at]) && (at == 0 || !is_doc(lines[at - 1]));
    let violations = (0..lines.len()).filter(begins).filter_map(|at| {
        let word = first_word(lines[at]);
        let function = !lines[at].starts_with("//!") && is_function(&lines[at..]);
        let what = fault(word, function)?;
        Some(Violation { file: file.into(), line: at + 1, what })
    });
    violations.collect()
}

/// Returns the reason why a doc comment must not begin with a word.
fn fault(word: &str, function: bool) -> Option<String> {
    if VAGUE.contains(&word) {
        Some(format!("a doc comment begins with \"{word}\": begin with a verb or a noun"))
    } else if function && (!is_verb(word) || NO_VERBS.contains(&word)) {
        Some(format!("the doc of a function begins with \"{word}\": begin with \"Returns\" or so"))
    } else {
        None
    }
}

fn is_doc(line: &str) -> bool {
    line == "///" || line.starts_with("/// ") || line == "//!" || line.starts_with("//! ")
}

fn first_word(line: &str) -> &str {
    let word = line.trim_start_matches(['/', '!']).split_whitespace().next().unwrap_or_default();
    word.trim_end_matches(['.', ',', ':', ';', '?'])
}

fn is_verb(word: &str) -> bool {
    let letter = |c: char| c.is_ascii_lowercase() || c == '-';
    word.starts_with(|c: char| c.is_ascii_uppercase())
        && word.ends_with('s')
        && word[1..].chars().all(letter)
}

/// Returns whether the item behind a doc comment and its attributes is a function.
fn is_function(lines: &[&str]) -> bool {
    let mut lines = lines.iter().copied().skip_while(|line| is_doc(line)).peekable();
    while lines.peek().is_some_and(|line| line.starts_with("#[")) {
        while lines.next().is_some_and(|line| !line.ends_with(']')) {}
    }
    let item = lines.next().unwrap_or_default();
    let mut words = item.split_whitespace();
    let word = words.find(|word| !QUALIFIERS.contains(word) && !word.starts_with("pub("));
    word == Some("fn")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<usize> {
        check("a.rs", text).iter().map(|violation| violation.line).collect()
    }

    #[test]
    fn functions_begin_with_a_verb() {
        assert!(lines("/// Returns it.\nfn a() {}\n").is_empty());
        assert_eq!(lines("/// The name.\npub(crate) const fn a() {}\n"), [1]);
        assert_eq!(lines("/// The name,\n/// whole.\n#[a(\nb,\n)]\n#[c]\nasync fn a() {}\n"), [1]);
        assert_eq!(lines("/// Is a name.\nfn a() {}\n"), [1]);
    }

    #[test]
    fn things_begin_with_a_noun() {
        assert_eq!(lines("\n/// The name.\nstruct A {\n    /// Its owner.\n    b: u8,\n}\n"), [4]);
        assert_eq!(lines("/// What it is.\n///\n/// Whether.\nconst A: fn() = b;\n"), [1]);
        assert!(lines("/// The name.\nconst A: fn() = b;\n").is_empty());
        assert_eq!(lines("//! What it is.\n//! Whether.\n\nfn a() {}\n"), [1]);
        assert!(check("README.md", "/// What").is_empty());
    }
}
