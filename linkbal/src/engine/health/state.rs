//! The states of an uplink.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The state of an uplink in one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// No verdict yet.
    Init,
    /// The uplink is usable.
    Up,
    /// The uplink is not usable.
    Down,
    /// The uplink is disabled by the administrator, and not probed.
    AdminDown,
}

impl State {
    /// Returns whether the uplink is usable.
    pub const fn is_up(self) -> bool {
        matches!(self, State::Up)
    }

    /// Returns the name, as in `status`, logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            State::Init => "init",
            State::Up => "up",
            State::Down => "down",
            State::AdminDown => "admin-down",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
