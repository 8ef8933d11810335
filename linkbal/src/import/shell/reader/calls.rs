//! Functions of a script: what their bodies do with the arguments of each call, and whether they are
//! called on some runs only.

use std::{collections::BTreeSet, rc::Rc};

use super::{Call, Reader, assign::ARGUMENTS};
use crate::import::shell::{Script, expand::Value};

/// Most lines of bodies that are read again for calls.
const MAX_LINES: usize = 4096;

/// Deepest nesting of calls that are read.
const DEPTH: usize = 4;

/// The body of a function.
#[derive(Default)]
pub(super) struct Body {
    /// The lines, with the numbers of the first and the last one that are joined.
    lines: Rc<Vec<(String, usize, usize)>>,
    /// Places of the commands that stand for it without arguments.
    commands: Vec<usize>,
    /// Set if it looks at its arguments.
    has_arguments: bool,
    /// Set if it may set variables.
    sets: bool,
    /// Set once it is read with some.
    called: bool,
}

impl Reader {
    /// Keeps a line of the body of a function, whose commands begin at `from`.
    pub(super) fn keep(
        &mut self,
        name: &str,
        content: &str,
        (line, last_line): (usize, usize),
        from: usize,
    ) {
        if self.depth > 0 {
            return;
        }
        let commands = self.script.commands.iter().enumerate().skip(from);
        // Functions that it calls are a part of it.
        let own = commands.filter(|(_, one)| one.function.is_some());
        let own: Vec<usize> = own.map(|(at, _)| at).collect();
        let body = self.bodies.entry(name.to_owned()).or_default();
        body.commands.extend(own);
        body.has_arguments |= content.contains("$1") || content.contains("${1");
        body.sets |= content.contains('=');
        Rc::make_mut(&mut body.lines).push((content.to_owned(), line, last_line));
    }

    /// Reads the body of a function with the arguments of a call. One that looks at no arguments is read
    /// for the variables alone that it sets.
    pub(super) fn call(&mut self, words: &[String], line: usize) {
        let Some((name, arguments)) = words.split_first() else { return };
        let open = self.function() == Some(name);
        let Some(body) = self.bodies.get_mut(name) else { return };
        let quiet = self.quiet || arguments.is_empty() || !body.has_arguments;
        if open || self.depth >= DEPTH || quiet && !body.sets {
            return;
        }
        self.replayed = self.replayed.saturating_add(body.lines.len());
        if self.replayed > MAX_LINES {
            return self.script.beyond.push(line);
        }
        body.called |= !quiet;
        let lines = Rc::clone(&body.lines);
        let locals = std::mem::take(&mut self.locals);
        let before = (self.asked, self.open.clone(), self.begun.take(), self.quiet);
        let frames = self.values.depth();
        self.values.begin();
        for number in 1..=ARGUMENTS {
            let text = arguments.get(number.saturating_sub(1)).cloned().unwrap_or_default();
            self.values.set(&number.to_string(), vec![Value::fixed(text)]);
        }
        self.depth = self.depth.saturating_add(1);
        self.quiet = quiet;
        for (content, line, last_line) in lines.iter() {
            self.line(content, *line, *last_line);
        }
        self.depth = self.depth.saturating_sub(1);
        while self.values.depth() > frames.saturating_add(1) {
            self.values.end(true);
        }
        self.values.leave(&self.locals);
        (self.asked, self.open, self.begun, self.quiet) = before;
        self.locals = locals;
    }

    /// Returns the script. What a function does that is only called on some runs is done on some only.
    pub(in crate::import::shell) fn finish(mut self) -> Script {
        for body in self.bodies.values().filter(|body| body.called) {
            for at in &body.commands {
                if let Some(command) = self.script.commands.get_mut(*at) {
                    (command.words, command.control) = (Vec::new(), true);
                }
            }
        }
        let functions = &self.script.functions;
        let calls: Vec<&Call> =
            self.calls.iter().filter(|call| functions.contains(&call.name)).collect();
        let mut doubtful: BTreeSet<&str> = BTreeSet::new();
        for _ in 0..=DEPTH {
            let within = |call: &&&Call| {
                call.within.as_ref().is_none_or(|name| !doubtful.contains(name.as_str()))
            };
            let sure: BTreeSet<&str> = calls
                .iter()
                .filter(|call| !call.doubtful)
                .filter(within)
                .map(|call| call.name.as_str())
                .collect();
            doubtful =
                calls.iter().map(|call| &*call.name).filter(|name| !sure.contains(name)).collect();
        }
        for command in &mut self.script.commands {
            let of = command.function.as_ref();
            command.doubtful |= of.is_some_and(|name| doubtful.contains(name.as_str()));
        }
        self.script
    }
}
