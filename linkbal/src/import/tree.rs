//! Configurations of VyOS and EdgeOS, in braces or as `set` commands, as one tree of words.

use std::{collections::BTreeSet, iter::Peekable, str::Chars};

use super::note::Lines;

/// Deepest nesting that is read.
const DEPTH: usize = 64;

/// A word with all that stands behind it.
#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    pub(super) word: String,
    /// The first line on which it stands.
    pub(super) line: usize,
    /// Other lines that say the same again.
    pub(super) again: Vec<usize>,
    pub(super) children: Vec<Node>,
}

/// A file.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) root: Node,
    /// Lines that say something.
    pub(super) significant: BTreeSet<usize>,
    /// Lines of what a later line takes away, and these.
    pub(super) deleted: Vec<usize>,
    /// Lines that are neither.
    pub(super) odd: Vec<usize>,
}

impl Node {
    /// Returns the child that begins with `word`.
    pub(super) fn get(&self, word: &str) -> Option<&Node> {
        self.children.iter().find(|child| child.word == word)
    }

    /// Returns the node at the end of a path.
    pub(super) fn at(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |node, word| node.get(word))
    }

    /// Returns the word behind `key`, with its line. If it is said twice, the last one counts.
    pub(super) fn value(&self, key: &str) -> Option<(&str, usize)> {
        let value = self.get(key)?.last()?;
        Some((&value.word, value.last_line()))
    }

    /// Returns the child that is said last.
    fn last(&self) -> Option<&Node> {
        self.children.iter().max_by_key(|child| child.last_line())
    }

    fn last_line(&self) -> usize {
        self.again.iter().copied().fold(self.line, usize::max)
    }

    /// Returns the node with the child alone that is said last: the key has one value.
    pub(super) fn with_last(&self) -> Node {
        Node { children: self.last().cloned().into_iter().collect(), ..self.clone() }
    }

    /// Returns all words behind `key`.
    pub(super) fn values(&self, key: &str) -> Vec<&Node> {
        self.get(key).map_or(Vec::new(), |node| node.children.iter().collect())
    }

    /// Returns all lines of the node and of what is behind it.
    pub(super) fn lines(&self) -> Lines {
        let mut all = vec![self];
        let mut lines = Vec::new();
        while let Some(node) = all.pop() {
            lines.push(node.line);
            lines.extend(&node.again);
            all.extend(&node.children);
        }
        lines.into_iter().filter(|line| *line > 0).collect()
    }

    fn child(&mut self, word: &str, line: usize) -> &mut Node {
        let at = self.children.iter().position(|child| child.word == word).unwrap_or_else(|| {
            self.children.push(Node { word: word.into(), line, ..Node::default() });
            self.children.len().saturating_sub(1)
        });
        &mut self.children[at]
    }

    /// Takes away what stands at a path; returns it.
    fn remove(&mut self, path: &[&str]) -> Option<Node> {
        let (last, above) = path.split_last()?;
        let node = above.iter().try_fold(self, |node, word| {
            node.children.iter_mut().find(|child| child.word == **word)
        })?;
        let at = node.children.iter().position(|child| child.word == **last)?;
        Some(node.children.remove(at))
    }

    fn insert(&mut self, path: &[String], line: usize) {
        let last = path.iter().fold(self, |node, word| node.child(word, line));
        if last.line != line {
            last.again.push(line);
        }
    }
}

