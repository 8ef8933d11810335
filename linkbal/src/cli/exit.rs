//! Exit codes, the same for every verb.

use std::process::ExitCode;

/// The outcome of a verb, as its exit code says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// Success.
    Done,
    /// Failure, whose message says why.
    Failed,
    /// Configuration or command line that is unusable; nothing was changed.
    Unusable,
    /// Differences.
    Different,
    /// Clash with something of others.
    Clash,
}

impl Exit {
    const ALL: [Exit; 5] = [Exit::Done, Exit::Failed, Exit::Unusable, Exit::Different, Exit::Clash];

    /// Returns the number that the shell sees.
    pub(super) const fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Unusable => 2,
            Exit::Different => 3,
            Exit::Clash => 4,
        }
    }

    const fn meaning(self) -> &'static str {
        match self {
            Exit::Done => "done",
            Exit::Failed => "failed",
            Exit::Unusable => "unusable configuration or command line; nothing was changed",
            Exit::Different => "of `plan`: there are differences",
            Exit::Clash => {
                "of `check --machine`, and of `plan` without differences: something of others clashes"
            }
        }
    }

    /// Returns all codes with their meanings, for the help.
    pub(super) fn help() -> String {
        let rows = Exit::ALL.map(|exit| format!("\n  {}  {}", exit.code(), exit.meaning()));
        format!("Exit codes:{}", rows.concat())
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_has_the_same_table() {
        let text = include_str!("../../../docs/operations.md");
        let (_, rest) = text.split_once("| exit code | meaning |\n|---|---|\n").expect("a table");
        let (table, _) = rest.split_once("\n\n").expect("its end");
        let rows = Exit::ALL.map(|exit| format!("| {} | {} |", exit.code(), exit.meaning()));
        assert_eq!(table, rows.join("\n"));
    }
}
