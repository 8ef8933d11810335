//! Shell scripts, as far as they set up a network: commands with their variables filled in.
//!
//! Nothing is run. A variable whose value only a run would tell stands as [`UNKNOWN`]. A loop over words
//! gives its commands once for each word.

use std::collections::BTreeMap;

/// Character that stands for a value that is only known when the script runs.
pub(super) const UNKNOWN: char = '\u{1}';

/// Most commands that a loop makes of one.
const MAX_TURNS: usize = 16;

/// Longest value of a variable, in bytes.
const MAX_VALUE: usize = 1024;

/// Words of functions that undo what the others do.
const UNDOING: [&str; 8] = ["stop", "down", "clean", "clear", "flush", "remove", "para", "limpa"];

/// A command.
#[derive(Clone, Debug)]
pub(super) struct Command {
    pub(super) words: Vec<String>,
    /// The file that its output goes to.
    pub(super) into: Option<String>,
    pub(super) line: usize,
    /// All lines of it, where a backslash continues it.
    pub(super) last_line: usize,
    /// Set within `if`, `case` and loops on conditions.
    pub(super) conditional: bool,
    /// Set within a function that stops things.
    pub(super) undoing: bool,
    /// Set if it is a part of the language, or sets a variable.
    pub(super) control: bool,
}

/// A variable.
#[derive(Clone, Debug)]
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) values: Vec<String>,
    pub(super) line: usize,
}

/// A script.
#[derive(Debug, Default)]
pub(super) struct Script {
    pub(super) commands: Vec<Command>,
    /// All that were ever set, in order.
    pub(super) variables: Vec<Variable>,
    /// Lines that say something.
    pub(super) significant: Vec<usize>,
}

/// A block of the language.
enum Open {
    Condition,
    Loop(Option<String>),
    Function(bool),
}

/// Reads a script.
pub(super) fn read(text: &str) -> Script {
    let mut reader = Reader::default();
    let mut lines = (1..).zip(text.lines());
    while let Some((line, content)) = lines.next() {
        let mut joined = content.to_owned();
        let mut last_line = line;
        while joined.ends_with('\\') && !is_comment(&joined) {
            joined.pop();
            let Some((next, content)) = lines.next() else { break };
            joined.push_str(content);
            last_line = next;
        }
        let heredoc = reader.line(&joined, line, last_line);
        while let Some(end) = &heredoc {
            match lines.next() {
                Some((_, content)) if content.trim() != end => {}
                _ => break,
            }
        }
    }
    reader.script
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

#[derive(Default)]
struct Reader {
    script: Script,
    values: BTreeMap<String, Vec<String>>,
    open: Vec<Open>,
}

/// A token of a line.
#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    /// `;`, `&&`, `|` and the like.
    End,
    /// `>` or `>>`.
    Into,
    /// `<<`.
    Here,
}

