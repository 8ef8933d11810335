//! Files of the folder `examples`, as they are: only names, addresses and paths are replaced.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Writes a script that may be run.
pub(crate) fn write_script(path: &str, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(Path::new(path), fs::Permissions::from_mode(0o755)).unwrap();
}

/// Texts that an administrator changes in a file, and those that a test has instead.
#[derive(Default)]
pub(crate) struct Replacements(Vec<(String, String)>);

impl Replacements {
    pub(crate) fn add(&mut self, shipped: impl Into<String>, here: impl Into<String>) {
        self.0.push((shipped.into(), here.into()));
    }

    /// Returns `text` with all replacements made at once, so that what one writes is nothing that
    /// another one looks for. Each of `wanted` must be in the text.
    pub(crate) fn apply(&self, text: &str, wanted: &[&str]) -> String {
        let mut hits = vec![false; self.0.len()];
        let mut made = String::new();
        let mut rest = text;
        let mut inside_word = false;
        while let Some(next) = rest.chars().next() {
            let fits = |(shipped, _): &&(String, String)| {
                let after = rest.strip_prefix(shipped.as_str()).map(|after| after.chars().next());
                after.is_some_and(|after| !after.is_some_and(char::is_alphanumeric))
            };
            let found = self.0.iter().filter(|pair| !inside_word && fits(pair));
            let (length, new) = match found.max_by_key(|(shipped, _)| shipped.len()) {
                Some((shipped, here)) => (shipped.len(), here.as_str()),
                None => (next.len_utf8(), &rest[..next.len_utf8()]),
            };
            for (hit, (shipped, _)) in hits.iter_mut().zip(&self.0) {
                *hit |= length > next.len_utf8() && rest[..length] == **shipped;
            }
            made.push_str(new);
            inside_word = rest[..length].ends_with(char::is_alphanumeric);
            rest = &rest[length..];
        }
        for wanted in wanted {
            let position = self.0.iter().position(|(shipped, _)| shipped == wanted);
            assert!(position.is_some_and(|position| hits[position]), "{wanted} is not in:\n{text}");
        }
        made
    }
}

#[test]
fn replacements_are_made_at_once_and_in_whole_words() {
    let mut replacements = Replacements::default();
    replacements.add("eth1", "eth2");
    replacements.add("eth2", "wan");
    replacements.add("10.0.0.1", "10.0.0.9");
    let text = "eth1 eth2/eth10, 10.0.0.1/24 via 10.0.0.12";
    let made = replacements.apply(text, &["eth1", "eth2", "10.0.0.1"]);
    assert_eq!(made, "eth2 wan/eth10, 10.0.0.9/24 via 10.0.0.12");
}
