//! Exit codes, the same for every verb.

use std::process::ExitCode;

use anyhow::Error;

use crate::{
    api::error::{ApiError, ErrorCode},
    config::ConfigError,
    import::ImportRefusal,
};

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
    /// Something that is wrong on this machine: a conflict, or what does not work.
    MachineProblem,
}

impl Exit {
    /// All outcomes, in the order of their codes.
    pub(super) const ALL: [Exit; 5] =
        [Exit::Done, Exit::Failed, Exit::Unusable, Exit::Different, Exit::MachineProblem];

    /// Returns the number that the shell sees.
    pub(super) const fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Unusable => 2,
            Exit::Different => 3,
            Exit::MachineProblem => 4,
        }
    }

    /// Returns what the number says.
    pub(super) const fn meaning(self) -> &'static str {
        match self {
            Exit::Done => "done",
            Exit::Failed => "failed",
            Exit::Unusable => "unusable configuration or command line; nothing was changed",
            Exit::Different => "`plan`: there are differences",
            Exit::MachineProblem => {
                "`doctor`, `check --machine`, or `plan` without differences: something is wrong on this \
                 machine"
            }
        }
    }

    /// Returns all codes with their meanings, for the help.
    pub(super) fn help() -> String {
        let rows = Exit::ALL.map(|exit| format!("\n  {}  {}", exit.code(), exit.meaning()));
        format!("Exit codes:{}", rows.concat())
    }
}

/// An argument that means nothing, or does not go with the others.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Misuse(String);

/// Returns the error of an argument that means nothing; its text says what to write.
pub(super) fn misuse(text: impl Into<String>) -> Error {
    Error::new(Misuse(text.into()))
}

/// Returns the outcome of a verb that failed: the one place that decides.
pub(super) fn of_error(error: &Error) -> Exit {
    let api = error.downcast_ref::<ApiError>().map(|error| error.code);
    let refused =
        matches!(api, Some(ErrorCode::Invalid | ErrorCode::Unusable | ErrorCode::UnknownUplink));
    let unusable = error.is::<ConfigError>() || error.is::<Misuse>() || error.is::<ImportRefusal>();
    if refused || unusable { Exit::Unusable } else { Exit::Failed }
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

    #[test]
    fn what_the_user_can_write_otherwise_is_unusable() {
        use anyhow::Context as _;

        let api = |code| Error::new(ApiError::new(code, "no"));
        for code in [ErrorCode::Invalid, ErrorCode::Unusable, ErrorCode::UnknownUplink] {
            assert_eq!(of_error(&api(code)), Exit::Unusable, "{code:?}");
        }
        for code in
            [ErrorCode::NotPossible, ErrorCode::Failed, ErrorCode::NoAnswer, ErrorCode::TooMany]
        {
            assert_eq!(of_error(&api(code)), Exit::Failed, "{code:?}");
        }
        let broken = crate::config::Config::parse("", "x").expect_err("no configuration");
        assert_eq!(of_error(&broken.into()), Exit::Unusable);
        assert_eq!(of_error(&misuse("write it so")), Exit::Unusable);
        let refusal = ImportRefusal { expected: "mwan3", reason: "it has nothing of it".into() };
        let refusal: Result<(), ImportRefusal> = Err(refusal);
        assert_eq!(of_error(&refusal.context("failed to import").expect_err("it")), Exit::Unusable);
        assert_eq!(of_error(&Error::msg("the disk is full")), Exit::Failed);
    }
}
