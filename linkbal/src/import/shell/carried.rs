//! Variables that a loop hands from one turn to the next: their values are those of a run.

use std::collections::{BTreeMap, BTreeSet};

use super::tokens::{Token, tokens};

/// Most loops in one another that are looked at.
const DEPTH: usize = 16;

/// A loop.
#[derive(Default)]
struct Body {
    line: usize,
    read: BTreeSet<String>,
    set: BTreeSet<String>,
}

/// Returns the variables that loops read before they set them, by the lines of the loops.
pub(super) fn variables(text: &str) -> BTreeMap<usize, BTreeSet<String>> {
    let mut carried: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
    let mut open: Vec<Body> = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        // Only loops are of interest.
        let begins = ["for", "while", "until", "select"].iter().any(|word| content.contains(word));
        if open.is_empty() && !begins {
            continue;
        }
        for part in tokens(content).split(Token::is_end) {
            let words = part.iter().filter_map(|token| match token {
                Token::Word(word) => Some(word.as_str()),
                _ => None,
            });
            let words: Vec<&str> = words.collect();
            let skip = ["then", "do", "else", "if", "elif", "{", "!"];
            let skipped = words.iter().take_while(|word| skip.contains(word)).count();
            let mut words = words.get(skipped..).unwrap_or_default();
            match words.first() {
                Some(&("for" | "select")) => {
                    let set = words.get(1).map(|name| (*name).to_owned()).into_iter().collect();
                    open.push(Body { line, set, ..Body::default() });
                    continue;
                }
                Some(&("while" | "until")) => {
                    open.push(Body { line, ..Body::default() });
                    words = words.get(1..).unwrap_or_default();
                }
                Some(&"done") => {
                    open.pop();
                    continue;
                }
                _ => {}
            }
            let (read, set) = (words.iter().flat_map(|word| names(word)), assigned(words));
            let read: BTreeSet<String> = read.collect();
            for body in open.iter_mut().rev().take(DEPTH) {
                body.read.extend(read.difference(&body.set).cloned().collect::<Vec<_>>());
                let both = set.iter().filter(|name| body.read.contains(*name)).cloned();
                carried.entry(body.line).or_default().extend(both);
                body.set.extend(set.iter().cloned());
            }
        }
    }
    carried
}

/// Returns the names of variables whose values a word has.
pub(super) fn names(word: &str) -> Vec<String> {
    let letter = |c: char| c.is_ascii_alphanumeric() || c == '_';
    // Within a calculation a name needs no dollar.
    let sum = word.contains("$((");
    let mut found = Vec::new();
    let mut before = ' ';
    let mut rest = word;
    while let Some(at) = rest.find(letter) {
        before = rest[..at].chars().next_back().unwrap_or(before);
        let from = &rest[at..];
        let (name, behind) = from.split_at(from.find(|c| !letter(c)).unwrap_or(from.len()));
        if sum || matches!(before, '$' | '{' | '!') {
            found.push(name.to_owned());
        }
        before = ' ';
        rest = behind;
    }
    found
}

/// Returns the names that a command sets.
pub(super) fn assigned(words: &[&str]) -> BTreeSet<String> {
    let base = |word: &str| {
        let end = word.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        word[..end.unwrap_or(word.len())].to_owned()
    };
    let (Some(first), rest) = (words.first(), words.get(1..).unwrap_or_default()) else {
        return BTreeSet::new();
    };
    let names = match *first {
        "let" | "read" => {
            rest.iter().filter(|word| !word.starts_with('-')).map(|word| base(word)).collect()
        }
        "shift" | "set" => (1..=9).map(|number| number.to_string()).collect(),
        // A calculation for what it sets.
        ":" => rest
            .iter()
            .filter(|word| word.starts_with("$(("))
            .flat_map(|word| names(word))
            .collect(),
        "export" | "local" | "declare" | "typeset" | "readonly" => {
            rest.iter().filter(|word| word.contains('=')).map(|word| base(word)).collect()
        }
        _ => {
            let sets = |word: &&&str| {
                let name = base(word);
                let behind = word.get(name.len()..).unwrap_or_default();
                !name.is_empty() && (behind.starts_with('=') || behind.starts_with("+="))
            };
            words.iter().take_while(sets).map(|word| base(word)).collect::<Vec<_>>()
        }
    };
    names.into_iter().filter(|name| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_before_it_is_set_is_carried() {
        let of = |body: &str| {
            let all = variables(&format!("for x in 1 2; do\n{body}\ndone\nz=$((z+1))\n"));
            all.get(&1).cloned().unwrap_or_default().into_iter().collect::<Vec<_>>()
        };
        for body in
            ["n=$((n+1))", "use $n\nlet n++", "use ${n}; ((n++))", "n=`expr $n + 1`", "a=$n; n=1"]
        {
            assert_eq!(of(body), ["n"], "{body}");
        }
        for body in ["n=$x\nuse $n", "x=$((x+1))", "use n\nn=1"] {
            assert!(of(body).is_empty(), "{body}");
        }
    }
}
