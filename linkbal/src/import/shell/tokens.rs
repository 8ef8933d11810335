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
    scan(text).1
}

/// Splits a line into tokens. Quotes are taken away, and keep spaces within words.
pub(super) fn tokens(line: &str) -> Vec<Token> {
    scan(line).0
}

/// Splits a line into tokens; says whether quotes are open at its end.
fn scan(line: &str) -> (Vec<Token>, bool) {
    let (mut tokens, mut word) = (Vec::new(), None::<String>);
    let mut quote = None;
    let (mut nested, mut shells) = (0_usize, 0_usize);
    // Set within the parentheses of an array.
    let mut array = false;
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
            (None, '#') if word.is_none() => {
                // A comment ends with its line.
                if chars.by_ref().any(|c| c == '\n') {
                    tokens.push(Token::End);
                }
            }
            (None, '(') if word.as_deref().is_some_and(|word| word.ends_with('=')) => {
                array = true;
                word.get_or_insert_default().push(c);
            }
            (None, ')') if array => {
                array = false;
                word.get_or_insert_default().push(c);
                end(&mut word, &mut tokens);
            }
            (None, '\n') if array => end(&mut word, &mut tokens),
            (None, '\n') => {
                end(&mut word, &mut tokens);
                tokens.push(Token::End);
            }
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
            (None, '(') if word.is_none() && chars.peek() == Some(&'(') => {
                chars.next();
                tokens.push(Token::Word(arithmetic(&mut chars)));
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
            // The end of a branch of `case`.
            (None, ';') if chars.peek() == Some(&';') => {
                chars.next();
                end(&mut word, &mut tokens);
                tokens.extend([Token::End, Token::Word(";;".into()), Token::End]);
            }
            (None, ';' | '&' | '|') => {
                // 2>&1 is no end.
                if c == '&' && tokens.last() == Some(&Token::Into) && word.is_none() {
                    word = Some("&".into());
                } else {
                    end(&mut word, &mut tokens);
                    let twice = c != ';' && chars.next_if_eq(&c).is_some();
                    tokens.push(match c {
                        _ if twice => Token::Chain,
                        '|' => Token::Pipe,
                        _ => Token::End,
                    });
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
    (tokens, quote.is_some() || array)
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
