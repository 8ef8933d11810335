//! Problems of a configuration, and how they are shown.

pub(in crate::config) mod finding;
pub(in crate::config) mod problem;
pub(in crate::config) mod report;
mod wrap;
