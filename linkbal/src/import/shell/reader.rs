//! The words of the language: branches, loops and functions around commands.

use super::{
    Command, MAX_TURNS, Script, Variable,
    branch::{Branch, is_undoing},
    expand::{Value, Values},
    tokens::{Token, tokens},
};

/// A block of the language.
enum Open {
    Condition,
    /// `case`, with what its branch is.
    Case(Branch),
    Loop(Option<String>),
    Function(bool),
}

/// A reader of a script, line by line.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) script: Script,
    values: Values,
    open: Vec<Open>,
    /// Number of loops so far.
    loops: usize,
}

impl Reader {
    /// Reads a line; returns the end of a text that follows.
    pub(super) fn line(&mut self, content: &str, line: usize, last_line: usize) -> Option<String> {
        let tokens = tokens(content);
        // Signs alone, as `;;`, say nothing.
        if tokens.iter().all(|token| *token == Token::End) {
            return None;
        }
        self.script.significant.extend(line..=last_line);
        let mut heredoc = None;
        for part in tokens.split(|token| *token == Token::End) {
            let (mut words, mut into) = (Vec::new(), None);
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
            if !words.is_empty() {
                self.command(&words, into.as_deref(), line, last_line);
            }
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
                "if" | "elif" | "while" | "until" | "then" | "else" | "do" | "!" | "{" | "("
                | "time" | "sudo" | "exec" | "nohup" | "&" => {
                    match first {
                        "if" => self.open.push(Open::Condition),
                        "while" | "until" => self.open.push(Open::Loop(None)),
                        _ => {}
                    }
                    self.control(line, last_line);
                }
                "fi" | "esac" | "done" | "}" | ")" => {
                    if let Some(Open::Loop(Some(name))) = self.open.pop() {
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
                    return self.control(line, last_line);
                }
                _ if first.ends_with("()") || words.get(1).is_some_and(|word| word == "()") => {
                    self.start_function(first);
                    let skip = if first.ends_with("()") { 1 } else { 2 };
                    words = words.get(skip..).unwrap_or_default();
                    // Its brace is a part of it.
                    if words.first().is_some_and(|word| word == "{") {
                        words = &words[1..];
                    }
                    self.control(line, last_line);
                    continue;
                }
                // A pattern whose `case` was not seen.
                _ if first.ends_with(')') && !first.contains('(') => self.control(line, last_line),
                "export" | "local" | "readonly" | "declare" => self.control(line, last_line),
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

    fn start_function(&mut self, name: &str) {
        let name = name.trim_end_matches("()");
        self.script.functions.insert(name.to_owned());
        self.open.push(Open::Function(is_undoing(name)));
    }

    fn start_loop(&mut self, words: &[String], line: usize) {
        let name = words.first().cloned().unwrap_or_default();
        let listed = words.get(1).is_some_and(|word| word == "in");
        self.loops = self.loops.saturating_add(1);
        let mut values: Vec<Value> = Vec::new();
        for found in words.iter().skip(2).flat_map(|word| self.values.expand(word)) {
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
        self.open.push(Open::Loop(Some(name)));
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
            into: None,
            line,
            last_line,
            conditional: false,
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
        let conditional = self.open.iter().any(|open| match open {
            Open::Condition | Open::Case(_) => true,
            Open::Loop(name) => name.is_none(),
            Open::Function(_) => false,
        });
        let undoing = self
            .open
            .iter()
            .any(|open| matches!(open, Open::Function(true) | Open::Case(Branch::Commands(true))));
        let combinations = self.values.combinations(words);
        if combinations.beyond {
            self.script.beyond.extend(line..=last_line);
        }
        let into = into.map(|into| self.values.expand(into));
        let into = into.and_then(|into| into.into_iter().next()).map(|value| value.text);
        for words in combinations.all.into_iter().filter(|words| !words.is_empty()) {
            self.script.commands.push(Command {
                words,
                into: into.clone(),
                line,
                last_line,
                conditional,
                undoing,
                control: false,
            });
        }
    }
}

/// Returns the name and the value of an assignment.
fn assignment(word: &str) -> Option<(&str, &str)> {
    let (name, value) = word.split_once('=')?;
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    let fits = name.starts_with(letter) && name.chars().all(|c| letter(c) || c.is_ascii_digit());
    fits.then_some((name, value))
}
