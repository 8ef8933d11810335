//! The state that the administrator wants of uplinks, besides their health.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The state that the administrator wants of an uplink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AdminState {
    /// The uplink is used as its health allows.
    #[default]
    Enabled,
    /// The uplink is down whatever its health, and is not probed.
    Disabled,
    /// The uplink keeps its flows, and new ones avoid it.
    Drained,
}

impl AdminState {
    /// Returns the name, as in the status and in events.
    pub const fn name(self) -> &'static str {
        match self {
            AdminState::Enabled => "enabled",
            AdminState::Disabled => "disabled",
            AdminState::Drained => "drained",
        }
    }
}

impl fmt::Display for AdminState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
