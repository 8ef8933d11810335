//! Assignments, and commands that set variables.

use super::{Open, Reader};
use crate::import::shell::{MAX_TURNS, UNKNOWN, Variable, carried, expand::Value};

/// Most arguments of a call.
pub(super) const ARGUMENTS: usize = 9;

impl Reader {
    pub(super) fn set(&mut self, name: &str, value: &str, line: usize) {
        let turns = self.open.iter().any(Open::is_loop);
        let mut values = self.values.expand(value);
        let differs = self.values.get(name).is_some_and(|known| *known != values);
        // A counter has another value in each turn.
        let counts = turns && carried::names(value).iter().any(|read| read == name);
        if counts || self.asked && differs {
            values = vec![Value::unknown()];
        }
        if !self.quiet {
            let texts = values.iter().map(|value| value.text.clone()).collect();
            self.script.variables.push(Variable { name: name.into(), values: texts, line });
        }
        self.values.set(name, values);
    }

    /// Sets an element of an array: which ones there are then is not known.
    pub(super) fn set_element(&mut self, array: &str, place: usize, value: &str, line: usize) {
        self.set(&format!("{array}[{place}]"), value, line);
        if place == 0 {
            let first = self.values.get(&format!("{array}[0]")).cloned();
            self.values.set(array, first.unwrap_or_default());
        }
        for name in [format!("{array}[@]"), format!("!{array}[@]")] {
            self.values.set(&name, vec![Value::unknown()]);
        }
    }

    /// Returns a line of a text that follows a command; one with values of several turns is not known.
    pub(in crate::import::shell) fn filled(&self, text: &str) -> String {
        let mut values = self.values.expand(text).into_iter().map(|value| value.text);
        let first = values.next().filter(|_| values.next().is_none());
        first.unwrap_or_else(|| UNKNOWN.into())
    }

    pub(super) fn start_loop(&mut self, words: &[String], line: usize) {
        let name = words.first().cloned().unwrap_or_default();
        let listed = words.get(1).is_some_and(|word| word == "in");
        self.loops = self.loops.saturating_add(1);
        let mut values: Vec<Value> = Vec::new();
        for mut found in words.iter().skip(2).flat_map(|word| self.values.elements(word)) {
            found.turns.insert(self.loops, values.len());
            values.push(found);
        }
        if values.len() > MAX_TURNS {
            self.script.beyond.push(line);
            values.truncate(MAX_TURNS);
        }
        if !listed || values.is_empty() {
            values = vec![Value::unknown()];
        }
        self.begin(Open::For(name.clone()));
        self.forget_carried(line);
        self.values.set(&name, values);
    }

    /// Forgets the values of variables that a loop hands from turn to turn.
    pub(super) fn forget_carried(&mut self, line: usize) {
        for name in self.carried.get(&line).into_iter().flatten() {
            self.values.set(name, vec![Value::unknown()]);
        }
    }

    /// Takes names that a function has for itself.
    pub(super) fn own(&mut self, words: &[String]) {
        let names = words.iter().map(|word| word.split('=').next().unwrap_or_default().to_owned());
        self.locals.extend(names);
    }

    /// Takes commands that set variables: `shift`, `set`, `let` and `read`.
    pub(super) fn effects(&mut self, words: &[String]) {
        let Some((program, arguments)) = words.split_first() else { return };
        match program.as_str() {
            "shift" => self.shift(arguments.first().map(String::as_str)),
            "set" => match arguments.first().map(String::as_str) {
                Some("--") => self.set_arguments(&arguments[1..]),
                Some(word) if !word.starts_with(['-', '+']) => self.set_arguments(arguments),
                _ => {}
            },
            // A stanza of /etc/network/interfaces, whose commands know its interface.
            "iface" if self.function().is_none() => {
                let name = arguments.first().map(|name| self.values.expand(name));
                self.values.set("IFACE", name.unwrap_or_else(|| vec![Value::unknown()]));
            }
            "let" | "read" | ":" => {
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                for name in carried::assigned(&words) {
                    self.values.set(&name, vec![Value::unknown()]);
                }
            }
            // Text that is added, or an element of an array.
            word => {
                let end = word.find(['+', '[']).unwrap_or(word.len());
                let (name, rest) = word.split_at(end);
                let adds = rest.starts_with("+=") || rest.contains("]=") || rest.contains("]+=");
                if is_name(name) && adds {
                    self.values.forget_array(name);
                }
            }
        }
    }

