//! Branches of `case`, and names that undo what the rest of the script does.

/// Words in names of functions that undo what the others do.
const UNDOING: [&str; 10] = [
    "stop", "clean", "cleanup", "clear", "flush", "remove", "teardown", "limpa", "limpar", "parar",
];

/// The branch of `case` that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Branch {
    /// The patterns of it; set if all so far are those of a branch that undoes things.
    Patterns(Option<bool>),
    /// The commands of it; set if it undoes things.
    Commands(bool),
}

impl Branch {
    /// Returns the state behind the first word; `None` if that is no part of `case`, but a command.
    pub(super) fn next(self, words: &[String]) -> Option<Branch> {
        let (first, rest) = words.split_first()?;
        let Branch::Patterns(undoing) = self else {
            return (first == ";;").then_some(Branch::Patterns(None));
        };
        if first == ")" {
            return Some(Branch::Commands(undoing == Some(true)));
        }
        let closed = first.ends_with(')');
        let alone = rest.first().is_none_or(|word| word == ")");
        if first == "esac" || !(closed || alone) {
            return None;
        }
        let name = first.trim_end_matches(')');
        // What is done while a line is down is no undoing.
        let undoes = name != "down" && is_undoing(name) && undoing != Some(false);
        Some(if closed { Branch::Commands(undoes) } else { Branch::Patterns(Some(undoes)) })
    }

    /// Returns the state once a command follows: patterns in parentheses have no sign at their end.
    pub(super) fn begun(self) -> Branch {
        match self {
            Branch::Patterns(Some(undoes)) => Branch::Commands(undoes),
            other => other,
        }
    }
}

/// Returns whether a function undoes things by its name: `stop_all`, but not `prepara` or `link1_down`.
pub(super) fn is_undoing(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let mut words = name.split(|c: char| !c.is_ascii_alphabetic());
    let first = words.clone().next();
    name == "down" || first == Some("para") || words.any(|word| UNDOING.contains(&word))
}
