//! The words of the language: branches, loops and functions around commands.

mod calls;

use std::collections::BTreeMap;

use self::calls::Body;
use super::{
    Command, MAX_TURNS, Script, Variable,
    branch::{Branch, is_undoing},
    expand::{Value, Values},
    guard, known,
    tokens::{Token, tokens},
};

/// A block of the language.
#[derive(Clone)]
pub(super) enum Open {
    If(Test),
    /// `case`, with what its branch is.
    Case(Branch),
    /// A loop over words, with the name of its variable.
    For(String),
    /// A loop on a condition.
    While(Test),
    Function {
        name: String,
        undoing: bool,
        /// Set once its brace has come.
        begun: bool,
    },
    /// Commands in braces; set if they are done on some runs only.
    Group(bool),
}

/// The test of a block.
#[derive(Clone, Copy, Default)]
pub(super) struct Test {
    /// Set while its commands are read.
    open: bool,
    /// Set if what follows is done on some runs only.
    doubtful: bool,
    /// Set if it is about the script's arguments: each branch is one of its services.
    of_arguments: bool,
}

impl Open {
    /// Returns the test of the block, if it has one.
    fn test(&mut self) -> Option<&mut Test> {
        match self {
            Open::If(test) | Open::While(test) => Some(test),
            _ => None,
        }
    }

    /// Returns whether what is in the block is done on some runs only.
    fn is_doubtful(&self) -> bool {
        match self {
            Open::If(test) | Open::While(test) => test.doubtful,
            Open::Group(doubtful) => *doubtful,
            _ => false,
        }
    }
}

/// A call of a function of the script.
pub(super) struct Call {
    pub(super) name: String,
    /// Set if it is done on some runs only.
    pub(super) doubtful: bool,
    /// The function in which it stands.
    pub(super) within: Option<String>,
}

/// A reader of a script, line by line.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) script: Script,
    pub(super) values: Values,
    pub(super) open: Vec<Open>,
    /// Number of loops so far.
    loops: usize,
    /// Set behind `&&` and `||` if what stands before them asks for the state of a line.
    pub(super) asked: bool,
    /// All commands by their names, of which some are functions.
    pub(super) calls: Vec<Call>,
    /// The functions by name.
    bodies: BTreeMap<String, Body>,
    /// The function that the line begins.
    begun: Option<String>,
    /// Number of calls that are read within one another.
    pub(super) depth: usize,
    /// Number of lines that were read again.
    pub(super) replayed: usize,
}

impl Reader {
    /// Reads a line; returns the end of a text that follows.
    pub(super) fn line(&mut self, content: &str, line: usize, last_line: usize) -> Option<String> {
        let tokens = tokens(content);
        // Signs alone, as `;;`, say nothing.
        if tokens.iter().all(Token::is_end) {
            return None;
        }
        self.script.significant.extend(line..=last_line);
        let mut heredoc = None;
        let (from, of) = (self.script.commands.len(), self.function().map(str::to_owned));
        let mut question = false;
        (self.asked, self.begun) = (false, None);
        for part in tokens.split_inclusive(Token::is_end) {
            let (mut words, mut into) = (Vec::new(), None);
            let end = part.last().filter(|token| token.is_end());
            let mut part = part.iter();
            while let Some(token) = part.next() {
                match (token, token == &Token::Into || token == &Token::Here) {
                    (Token::Word(word), _) => words.push(word.clone()),
                    (_, true) => {
                        let Some(Token::Word(word)) = part.next() else { continue };
                        match token {
                            Token::Here => heredoc = Some(word.trim_start_matches('-').to_owned()),
                            _ => into = Some(word.clone()),
                        }
                    }
                    _ => {}
                }
            }
            if words.is_empty() {
                continue;
            }
            self.command(&words, into.as_deref(), line, last_line);
            question |= guard::is_question(&words);
            match end {
                Some(Token::Chain) => self.asked = question,
                Some(Token::Pipe) => {}
                _ => (question, self.asked) = (false, false),
            }
        }
        if let Some(name) = of.or(self.begun.take()) {
            self.keep(&name, content, (line, last_line), from);
        }
        heredoc
    }

