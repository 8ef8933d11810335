//! The contents of an event.

use linkbal_common::uplink::Family;

use super::severity::EventSeverity;
use crate::{
    coded::{CodedText, Parts},
    engine::health::evidence::Evidence,
};

/// The contents of an event, without its time and number.
#[derive(Debug, Default)]
pub(super) struct EventBody {
    pub(super) severity: EventSeverity,
    pub(super) uplink: Option<String>,
    pub(super) family: Option<Family>,
    pub(super) interface: Option<String>,
    pub(super) domain: Option<String>,
    pub(super) object: Option<String>,
    pub(super) by: Option<String>,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) reason: String,
    /// The parts of the reason, if they have codes.
    pub(super) coded: Vec<CodedText>,
    pub(super) lasted_ms: Option<u64>,
    pub(super) evidence: Option<Evidence>,
}

/// Returns a change that is no cause for alarm.
pub(super) fn change(from: &str, to: &str, reason: &str) -> EventBody {
    EventBody { from: from.into(), to: to.into(), reason: reason.into(), ..EventBody::default() }
}

/// Returns a change for the worse.
pub(super) fn warning(from: &str, to: &str, reason: &str) -> EventBody {
    EventBody { severity: EventSeverity::Warning, ..change(from, to, reason) }
}

/// Returns a body with this reason.
pub(super) fn because(reason: &impl Parts, body: EventBody) -> EventBody {
    EventBody { reason: reason.to_string(), coded: reason.parts(), ..body }
}

/// Returns a change, for the worse if `worse` is set.
pub(super) fn change_of(worse: bool, from: &str, to: &str, reason: &str) -> EventBody {
    if worse { warning(from, to, reason) } else { change(from, to, reason) }
}
