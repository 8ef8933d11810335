//! The names that a Rust source uses, without a parser: good enough for formatted code.

/// A path such as `std::fs::read`, or a single word.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Name {
    /// Line number, from 1.
    pub(super) line: usize,
    pub(super) path: String,
    /// Set if the module offers it to others: `pub use`.
    pub(super) offered: bool,
}

/// Returns all names outside of comments, up to the tests at the end of the file.
///
/// A call without argument or with one string is one name: `elapsed()`, `Command::new("ip")`.
pub(super) fn names(text: &str) -> Vec<Name> {
    let mut scan = Scan::default();
    let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    for (number, line) in code.lines().enumerate() {
        for word in words(strip_comment(line)) {
            scan.word(number + 1, word);
        }
    }
    scan.names
}

/// A scanner that follows `use` declarations, whose braces give their prefix to the names inside.
#[derive(Default)]
struct Scan {
    names: Vec<Name>,
    /// The prefixes of the open braces, inside of a `use`.
    prefixes: Option<Vec<String>>,
    /// The path whose brace may come next, inside of a `use`.
    path: String,
    /// Set behind a `pub`.
    public: bool,
}

impl Scan {
    fn word(&mut self, line: usize, word: &str) {
        match (word, &mut self.prefixes) {
            ("use", None) => self.prefixes = Some(Vec::new()),
            (";", Some(_)) => (self.prefixes, self.public) = (None, false),
            ("{", Some(prefixes)) => prefixes.push(std::mem::take(&mut self.path)),
            ("}", Some(prefixes)) => drop(prefixes.pop()),
            (";" | "{" | "}", None) => self.public = false,
            (_, None) => {
                self.public |= word == "pub";
                let path = word.trim_matches(':').into();
                self.names.push(Name { line, path, offered: false });
            }
            (_, Some(prefixes)) => {
                self.path = word.into();
                if !word.ends_with("::") {
                    let path = prefixes.concat() + word;
                    let path = path.strip_suffix("::self").unwrap_or(&path).into();
                    self.names.push(Name { line, path, offered: self.public });
                }
            }
        }
    }
}

/// Cuts a line into paths, braces and semicolons; the rest is dropped.
fn words(line: &str) -> impl Iterator<Item = &str> {
    let mut rest = line;
    std::iter::from_fn(move || {
        let start = rest.find(|c: char| is_word(c) || "{};".contains(c))?;
        rest = &rest[start..];
        let length = if is_word(rest.chars().next()?) {
            let path = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            path + argument(&rest[path..])
        } else {
            1
        };
        let (word, after) = rest.split_at(length);
        rest = after;
        Some(word)
    })
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

/// Returns the length of `()` or `("...")` at the start; 0 for anything else.
fn argument(rest: &str) -> usize {
    if rest.starts_with("()") {
        return 2;
    }
    let string = rest.strip_prefix("(\"").and_then(|inner| inner.find("\")"));
    string.map_or(0, |end| end + 4)
}

/// Returns the line without its comment; `://` of an address is none.
fn strip_comment(line: &str) -> &str {
    let comment = line.match_indices("//").find(|(at, _)| !line[..*at].ends_with(':'));
    comment.map_or(line, |(at, _)| &line[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> Vec<String> {
        names(text).into_iter().map(|name| name.path).collect()
    }

    #[test]
    fn use_trees_are_unfolded() {
        let text = "pub use a::{b, c::{self, d}, f::*};\nuse g::h;\n";
        assert_eq!(paths(text)[1..], ["a::b", "a::c", "a::c::d", "g::h"]);
    }

    #[test]
    fn names_that_a_module_offers_are_known() {
        let text = "pub fn a() {}\nuse b::C;\npub(in d::e) use f::{G, h::I};\nuse j::K;\n";
        let offered = names(text).into_iter().filter(|name| name.offered).map(|name| name.path);
        assert_eq!(offered.collect::<Vec<_>>(), ["f::G", "f::h::I"]);
    }

    #[test]
    fn code_is_cut_into_paths() {
        let text = "let x: ::a::b = e.f(c, \"d\"); // e::f\nCommand::new(\"ip\").arg(g())";
        assert_eq!(
            paths(text),
            ["let", "x", "a::b", "e", "f", "c", "d", "Command::new(\"ip\")", "arg", "g()"]
        );
    }

    #[test]
    fn tests_at_the_end_are_left_out() {
        let text = "#[cfg(test)]\na\n#[cfg(test)]\nmod tests {\nb }";
        assert_eq!(paths(text), ["cfg", "test", "a"]);
    }
}
