//! Values of variables, and words with these filled in.

mod frames;

use std::collections::BTreeMap;

use self::frames::Frame;
use super::{MAX_TURNS, MAX_VALUE, UNKNOWN, known};

/// Characters that stand for a space and the end of a line within quotes, and for a word without letters:
/// these end no word.
const KEPT: [char; 3] = ['\u{2}', '\u{3}', '\u{4}'];

/// Longest line with its variables filled in, in bytes.
const MAX_LINE: usize = 16_384;

/// A value, and the turns of loops in which it is so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) text: String,
    /// Numbers of loops, each with the number of the turn.
    pub(super) turns: BTreeMap<usize, usize>,
}

impl Value {
    /// Returns a value that is the same in all turns.
    pub(super) fn fixed(text: impl Into<String>) -> Value {
        Value { text: text.into(), turns: BTreeMap::new() }
    }

    pub(super) fn unknown() -> Value {
        Value::fixed(UNKNOWN)
    }

    /// Returns the turns in which both are so; `None` if there are none.
    fn together(&self, other: &Value) -> Option<BTreeMap<usize, usize>> {
        let differs = |(number, turn): (&usize, &usize)| {
            other.turns.get(number).is_some_and(|known| known != turn)
        };
        if self.turns.iter().any(differs) {
            return None;
        }
        let mut turns = self.turns.clone();
        turns.extend(&other.turns);
        Some(turns)
    }
}

/// The variables by name, each with a value for each turn of the loops that it depends on.
#[derive(Clone, Debug, Default)]
pub(super) struct Values {
    all: BTreeMap<String, Vec<Value>>,
    /// The open blocks.
    frames: Vec<Frame>,
}

/// Words of a command, once for each combination of turns.
pub(super) struct Combinations {
    pub(super) all: Vec<Vec<String>>,
    /// Set if there are more.
    pub(super) beyond: bool,
}

impl Values {
    pub(super) fn set(&mut self, name: &str, values: Vec<Value>) {
        self.put(name, Some(values));
    }

    pub(super) fn get(&self, name: &str) -> Option<&Vec<Value>> {
        self.all.get(name)
    }

    /// Sets an array: all elements, each of them, and their places.
    pub(super) fn set_array(&mut self, name: &str, words: &[String]) {
        // One by names is not read.
        if words.iter().any(|word| word.starts_with('[')) {
            return self.forget_array(name);
        }
        let elements = words.iter().flat_map(|word| self.elements(word)).map(|value| value.text);
        let texts: Vec<String> = elements.take(MAX_TURNS).collect();
        for at in texts.len()..MAX_TURNS {
            self.remove(&format!("{name}[{at}]"));
        }
        self.remove(&forgotten(name));
        let places: Vec<String> = (0..texts.len()).map(|at| at.to_string()).collect();
        for (at, text) in places.iter().zip(&texts) {
            self.set(&format!("{name}[{at}]"), vec![Value::fixed(text)]);
        }
        self.set(name, texts.first().map(Value::fixed).into_iter().collect());
        self.set(&format!("{name}[@]"), vec![Value::fixed(texts.join(" "))]);
        self.set(&format!("!{name}[@]"), vec![Value::fixed(places.join(" "))]);
    }

    /// Makes all values of an array unknown.
    pub(super) fn forget_array(&mut self, name: &str) {
        for at in 0..MAX_TURNS {
            self.remove(&format!("{name}[{at}]"));
        }
        for name in [name.to_owned(), format!("{name}[@]"), format!("!{name}[@]"), forgotten(name)]
        {
            self.set(&name, vec![Value::unknown()]);
        }
    }

    /// Returns the words that a word of a loop or of an array stands for. One with spaces is a text in
    /// quotes, and all elements of an array are taken as they are.
    pub(super) fn elements(&self, word: &str) -> Vec<Value> {
        let array = word.strip_prefix("${").and_then(|word| word.strip_suffix("[@]}"));
        if let Some(array) = array.filter(|name| !name.starts_with('!')) {
            let of = |at: usize| self.all.get(&format!("{array}[{at}]"))?.first().cloned();
            let all: Vec<Value> = (0..MAX_TURNS).filter_map(of).collect();
            if !all.is_empty() && !self.all.contains_key(&forgotten(array)) {
                return all;
            }
        }
        let quoted = !word.contains(['(', '`']) && word.contains(char::is_whitespace);
        let word = known::braces(word).unwrap_or_else(|| word.to_owned());
        let apart = |found: Value| {
            let Value { text, turns } = found;
            let texts: Vec<String> = match quoted {
                true => vec![text],
                false => text.split_whitespace().map(str::to_owned).collect(),
            };
            texts.into_iter().map(move |text| Value { text, turns: turns.clone() })
        };
        self.expand(&word).into_iter().flat_map(apart).collect()
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.put(name, None);
    }