    /// Removes the arguments: those of a definition are not known.
    pub(super) fn without_arguments(&mut self) {
        for number in 1..=ARGUMENTS {
            self.values.remove(&number.to_string());
        }
    }

    /// Returns whether arguments that a command sets have one value.
    fn is_sure(&self) -> bool {
        !self.asked && !self.open.iter().any(Open::is_loop)
    }

    fn shift(&mut self, by: Option<&str>) {
        let by: Option<usize> = by.unwrap_or("1").parse().ok().filter(|_| self.is_sure());
        let unknown = || vec![Value::unknown()];
        // There may be more arguments than are known.
        let full = self.values.get(&ARGUMENTS.to_string());
        let more = full.is_none_or(|values| values.iter().any(|value| !value.text.is_empty()));
        let behind = if more { unknown() } else { vec![Value::default()] };
        for number in 1..=ARGUMENTS {
            let from = by.map(|by| number.saturating_add(by));
            let moved = from.map(|from| match self.values.get(&from.to_string()) {
                Some(values) if from <= ARGUMENTS => values.clone(),
                _ => behind.clone(),
            });
            self.values.set(&number.to_string(), moved.unwrap_or_else(unknown));
        }
    }

    fn set_arguments(&mut self, words: &[String]) {
        let combinations = self.values.combinations(words).all;
        let single = combinations.first().filter(|_| combinations.len() == 1 && self.is_sure());
        // A word that is not known may be several.
        let sure = single.cloned().filter(|all| !all.iter().any(|word| word.contains(UNKNOWN)));
        for number in 1..=ARGUMENTS {
            let of = |words: &Vec<String>| words.get(number.saturating_sub(1)).cloned();
            let value = sure.as_ref().map(|words| Value::fixed(of(words).unwrap_or_default()));
            self.values.set(&number.to_string(), vec![value.unwrap_or_else(Value::unknown)]);
        }
    }
}

/// Returns whether a word is the name of a variable.
pub(super) fn is_name(word: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    word.starts_with(letter) && word.chars().all(|c| letter(c) || c.is_ascii_digit())
}

/// Returns the name of an array, its elements, and the words behind it.
pub(super) fn array(words: &[String]) -> Option<(String, Vec<String>, &[String])> {
    let (name, first) = assignment(words.first()?)?;
    let first = first.strip_prefix('(')?;
    let end = words.iter().position(|word| word.ends_with(')'))?;
    let (own, rest) = words.split_at(end.saturating_add(1));
    let others = own.iter().skip(1).cloned();
    let elements = std::iter::once(first.to_owned()).chain(others);
    let elements = elements.map(|word| word.trim_end_matches(')').to_owned());
    Some((name.to_owned(), elements.filter(|word| !word.is_empty()).collect(), rest))
}

/// Returns the array, the place and the value of `NAME[2]=VALUE`.
pub(super) fn element(word: &str) -> Option<(&str, usize, &str)> {
    let (name, rest) = word.split_once('[')?;
    let (place, value) = rest.split_once("]=")?;
    let place = place.parse().ok().filter(|place| *place < MAX_TURNS)?;
    is_name(name).then_some((name, place, value))
}

/// Returns the name and the value of an assignment.
pub(super) fn assignment(word: &str) -> Option<(&str, &str)> {
    let (name, value) = word.split_once('=')?;
    is_name(name).then_some((name, value))
}
