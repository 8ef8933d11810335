//! Failures of probes that are more than silence.

use serde::{Deserialize, Serialize};

/// The kind of a failure that is more than silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// A web server of the provider's answers in place of the target.
    CaptivePortal,
    /// The target answers, but not what is expected.
    WrongAnswer,
    /// The name of the target cannot be resolved.
    Unresolved,
}

/// A failure that is more than silence.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// The reason in words.
    pub(super) reason: String,
    /// Kind, if the target answered.
    pub(super) kind: Option<FailureKind>,
}

#[cfg(test)]
impl From<&str> for Failure {
    fn from(reason: &str) -> Failure {
        Failure { reason: reason.into(), kind: None }
    }
}