    /// Returns the words with their variables filled in. An unquoted variable with spaces is several
    /// words, and spaces in quotes end none.
    pub(super) fn combinations(&self, words: &[String]) -> Combinations {
        let kept: Vec<String> = words.iter().map(|word| kept(word)).collect();
        let values = self.filled(&kept.join(" "));
        let beyond = values.len() > MAX_TURNS;
        let words = |value: Value| value.text.split_whitespace().map(given).collect();
        Combinations { all: values.into_iter().take(MAX_TURNS).map(words).collect(), beyond }
    }

    /// Returns a word with its variables filled in: once for each turn that it depends on.
    pub(super) fn expand(&self, word: &str) -> Vec<Value> {
        let mut all = self.filled(word);
        all.truncate(MAX_TURNS);
        // A value that doubles itself has no end.
        if all.iter().any(|value| value.text.len() > MAX_VALUE) {
            return vec![Value::unknown()];
        }
        all
    }

    /// Fills in variables; returns one value more than the most if there are more.
    fn filled(&self, text: &str) -> Vec<Value> {
        let mut all = vec![Value::default()];
        let mut rest = text;
        while let Some(at) = rest.find(['$', '`']) {
            let (before, from) = rest.split_at(at);
            all.iter_mut().for_each(|value| value.text.push_str(before));
            let (values, after) = self.variable(from);
            let join = |value: &Value| {
                let together = values.iter().filter_map(|other| {
                    let turns = value.together(other)?;
                    Some(Value { turns, text: format!("{}{}", value.text, other.text) })
                });
                together.collect::<Vec<_>>()
            };
            all = all.iter().flat_map(join).take(MAX_TURNS.saturating_add(1)).collect();
            if all.iter().any(|value| value.text.len() > MAX_LINE) {
                return vec![Value::unknown()];
            }
            rest = after;
        }
        all.iter_mut().for_each(|value| value.text.push_str(rest));
        all
    }

    /// Returns what a command prints, if that is known without a run.
    fn output(&self, command: &str) -> Vec<Value> {
        if command.contains(['$', '`']) && command.split_whitespace().next() != Some("seq") {
            return vec![Value::unknown()];
        }
        // The text of a sequence may have variables.
        let printed = |value: Value| match known::output(&value.text) {
            Some(text) => Value { text, turns: value.turns },
            None => Value::unknown(),
        };
        let text = command.replace('`', "");
        self.filled(&text).into_iter().take(MAX_TURNS).map(printed).collect()
    }

    /// Returns the values of a sum, a difference or a product.
    fn calculated(&self, text: &str) -> Vec<Value> {
        let Some((left, sign, right)) = known::operation(text) else {
            return vec![Value::unknown()];
        };
        let side = |side: &str| {
            let name = side.trim_matches(['$', '{', '}']);
            let number = name.chars().all(|c| c.is_ascii_digit());
            let fixed = || vec![if number { Value::fixed(name) } else { Value::unknown() }];
            self.all.get(name).cloned().filter(|_| !number).unwrap_or_else(fixed)
        };
        let (left, right) = (side(left), side(right));
        let pairs = left.iter().flat_map(|one| right.iter().map(move |other| (one, other)));
        let of = |(one, other): (&Value, &Value)| {
            let turns = one.together(other)?;
            let text = known::result(&one.text, sign, &other.text);
            Some(text.map_or_else(Value::unknown, |text| Value { text, turns }))
        };
        pairs.filter_map(of).take(MAX_TURNS).collect()
    }

