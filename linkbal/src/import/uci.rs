//! OpenWrt's configuration language, UCI.

/// A section: `config TYPE 'NAME'`.
#[derive(Clone, Debug, Default)]
pub(super) struct Section {
    pub(super) kind: String,
    /// Empty if it has none.
    pub(super) name: String,
    pub(super) line: usize,
    /// Other lines that begin it again.
    pub(super) again: Vec<usize>,
    pub(super) options: Vec<Opt>,
}

/// An `option` or one element of a `list`.
#[derive(Clone, Debug)]
pub(super) struct Opt {
    pub(super) key: String,
    pub(super) value: String,
    pub(super) line: usize,
}

/// A file.
#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) sections: Vec<Section>,
    /// Lines that say something.
    pub(super) significant: Vec<usize>,
    /// Lines that are no UCI.
    pub(super) odd: Vec<usize>,
}

impl File {
    /// Returns the place of a section; makes it unless it has the name of an earlier one, which goes on.
    fn begin(&mut self, kind: &str, name: &str, line: usize) -> usize {
        let same = |section: &Section| section.name == name && section.kind == kind;
        let known = self.sections.iter().position(same).filter(|_| !name.is_empty());
        if let Some(section) = known.and_then(|at| self.sections.get_mut(at)) {
            section.again.push(line);
        }
        known.unwrap_or_else(|| {
            let (kind, name) = (kind.to_owned(), name.to_owned());
            self.sections.push(Section { kind, name, line, ..Section::default() });
            self.sections.len().saturating_sub(1)
        })
    }
}

impl Section {
    /// Returns the last value of a key: a repeated option replaces the earlier one.
    pub(super) fn get(&self, key: &str) -> Option<&Opt> {
        self.options.iter().rfind(|option| option.key == key)
    }

    /// Returns whether an option is on or off; `None` if it is not there, or neither.
    pub(super) fn flag(&self, key: &str) -> Option<bool> {
        match self.get(key)?.value.as_str() {
            "1" | "on" | "true" | "yes" | "enabled" => Some(true),
            "0" | "off" | "false" | "no" | "disabled" => Some(false),
            _ => None,
        }
    }

    /// Returns all values of a list, also of one that is written as an option with spaces.
    pub(super) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = (&'a str, usize)> + 'a {
        let options = self.options.iter().filter(move |option| option.key == key);
        options.flat_map(|option| option.value.split_whitespace().map(|word| (word, option.line)))
    }

    /// Returns the section's lines.
    pub(super) fn lines(&self) -> impl Iterator<Item = usize> + '_ {
        let begun = std::iter::once(self.line).chain(self.again.iter().copied());
        begun.chain(self.options.iter().map(|option| option.line))
    }
}

/// Parses a file.
pub(super) fn parse(text: &str) -> File {
    let mut file = File::default();
    let mut open = None;
    for (line, content) in (1..).zip(text.lines()) {
        let words = words(content);
        if words.is_empty() {
            continue;
        }
        file.significant.push(line);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let section = open.and_then(|at| file.sections.get_mut(at));
        match (words.as_slice(), section) {
            (["package", ..], _) => {}
            (["config", kind, rest @ ..], _) => {
                let name = rest.first().copied().unwrap_or_default();
                open = Some(file.begin(kind, name, line));
            }
            (["option" | "list", key, value @ ..], Some(section)) => {
                section.options.push(Opt { key: (*key).into(), value: value.join(" "), line });
            }
            _ => file.odd.push(line),
        }
    }
    file
}

/// Splits a line into words, with both kinds of quotes and backslashes; `#` begins a comment.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().extend(chars.next()),
            (None, '#') if word.is_none() => break,
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}