impl Reader {
    /// Reads a line; returns the end of a text that follows.
    fn line(&mut self, content: &str, line: usize, last_line: usize) -> Option<String> {
        let tokens = tokens(content);
        if tokens.is_empty() {
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
                    self.open.push(Open::Condition);
                    return self.control(line, last_line);
                }
                "for" => {
                    self.start_loop(&words[1..]);
                    return self.control(line, last_line);
                }
                "function" => {
                    let name = words.get(1).map(String::as_str).unwrap_or_default();
                    self.open.push(Open::Function(is_undoing(name)));
                    return self.control(line, last_line);
                }
                _ if first.ends_with("()") || words.get(1).is_some_and(|word| word == "()") => {
                    self.open.push(Open::Function(is_undoing(first)));
                    let skip = if first.ends_with("()") { 1 } else { 2 };
                    words = words.get(skip..).unwrap_or_default();
                    // Its brace is a part of it.
                    if words.first().is_some_and(|word| word == "{") {
                        words = &words[1..];
                    }
                    self.control(line, last_line);
                    continue;
                }
                // A pattern of `case`.
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

    fn start_loop(&mut self, words: &[String]) {
        let name = words.first().cloned().unwrap_or_default();
        let listed = words.get(1).is_some_and(|word| word == "in");
        let mut values: Vec<String> = Vec::new();
        for word in words.iter().skip(2) {
            let found = self.expand(word).into_iter();
            values.extend(
                found.flat_map(|value| {
                    value.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
                }),
            );
        }
        values.truncate(MAX_TURNS);
        if !listed || values.is_empty() {
            values = vec![UNKNOWN.to_string()];
        }
        self.values.insert(name.clone(), values);
        self.open.push(Open::Loop(Some(name)));
    }

    fn set(&mut self, name: &str, value: &str, line: usize) {
        let values = self.expand(value);
        let long = values.iter().any(|value| value.len() > MAX_VALUE);
        let values = if long { vec![UNKNOWN.to_string()] } else { values };
        let name = name.to_owned();
        self.script.variables.push(Variable { name: name.clone(), values: values.clone(), line });
        self.values.insert(name, values);
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
            Open::Condition => true,
            Open::Loop(name) => name.is_none(),
            Open::Function(_) => false,
        });
        let undoing = self.open.iter().any(|open| matches!(open, Open::Function(true)));
        let all: Vec<Vec<String>> = words.iter().map(|word| self.expand(word)).collect();
        let turns = all.iter().map(Vec::len).max().unwrap_or(1).min(MAX_TURNS);
        for turn in 0..turns {
            let of_turn = |values: &Vec<String>| {
                values.get(turn).or(values.first()).cloned().unwrap_or_default()
            };
            // An unquoted variable with spaces is several words.
            let words: Vec<String> = all
                .iter()
                .map(of_turn)
                .flat_map(|word| word.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
                .collect();
            if words.is_empty() {
                continue;
            }
            let into = into.and_then(|into| self.expand(into).first().cloned());
            self.script.commands.push(Command {
                words,
                into,
                line,
                last_line,
                conditional,
                undoing,
                control: false,
            });
        }
    }

    /// Returns a word with its variables filled in: once for each value of a loop's variable.
    fn expand(&self, word: &str) -> Vec<String> {
        let mut all = vec![String::new()];
        let mut rest = word;
        while let Some(at) = rest.find(['$', '`']) {
            let (before, from) = rest.split_at(at);
            all.iter_mut().for_each(|text| text.push_str(before));
            let (values, after) = self.variable(from);
            let add = |text: &String| {
                values.iter().map(|value| format!("{text}{value}")).collect::<Vec<_>>()
            };
            all = all.iter().flat_map(add).take(MAX_TURNS).collect();
            // A value that doubles itself has no end.
            if all.iter().any(|text| text.len() > MAX_VALUE.saturating_mul(4)) {
                return vec![UNKNOWN.to_string()];
            }
            rest = after;
        }
        all.iter_mut().for_each(|text| text.push_str(rest));
        all
    }

    /// Returns the values of what begins with `$` or a backtick, and what is behind it.
    fn variable<'t>(&self, text: &'t str) -> (Vec<String>, &'t str) {
        let unknown = || vec![UNKNOWN.to_string()];
        if let Some(run) = text.strip_prefix('`') {
            let end = run.find('`').map_or(run.len(), |end| end.saturating_add(1));
            return (unknown(), run.get(end..).unwrap_or_default());
        }
        let after = &text[1..];
        if after.starts_with('(') {
            return (unknown(), behind_parentheses(after));
        }
        if let Some(braced) = after.strip_prefix('{') {
            let end = braced.find('}').unwrap_or(braced.len());
            let (name, rest) = braced.split_at(end);
            let rest = rest.strip_prefix('}').unwrap_or(rest);
            let values = self.values.get(name.trim_end_matches("[@]")).cloned();
            // A default stands behind `:-`.
            let default = || name.split_once(":-").map(|(_, default)| vec![default.to_owned()]);
            return (values.or_else(default).unwrap_or_else(unknown), rest);
        }
        let end =
            after.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(after.len());
        let (name, rest) = after.split_at(end);
        if name.is_empty() {
            let skip = after.chars().next().map_or(0, char::len_utf8);
            return (unknown(), &after[skip..]);
        }
        (self.values.get(name).cloned().unwrap_or_else(unknown), rest)
    }
}