    /// Returns an element of an array, or all of them.
    fn element(&self, array: &str, at: &str) -> Vec<Value> {
        let unknown = || vec![Value::unknown()];
        let Some(name) = array.strip_prefix('!') else {
            if matches!(at, "@" | "*") {
                return self.all.get(&format!("{array}[@]")).cloned().unwrap_or_else(unknown);
            }
            // A name without a dollar is a variable, too.
            let named = self.all.contains_key(at);
            let places = self.filled(&if named { format!("${at}") } else { at.to_owned() });
            let of = |place: Value| {
                let found = self.all.get(&format!("{array}[{}]", place.text))?.first()?;
                Some(Value { text: found.text.clone(), turns: place.together(found)? })
            };
            let found: Option<Vec<Value>> = places.into_iter().take(MAX_TURNS).map(of).collect();
            return found.filter(|found| !found.is_empty()).unwrap_or_else(unknown);
        };
        self.all.get(&format!("!{name}[@]")).cloned().unwrap_or_else(unknown)
    }

    /// Returns the values of a variable, and a default in the place of empty ones.
    fn or_default(&self, name: &str, default: &str) -> Vec<Value> {
        let default = self.expand(default);
        let Some(known) = self.all.get(name) else { return default };
        let of = |value: &Value| match value.text.is_empty() {
            true => default.clone(),
            false => vec![value.clone()],
        };
        known.iter().flat_map(of).take(MAX_TURNS).collect()
    }

    /// Returns the values of what begins with `$` or a backtick, and what is behind it.
    fn variable<'t>(&self, text: &'t str) -> (Vec<Value>, &'t str) {
        let unknown = || vec![Value::unknown()];
        if let Some(run) = text.strip_prefix('`') {
            let (command, rest) = run.split_once('`').unwrap_or((run, ""));
            return (self.output(command), rest);
        }
        let after = &text[1..];
        if after.starts_with('(') {
            let rest = behind_parentheses(after);
            let end = after.len().saturating_sub(rest.len()).saturating_sub(1);
            let inner = after.get(1..end).unwrap_or_default();
            let sum = inner.strip_prefix('(').and_then(|inner| inner.strip_suffix(')'));
            return (sum.map_or_else(|| self.output(inner), |sum| self.calculated(sum)), rest);
        }
        if let Some(braced) = after.strip_prefix('{') {
            let end = end_of_braces(braced);
            let (name, rest) = braced.split_at(end);
            let rest = rest.strip_prefix('}').unwrap_or(rest);
            if let Some((array, at)) = name.strip_suffix(']').and_then(|name| name.split_once('['))
            {
                return (self.element(array, at), rest);
            }
            // A default stands behind `:-`.
            if let Some((name, default)) = name.split_once(":-") {
                return (self.or_default(name, default), rest);
            }
            return (self.all.get(name).cloned().unwrap_or_else(unknown), rest);
        }
        let end =
            after.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(after.len());
        let (name, rest) = after.split_at(end);
        if name.is_empty() {
            let skip = after.chars().next().map_or(0, char::len_utf8);
            return (unknown(), &after[skip..]);
        }
        (self.all.get(name).cloned().unwrap_or_else(unknown), rest)
    }
}

/// Returns the name under which it is noted that an array may have other elements than those known.
fn forgotten(array: &str) -> String {
    format!("{array}[?]")
}

/// Returns a word with marks in the place of its spaces, but for those within `$(..)`, `${..}` and
/// backticks: values of these are words of their own.
fn kept(word: &str) -> String {
    let [space, line, none] = KEPT;
    if word.is_empty() {
        return none.into();
    }
    let (mut depth, mut run, mut before) = (0_usize, false, ' ');
    let keep = |c: char| {
        match c {
            '(' | '{' if depth > 0 || before == '$' => depth = depth.saturating_add(1),
            ')' | '}' => depth = depth.saturating_sub(1),
            '`' => run = !run,
            _ => {}
        }
        before = c;
        match c {
            c if run || depth > 0 => c,
            '\n' => line,
            c if c.is_whitespace() => space,
            c => c,
        }
    };
    word.chars().map(keep).collect()
}

/// Returns a word with its spaces in the place of the marks.
fn given(word: &str) -> String {
    let [space, line, none] = KEPT;
    word.replace(space, " ").replace(line, "\n").replace(none, "")
}

/// Returns the place of the closing brace, or the length of the text.
fn end_of_braces(text: &str) -> usize {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth = depth.saturating_add(1),
            '}' if depth == 0 => return at,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    text.len()
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
