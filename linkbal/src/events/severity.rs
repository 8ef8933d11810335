//! The severity of an event.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The severity of an event, by the names of syslog (RFC 5424, section 6.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum EventSeverity {
    /// The event is worth knowing.
    #[default]
    Info,
    /// Something works worse than it should.
    Warning,
}

impl EventSeverity {
    /// Returns the name as in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            EventSeverity::Info => "info",
            EventSeverity::Warning => "warning",
        }
    }
}