    /// Takes words of the language away from the beginning of a command, and keeps the rest.
    fn command(&mut self, words: &[String], into: Option<&str>, line: usize, last_line: usize) {
        let mut words = words;
        while let Some(first) = words.first().map(String::as_str) {
            if self.branch(words) {
                self.control(line, last_line);
                words = &words[1..];
                continue;
            }
            match first {
                "if" | "elif" | "while" | "until" | "then" | "else" | "do" => {
                    self.test(first);
                    self.control(line, last_line);
                }
                "{" => {
                    match self.open.last_mut() {
                        Some(Open::Function { begun, .. }) if !*begun => *begun = true,
                        _ => self.open.push(Open::Group(self.asked)),
                    }
                    self.control(line, last_line);
                }
                "!" | "(" | "time" | "sudo" | "exec" | "nohup" | "&" => {
                    self.control(line, last_line);
                }
                "fi" | "esac" | "done" | "}" | ")" => {
                    if let Some(Open::For(name)) = self.open.pop() {
                        self.values.remove(&name);
                    }
                    self.control(line, last_line);
                }
                "case" => {
                    self.open.push(Open::Case(Branch::Patterns(None)));
                    self.control(line, last_line);
                    let at = words.iter().position(|word| word == "in").unwrap_or(words.len());
                    words = words.get(at.saturating_add(1)..).unwrap_or_default();
                    continue;
                }
                "for" => {
                    self.start_loop(&words[1..], line);
                    return self.control(line, last_line);
                }
                "function" => {
                    self.start_function(words.get(1).map(String::as_str).unwrap_or_default());
                    self.control(line, last_line);
                    let Some(at) = words.iter().position(|word| word == "{") else { return };
                    words = words.get(at..).unwrap_or_default();
                    continue;
                }
                _ if first.ends_with("()") || words.get(1).is_some_and(|word| word == "()") => {
                    self.start_function(first);
                    let skip = if first.ends_with("()") { 1 } else { 2 };
                    words = words.get(skip..).unwrap_or_default();
                    self.control(line, last_line);
                    continue;
                }
                // A pattern whose `case` was not seen.
                _ if first.ends_with(')') && !first.contains('(') => self.control(line, last_line),
                "export" | "local" | "readonly" | "declare" | "typeset" => {
                    let options = words[1..].iter().take_while(|word| word.starts_with('-'));
                    words = &words[options.count()..];
                    self.control(line, last_line);
                }
                _ if array(words).is_some() => {
                    let Some((name, elements, rest)) = array(words) else { return };
                    self.values.set_array(&name, &elements);
                    self.control(line, last_line);
                    words = rest;
                    continue;
                }
                _ => match assignment(first) {
                    Some((name, value)) => {
                        self.set(name, value, line);
                        self.control(line, last_line);
                    }
                    None => break,
                },
            }
            words = &words[1..];
        }
        if !words.is_empty() {
            self.push_expanded(words, into, line, last_line);
        }
    }

    /// Takes a pattern of `case`, or the end of a branch; returns whether it was one.
    fn branch(&mut self, words: &[String]) -> bool {
        let Some(Open::Case(branch)) = self.open.last_mut() else {
            return words.first().is_some_and(|word| word == ";;");
        };
        let next = branch.next(words);
        *branch = next.unwrap_or(branch.begun());
        next.is_some()
    }

    /// Takes a word of `if` and of loops on conditions.
    fn test(&mut self, word: &str) {
        let begun = Test { open: true, ..Test::default() };
        match word {
            "if" => return self.open.push(Open::If(begun)),
            "while" | "until" => return self.open.push(Open::While(begun)),
            _ => {}
        }
        let Some(test) = self.open.last_mut().and_then(Open::test) else { return };
        match word {
            "elif" => {
                *test = Test { open: true, doubtful: !test.of_arguments, ..*test };
            }
            "else" if !test.of_arguments => test.doubtful = true,
            _ => test.open = false,
        }
    }

    fn start_function(&mut self, name: &str) {
        let name = name.trim_end_matches("()");
        self.script.functions.insert(name.to_owned());
        self.begun = Some(name.to_owned());
        let undoing = is_undoing(name);
        self.open.push(Open::Function { name: name.to_owned(), undoing, begun: false });
    }

    /// Returns the function that is open.
    pub(super) fn function(&self) -> Option<&str> {
        self.open.iter().rev().find_map(|open| match open {
            Open::Function { name, .. } => Some(name.as_str()),
            _ => None,
        })
    }

