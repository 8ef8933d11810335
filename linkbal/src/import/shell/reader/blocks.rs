//! Blocks of the language, and what their tests say.

use super::{Branch, Reader, guard};
use crate::import::shell::expand::Value;

/// A block of the language.
#[derive(Clone)]
pub(in crate::import::shell) enum Open {
    If(Test),
    /// `case`, with what its branch is; set if it is about the script's arguments.
    Case(Branch, bool),
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
pub(in crate::import::shell) struct Test {
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

    /// Returns whether the block is a loop.
    pub(super) fn is_loop(&self) -> bool {
        matches!(self, Open::For(_) | Open::While(_))
    }

    /// Returns whether what is in the block is done on some runs only.
    pub(super) fn is_doubtful(&self) -> bool {
        match self {
            Open::If(test) | Open::While(test) => test.doubtful,
            Open::Group(doubtful) => *doubtful,
            _ => false,
        }
    }
}

impl Reader {
    /// Begins a block.
    pub(super) fn begin(&mut self, open: Open) {
        self.open.push(open);
        self.values.begin();
    }

    /// Ends the last block. What a definition sets counts only for calls.
    pub(super) fn close(&mut self) {
        match self.open.pop() {
            Some(Open::For(name)) => {
                self.values.end(false);
                self.values.set(&name, vec![Value::unknown()]);
            }
            Some(Open::Function { .. }) if self.depth == 0 => self.values.undo(),
            Some(Open::Case(_, of_arguments)) => self.values.end(!of_arguments),
            Some(open) => self.values.end(open.is_doubtful()),
            None => {}
        }
    }

    /// Takes a word of `if` and of loops on conditions.
    pub(super) fn test(&mut self, word: &str, line: usize) {
        let begun = Test { open: true, ..Test::default() };
        match word {
            "if" => return self.begin(Open::If(begun)),
            "while" | "until" => {
                self.begin(Open::While(begun));
                return self.forget_carried(line);
            }
            _ => {}
        }
        if matches!(word, "elif" | "else") && matches!(self.open.last(), Some(Open::If(_))) {
            self.values.otherwise();
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

    /// Takes a command of a test, if it is one.
    pub(super) fn take_test(&mut self, words: &[String]) {
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
}