fn is_undoing(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    UNDOING.iter().any(|word| name.contains(word))
}

/// Returns the text behind the closing parenthesis.
fn behind_parentheses(text: &str) -> &str {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth = depth.saturating_add(1),
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return &text[at.saturating_add(c.len_utf8())..];
        }
    }
    ""
}

/// Returns the name and the value of an assignment.
fn assignment(word: &str) -> Option<(&str, &str)> {
    let (name, value) = word.split_once('=')?;
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    let fits = name.starts_with(letter) && name.chars().all(|c| letter(c) || c.is_ascii_digit());
    fits.then_some((name, value))
}

/// Splits a line into tokens. Quotes are taken away, and keep spaces within words.
fn tokens(line: &str) -> Vec<Token> {
    let (mut tokens, mut word) = (Vec::new(), None::<String>);
    let mut quote = None;
    let (mut nested, mut shells) = (0_usize, 0_usize);
    let mut chars = line.chars().peekable();
    let end = |word: &mut Option<String>, tokens: &mut Vec<Token>| {
        tokens.extend(word.take().map(Token::Word));
    };
    while let Some(c) = chars.next() {
        let within = word.as_deref().is_some_and(|word| word.ends_with('$'));
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            // In single quotes a dollar is a dollar.
            (Some('\''), '$') => word.get_or_insert_default().push(UNKNOWN),
            (Some('"') | None, '\\') => word.get_or_insert_default().extend(chars.next()),
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '(') if within || nested > 0 => {
                nested = nested.saturating_add(1);
                word.get_or_insert_default().push(c);
            }
            (None, ')') if nested > 0 => {
                nested = nested.saturating_sub(1);
                word.get_or_insert_default().push(c);
            }
            (None, c) if nested > 0 => word.get_or_insert_default().push(c),
            (None, '`') => {
                // A command within a word.
                let text = word.get_or_insert_default();
                text.push('`');
                text.extend(chars.by_ref().take_while(|c| *c != '`'));
                text.push('`');
            }
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, c) if c.is_whitespace() => end(&mut word, &mut tokens),
            (None, '(') if word.is_some() && chars.peek() == Some(&')') => {
                chars.next();
                word.get_or_insert_default().push_str("()");
                end(&mut word, &mut tokens);
            }
            (None, '(') if word.is_none() && chars.peek() == Some(&')') => {
                chars.next();
                tokens.push(Token::Word("()".into()));
            }
            (None, '(') if word.is_none() => {
                shells = shells.saturating_add(1);
                tokens.push(Token::End);
            }
            (None, ')') if shells > 0 => {
                shells = shells.saturating_sub(1);
                end(&mut word, &mut tokens);
                tokens.push(Token::End);
            }
            (None, ';' | '&' | '|') => {
                // 2>&1 is no end.
                if c == '&' && tokens.last() == Some(&Token::Into) && word.is_none() {
                    word = Some("&".into());
                } else {
                    end(&mut word, &mut tokens);
                    tokens.push(Token::End);
                }
            }
            (None, '>') => {
                // The number of a descriptor is no word.
                if word.as_deref().is_some_and(|word| word.chars().all(|c| c.is_ascii_digit())) {
                    word = None;
                }
                end(&mut word, &mut tokens);
                if tokens.last() != Some(&Token::Into) {
                    tokens.push(Token::Into);
                }
            }
            (None, '<') => {
                end(&mut word, &mut tokens);
                if chars.peek() == Some(&'<') {
                    chars.next();
                    tokens.push(Token::Here);
                } else {
                    tokens.push(Token::Into);
                }
            }
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    end(&mut word, &mut tokens);
    tokens
}