    /// Takes a command of a test, if it is one.
    fn take_test(&mut self, words: &[String]) {
        let within = self.function().is_some();
        let Some(test) = self.open.last_mut().and_then(Open::test).filter(|test| test.open) else {
            return;
        };
        if !within && guard::is_about_arguments(words) {
            test.of_arguments = true;
        } else if !guard::is_guard(words) {
            test.doubtful = true;
        }
    }

    fn start_loop(&mut self, words: &[String], line: usize) {
        let name = words.first().cloned().unwrap_or_default();
        let listed = words.get(1).is_some_and(|word| word == "in");
        self.loops = self.loops.saturating_add(1);
        let mut values: Vec<Value> = Vec::new();
        let words = words.iter().skip(2).map(|word| known::braces(word).unwrap_or(word.clone()));
        for found in words.flat_map(|word| self.values.expand(&word)) {
            for text in found.text.split_whitespace() {
                let mut turns = found.turns.clone();
                turns.insert(self.loops, values.len());
                values.push(Value { text: text.to_owned(), turns });
            }
        }
        if values.len() > MAX_TURNS {
            self.script.beyond.push(line);
            values.truncate(MAX_TURNS);
        }
        if !listed || values.is_empty() {
            values = vec![Value::unknown()];
        }
        self.values.set(&name, values);
        self.open.push(Open::For(name));
    }

    fn set(&mut self, name: &str, value: &str, line: usize) {
        let values = self.values.expand(value);
        let texts = values.iter().map(|value| value.text.clone()).collect();
        self.script.variables.push(Variable { name: name.into(), values: texts, line });
        self.values.set(name, values);
    }

    fn control(&mut self, line: usize, last_line: usize) {
        let command = Command {
            words: Vec::new(),
            text: Vec::new(),
            into: None,
            line,
            last_line,
            conditional: false,
            doubtful: false,
            function: None,
            undoing: false,
            control: true,
        };
        self.script.commands.push(command);
    }

    fn push_expanded(
        &mut self,
        words: &[String],
        into: Option<&str>,
        line: usize,
        last_line: usize,
    ) {
        let within = |open: &Open| matches!(open, Open::If(_) | Open::Case(_) | Open::While(_));
        let conditional = self.open.iter().any(within);
        let doubtful = self.asked || self.open.iter().any(Open::is_doubtful);
        self.take_test(words);
        let undoes = |open: &Open| match open {
            Open::Function { undoing, .. } => *undoing,
            other => matches!(other, Open::Case(Branch::Commands(true))),
        };
        let undoing = self.open.iter().any(undoes);
        let function = self.function().map(str::to_owned);
        if let Some(name) = words.first().cloned() {
            self.calls.push(Call { name, doubtful, within: function.clone() });
        }
        let combinations = self.values.combinations(words);
        if combinations.beyond {
            self.script.beyond.extend(line..=last_line);
        }
        let into = into.map(|into| self.values.expand(into));
        let into = into.and_then(|into| into.into_iter().next()).map(|value| value.text);
        let all: Vec<_> = combinations.all.into_iter().filter(|words| !words.is_empty()).collect();
        for words in &all {
            self.script.commands.push(Command {
                words: words.clone(),
                text: Vec::new(),
                into: into.clone(),
                line,
                last_line,
                conditional,
                doubtful,
                function: function.clone(),
                undoing,
                control: false,
            });
        }
        all.iter().for_each(|words| self.call(words));
    }
}

/// Returns the name of an array, its elements, and the words behind it.
fn array(words: &[String]) -> Option<(String, Vec<String>, &[String])> {
    let (name, first) = assignment(words.first()?)?;
    let first = first.strip_prefix('(')?;
    let end = words.iter().position(|word| word.ends_with(')'))?;
    let (own, rest) = words.split_at(end.saturating_add(1));
    let others = own.iter().skip(1).cloned();
    let elements = std::iter::once(first.to_owned()).chain(others);
    let elements = elements.map(|word| word.trim_end_matches(')').to_owned());
    Some((name.to_owned(), elements.filter(|word| !word.is_empty()).collect(), rest))
}

/// Returns the name and the value of an assignment.
fn assignment(word: &str) -> Option<(&str, &str)> {
    let (name, value) = word.split_once('=')?;
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    let fits = name.starts_with(letter) && name.chars().all(|c| letter(c) || c.is_ascii_digit());
    fits.then_some((name, value))
}
