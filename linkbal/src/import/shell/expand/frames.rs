//! Values that blocks of the language set, of which a run may do some only.

use std::collections::{BTreeMap, BTreeSet};

use super::{Value, Values};

/// Values of a variable; `None` if it is not set.
type Known = Option<Vec<Value>>;

/// Values that a block has set.
#[derive(Clone, Debug, Default)]
pub(super) struct Frame {
    /// The values before the block, of the variables that it sets.
    old: BTreeMap<String, Known>,
    /// The values behind each branch but the last one.
    ends: Vec<BTreeMap<String, Known>>,
}

impl Values {
    /// Sets or removes a variable.
    pub(super) fn put(&mut self, name: &str, values: Known) {
        let old = self.swap(name, values);
        if let Some(frame) = self.frames.last_mut()
            && !frame.old.contains_key(name)
        {
            frame.old.insert(name.to_owned(), old);
        }
    }

    fn swap(&mut self, name: &str, values: Known) -> Known {
        match values {
            Some(values) => self.all.insert(name.to_owned(), values),
            None => self.all.remove(name),
        }
    }

    /// Begins a block.
    pub(in crate::import::shell) fn begin(&mut self) {
        self.frames.push(Frame::default());
    }

    /// Returns the number of open blocks.
    pub(in crate::import::shell) fn depth(&self) -> usize {
        self.frames.len()
    }

    /// Ends a branch: the next one begins with the values from before the block.
    pub(in crate::import::shell) fn otherwise(&mut self) {
        let Some(mut frame) = self.frames.pop() else { return };
        let of = |(name, old): (&String, &Known)| (name.clone(), self.swap(name, old.clone()));
        let end = frame.old.iter().map(of).collect();
        frame.ends.push(end);
        self.frames.push(frame);
    }

    /// Ends a block. A variable that has other values behind other branches, or before a block that is
    /// done on some runs only, has a value that only a run would tell.
    pub(in crate::import::shell) fn end(&mut self, doubtful: bool) {
        let Some(frame) = self.frames.pop() else { return };
        for (name, old) in &frame.old {
            let now = self.all.get(name).cloned();
            let behind = frame.ends.iter().map(|end| end.get(name).unwrap_or(old));
            let before = Some(old).filter(|_| doubtful);
            let mut others = behind.chain(before).flatten();
            let known = now.clone().or_else(|| others.next().cloned());
            let same = others.all(|other| Some(other) == known.as_ref());
            let merged = if same { known } else { Some(vec![Value::unknown()]) };
            if merged != now {
                self.swap(name, merged);
            }
        }
        self.hand_on(frame);
    }

    /// Ends a block of which nothing stays.
    pub(in crate::import::shell) fn undo(&mut self) {
        let Some(frame) = self.frames.pop() else { return };
        for (name, old) in frame.old {
            self.swap(&name, old);
        }
    }

    /// Ends a call: its arguments and its own variables go.
    pub(in crate::import::shell) fn leave(&mut self, own: &BTreeSet<String>) {
        let Some(mut frame) = self.frames.pop() else { return };
        let goes = |name: &String| {
            let name = name.trim_start_matches('!').split('[').next().unwrap_or_default();
            own.contains(name) || name.chars().all(|c| c.is_ascii_digit())
        };
        let (gone, stays) =
            std::mem::take(&mut frame.old).into_iter().partition(|(name, _)| goes(name));
        let gone: BTreeMap<String, Known> = gone;
        for (name, old) in gone {
            self.swap(&name, old);
        }
        self.hand_on(Frame { old: stays, ..frame });
    }

    /// Tells the block around what one within it has set.
    fn hand_on(&mut self, frame: Frame) {
        let Some(around) = self.frames.last_mut() else { return };
        for (name, old) in frame.old {
            around.old.entry(name).or_insert(old);
        }
    }
}
