//! Tokens of a line: words without their quotes, and what stands between commands.

use std::{iter::Peekable, str::Chars};

use super::UNKNOWN;

/// A token of a line.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Word(String),
    /// `;`, `&` and the like.
    End,
    /// `|`.
    Pipe,
    /// `&&` or `||`.
    Chain,
    /// `>` or `>>`.
    Into,
    /// `<<`.
    Here,
}

impl Token {
    /// Returns whether a command ends with it.
    pub(super) fn is_end(&self) -> bool {
        matches!(self, Token::End | Token::Pipe | Token::Chain)
    }
}

/// Returns whether quotes are open at the end of a text: the next line belongs to it.
pub(super) fn is_open(text: &str) -> bool {
    let mut lexer = Lexer::new(text);
    lexer.run();
    lexer.quote.is_some() || lexer.array
}

/// Splits a line into tokens. Quotes are taken away, and keep spaces within words.
pub(super) fn tokens(line: &str) -> Vec<Token> {
    let mut lexer = Lexer::new(line);
    lexer.run();
    lexer.tokens
}

/// A line that is split into tokens.
struct Lexer<'a> {
    chars: Peekable<Chars<'a>>,
    tokens: Vec<Token>,
    /// The word that is not at its end yet.
    word: Option<String>,
    /// The quotes that are open.
    quote: Option<char>,
    /// Parentheses that are open within a word, and those of subshells.
    nested: usize,
    shells: usize,
    /// Set within the parentheses of an array.
    array: bool,
}

impl Lexer<'_> {
    fn new(line: &str) -> Lexer<'_> {
        Lexer {
            chars: line.chars().peekable(),
            tokens: Vec::new(),
            word: None,
            quote: None,
            nested: 0,
            shells: 0,
            array: false,
        }
    }

    fn run(&mut self) {
        while let Some(c) = self.chars.next() {
            match (self.quote, c) {
                (Some(open), c) if c == open => self.quote = None,
                // In single quotes a dollar is a dollar.
                (Some('\''), '$') => self.word().push(UNKNOWN),
                (Some('"') | None, '\\') => {
                    let next = self.chars.next();
                    self.word().extend(next);
                }
                (Some(_), c) => self.word().push(c),
                (None, c) if self.is_nested(c) => self.word().push(c),
                (None, '`') => self.command_within(),
                (None, '\'' | '"') => {
                    self.quote = Some(c);
                    self.word();
                }
                (None, '#') if self.word.is_none() => {
                    // A comment ends with its line.
                    if self.chars.by_ref().any(|c| c == '\n') {
                        self.tokens.push(Token::End);
                    }
                }
                (None, '(' | ')') => self.parenthesis(c),
                (None, '\n') if self.array => self.end_word(),
                (None, '\n') => {
                    self.end_word();
                    self.tokens.push(Token::End);
                }
                (None, c) if c.is_whitespace() => self.end_word(),
                (None, ';' | '&' | '|') => self.separator(c),
                (None, '<' | '>') => self.redirection(c),
                (None, c) => self.word().push(c),
            }
        }
        self.end_word();
    }

    /// Returns the word, which begins here if there was none.
    fn word(&mut self) -> &mut String {
        self.word.get_or_insert_default()
    }

    fn end_word(&mut self) {
        self.tokens.extend(self.word.take().map(Token::Word));
    }

    /// Returns whether a character is within `$(..)`, which belongs to its word.
    fn is_nested(&mut self, c: char) -> bool {
        let begins = self.word.as_deref().is_some_and(|word| word.ends_with('$'));
        match c {
            '(' if begins || self.nested > 0 => self.nested = self.nested.saturating_add(1),
            _ if self.nested == 0 => return false,
            ')' => self.nested = self.nested.saturating_sub(1),
            _ => {}
        }
        true
    }

    /// Takes a command in backquotes, which belongs to its word.
    fn command_within(&mut self) {
        let inner: String = self.chars.by_ref().take_while(|c| *c != '`').collect();
        let word = self.word();
        word.push('`');
        word.push_str(&inner);
        word.push('`');
    }

    /// Takes a parenthesis of an array, a function, a calculation or a subshell.
    fn parenthesis(&mut self, c: char) {
        let next = self.chars.peek().copied();
        match (c, self.word.as_deref()) {
            ('(', Some(word)) if word.ends_with('=') => {
                self.array = true;
                self.word().push(c);
            }
            (')', _) if self.array => {
                self.array = false;
                self.word().push(c);
                self.end_word();
            }
            ('(', Some(_)) if next == Some(')') => {
                self.chars.next();
                self.word().push_str("()");
                self.end_word();
            }
            ('(', None) if next == Some(')') => {
                self.chars.next();
                self.tokens.push(Token::Word("()".into()));
            }
            ('(', None) if next == Some('(') => {
                self.chars.next();
                self.tokens.push(Token::Word(arithmetic(&mut self.chars)));
            }
            ('(', None) => {
                self.shells = self.shells.saturating_add(1);
                self.tokens.push(Token::End);
            }
            (')', _) if self.shells > 0 => {
                self.shells = self.shells.saturating_sub(1);
                self.end_word();
                self.tokens.push(Token::End);
            }
            _ => self.word().push(c),
        }
    }

    /// Takes the end of a command.
    fn separator(&mut self, c: char) {
        // The end of a branch of `case`.
        if c == ';' && self.chars.next_if_eq(&';').is_some() {
            self.end_word();
            self.tokens.extend([Token::End, Token::Word(";;".into()), Token::End]);
            return;
        }
        // 2>&1 is no end.
        if c == '&' && self.tokens.last() == Some(&Token::Into) && self.word.is_none() {
            self.word = Some("&".into());
            return;
        }
        self.end_word();
        let twice = c != ';' && self.chars.next_if_eq(&c).is_some();
        self.tokens.push(match c {
            _ if twice => Token::Chain,
            '|' => Token::Pipe,
            _ => Token::End,
        });
    }

    fn redirection(&mut self, c: char) {
        if c == '<' {
            self.end_word();
            let here = self.chars.next_if_eq(&'<').is_some();
            self.tokens.push(if here { Token::Here } else { Token::Into });
            return;
        }
        // The number of a descriptor is no word.
        if self.word.as_deref().is_some_and(|word| word.chars().all(|c| c.is_ascii_digit())) {
            self.word = None;
        }
        self.end_word();
        if self.tokens.last() != Some(&Token::Into) {
            self.tokens.push(Token::Into);
        }
    }
}

/// Reads a calculation to its end, `))`. Returns a word that says the same as far as it is known: a
/// variable that it sets has a value that only a run would tell.
fn arithmetic(chars: &mut Peekable<Chars>) -> String {
    let mut text = String::new();
    let mut depth = 2_usize;
    for c in chars {
        match c {
            '(' => depth = depth.saturating_add(1),
            ')' => depth = depth.saturating_sub(1),
            _ => text.push(c),
        }
        if depth == 0 {
            break;
        }
    }
    let text = text.trim();
    let letter = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let end = text.find(|c| !letter(c)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let compares = ["==", "<=", ">=", "!="].iter().any(|sign| rest.trim_start().starts_with(sign));
    let sets = rest.contains('=') || rest.contains("++") || rest.contains("--");
    if name.is_empty() || compares || !sets { ":".into() } else { format!("{name}={UNKNOWN}") }
}