/// Parses a file.
pub(super) fn parse(text: &str) -> Tree {
    let mut tree = Tree::default();
    let text = without_comments(text);
    let mut open: Vec<Vec<String>> = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        let tokens = tokens(content);
        let words: Vec<&str> = tokens.iter().map(|(token, _)| token.as_str()).collect();
        match words.as_slice() {
            [] => continue,
            ["set", path @ ..] if open.is_empty() && !path.is_empty() && !path.contains(&"{") => {
                let path: Vec<String> =
                    path.iter().take(DEPTH).map(|word| (*word).into()).collect();
                tree.root.insert(&path, line);
                tree.significant.insert(line);
            }
            ["delete", path @ ..] if open.is_empty() && !path.is_empty() => {
                tree.significant.insert(line);
                let removed = tree.root.remove(path);
                tree.deleted.extend(
                    removed.iter().flat_map(|node| node.lines().iter().collect::<Vec<_>>()),
                );
                tree.deleted.push(line);
            }
            ["delete" | "commit" | "save" | "configure" | "exit" | "edit" | "top", ..]
                if open.is_empty() =>
            {
                tree.significant.insert(line);
                tree.odd.push(line);
            }
            _ => braces(&mut tree, &mut open, tokens, line),
        }
    }
    tree
}

/// Reads a line of the form with braces.
fn braces(tree: &mut Tree, open: &mut Vec<Vec<String>>, tokens: Vec<(String, bool)>, line: usize) {
    let mut words: Vec<String> = Vec::new();
    let mut said = false;
    for (token, quoted) in tokens {
        match &*token {
            "{" if !quoted => {
                said = true;
                if open.len() < DEPTH {
                    let path: Vec<String> = open.iter().flatten().chain(&words).cloned().collect();
                    tree.root.insert(&path, line);
                }
                open.push(std::mem::take(&mut words));
            }
            "}" if !quoted => {
                finish(tree, open, &mut words, line);
                if open.pop().is_none() {
                    tree.odd.push(line);
                }
            }
            ";" if !quoted => finish(tree, open, &mut words, line),
            _ => {
                said = true;
                words.push(token);
            }
        }
    }
    finish(tree, open, &mut words, line);
    if said {
        tree.significant.insert(line);
    }
}

fn finish(tree: &mut Tree, open: &[Vec<String>], words: &mut Vec<String>, line: usize) {
    let words = std::mem::take(words);
    if words.is_empty() {
        return;
    }
    // Outside of all braces, a line of words alone is nothing.
    if open.is_empty() {
        tree.odd.push(line);
    } else if open.len() < DEPTH {
        let path: Vec<String> = open.iter().flatten().chain(&words).cloned().collect();
        tree.root.insert(&path, line);
    }
}

/// Replaces comments `/* .. */` by spaces, but not within quotes; lines stay where they are.
fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut quote = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if quote.is_none() && c == '/' && chars.peek() == Some(&'*') {
            chars.next();
            out.push_str("  ");
            blank_comment(&mut chars, &mut out);
            continue;
        }
        out.push(c);
        match (quote, c) {
            // A text in quotes ends with its line.
            (_, '\n') => quote = None,
            (Some(_), '\\') => out.extend(chars.next_if(|next| *next != '\n')),
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            _ => {}
        }
    }
    out
}

/// Writes spaces to the end of a comment.
fn blank_comment(chars: &mut Peekable<Chars>, out: &mut String) {
    let mut before = ' ';
    for c in chars {
        out.push(if c == '\n' { '\n' } else { ' ' });
        if (before, c) == ('*', '/') {
            break;
        }
        before = c;
    }
}

/// Splits a line into words, braces and semicolons; `#` and `//` begin comments. Says of each whether
/// it was in quotes.
fn tokens(line: &str) -> Vec<(String, bool)> {
    let (mut tokens, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut quoted = false;
    let mut end = |word: &mut Option<String>, quoted: &mut bool| {
        let word = word.take().map(|word| (word, std::mem::take(quoted)));
        tokens.extend(word);
    };
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), '\\') => word.get_or_insert_default().extend(chars.next()),
            (None, '\'' | '"') => {
                (quote, quoted) = (Some(c), true);
                word.get_or_insert_default();
            }
            (None, '{' | '}' | ';') => {
                end(&mut word, &mut quoted);
                end(&mut Some(c.to_string()), &mut false);
            }
            (None, '#') if word.is_none() => break,
            (None, '/') if word.is_none() && chars.peek() == Some(&'/') => break,
            (None, c) if c.is_whitespace() => end(&mut word, &mut quoted),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    end(&mut word, &mut quoted);
    tokens
}
