//! The words of the language: branches, loops and functions around commands.

mod assign;
mod blocks;
mod calls;

use std::collections::{BTreeMap, BTreeSet};

use self::{
    assign::{array, assignment},
    blocks::Open,
    calls::Body,
};
use super::{
    Command, Script,
    branch::{Branch, is_undoing},
    expand::Values,
    guard,
    tokens::{Token, tokens},
};

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
    /// Set while lines are read again for what they set alone.
    quiet: bool,
    /// The variables that loops hand from turn to turn, by the lines of the loops.
    carried: BTreeMap<usize, BTreeSet<String>>,
    /// The variables that the function has for itself.
    locals: BTreeSet<String>,
}

impl Reader {
    /// Makes a reader; loops hand on the variables that are named by their lines.
    pub(super) fn new(carried: BTreeMap<usize, BTreeSet<String>>) -> Reader {
        Reader { carried, ..Reader::default() }
    }

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
        while let Some(rest) =
            self.keyword(words, line, last_line).or_else(|| self.definition(words, line, last_line))
        {
            words = rest;
        }
        if !words.is_empty() {
            self.push_expanded(words, into, line, last_line);
        }
    }

    /// Takes a word that says which commands are run; returns those behind it.
    fn keyword<'w>(
        &mut self,
        words: &'w [String],
        line: usize,
        last_line: usize,
    ) -> Option<&'w [String]> {
        let (first, rest) = words.split_first()?;
        if self.branch(words) {
            self.control(line, last_line);
            return Some(rest);
        }
        match first.as_str() {
            "if" | "elif" | "while" | "until" | "then" | "else" | "do" => self.test(first, line),
            "{" => match self.open.last_mut() {
                Some(Open::Function { begun, .. }) if !*begun => *begun = true,
                _ => self.begin(Open::Group(self.asked)),
            },
            "!" | "(" | "time" | "sudo" | "exec" | "nohup" | "&" => {}
            "fi" | "esac" | "done" | "}" | ")" => self.close(),
            "case" => {
                let subject = rest.first().map(String::as_str).unwrap_or_default();
                let of_arguments = self.function().is_none()
                    && ["$1", "${1", "$@", "$*"].iter().any(|sign| subject.contains(sign));
                self.begin(Open::Case(Branch::Patterns(None), of_arguments));
                self.control(line, last_line);
                let at = words.iter().position(|word| word == "in").unwrap_or(words.len());
                return Some(words.get(at.saturating_add(1)..).unwrap_or_default());
            }
            "for" => {
                self.start_loop(rest, line);
                self.control(line, last_line);
                return Some(&[]);
            }
            _ => return None,
        }
        self.control(line, last_line);
        Some(rest)
    }

    /// Takes what begins a function or sets a variable; returns the words behind it.
    fn definition<'w>(
        &mut self,
        words: &'w [String],
        line: usize,
        last_line: usize,
    ) -> Option<&'w [String]> {
        let (first, rest) = words.split_first()?;
        if first == "function" {
            self.start_function(rest.first().map(String::as_str).unwrap_or_default());
            self.control(line, last_line);
            let at = words.iter().position(|word| word == "{").unwrap_or(words.len());
            return Some(words.get(at..).unwrap_or_default());
        }
        if first.ends_with("()") || rest.first().is_some_and(|word| word == "()") {
            self.start_function(first);
            self.control(line, last_line);
            let skip = if first.ends_with("()") { 1 } else { 2 };
            return Some(words.get(skip..).unwrap_or_default());
        }
        if first.ends_with(')') && !first.contains('(') {
            // A pattern whose `case` was not seen.
            self.control(line, last_line);
            return Some(rest);
        }
        if matches!(first.as_str(), "export" | "local" | "readonly" | "declare" | "typeset") {
            let options = rest.iter().take_while(|word| word.starts_with('-')).count();
            let rest = rest.get(options..).unwrap_or_default();
            self.control(line, last_line);
            if first != "export" && first != "readonly" {
                self.own(rest);
            }
            // A name alone sets nothing.
            let bare = rest.iter().take_while(|word| assign::is_name(word)).count();
            return Some(rest.get(bare..).unwrap_or_default());
        }
        if let Some((name, elements, rest)) = array(words) {
            self.values.set_array(&name, &elements);
            self.control(line, last_line);
            return Some(rest);
        }
        if let Some((array, place, value)) = assign::element(first) {
            self.set_element(array, place, value, line);
            self.control(line, last_line);
            return Some(rest);
        }
        let (name, value) = assignment(first)?;
        self.set(name, value, line);
        self.control(line, last_line);
        Some(rest)
    }

    /// Takes a pattern of `case`, or the end of a branch; returns whether it was one.
    fn branch(&mut self, words: &[String]) -> bool {
        let Some(Open::Case(branch, of_arguments)) = self.open.last_mut() else {
            return words.first().is_some_and(|word| word == ";;");
        };
        let next = branch.next(words);
        *branch = next.unwrap_or(branch.begun());
        if next == Some(Branch::Patterns(None)) && !*of_arguments {
            self.values.otherwise();
        }
        next.is_some()
    }

    fn start_function(&mut self, name: &str) {
        let name = name.trim_end_matches("()");
        self.script.functions.insert(name.to_owned());
        self.begun = Some(name.to_owned());
        let undoing = is_undoing(name);
        self.begin(Open::Function { name: name.to_owned(), undoing, begun: false });
        if self.depth == 0 {
            self.without_arguments();
        }
    }

    /// Returns the function that is open.
    pub(super) fn function(&self) -> Option<&str> {
        self.open.iter().rev().find_map(|open| match open {
            Open::Function { name, .. } => Some(name.as_str()),
            _ => None,
        })
    }

    fn control(&mut self, line: usize, last_line: usize) {
        if self.quiet {
            return;
        }
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
        let within = |open: &Open| matches!(open, Open::If(_) | Open::Case(..) | Open::While(_));
        let conditional = self.open.iter().any(within);
        let doubtful = self.asked || self.open.iter().any(Open::is_doubtful);
        self.take_test(words);
        let undoes = |open: &Open| match open {
            Open::Function { undoing, .. } => *undoing,
            other => matches!(other, Open::Case(Branch::Commands(true), _)),
        };
        let undoing = self.open.iter().any(undoes);
        if self.quiet {
            let combinations = self.values.combinations(words);
            self.effects(words);
            return combinations.all.iter().for_each(|words| self.call(words, line));
        }
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
        self.effects(words);
        all.iter().for_each(|words| self.call(words, line));
    }
}
