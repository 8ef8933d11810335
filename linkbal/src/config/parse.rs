//! TOML: syntax, sections with their keys, and single values.

mod dialect;
pub(in crate::config) mod key;
pub(in crate::config) mod listed;
mod quoted;
pub(in crate::config) mod reader;
mod remedy;
pub(in crate::config) mod shape;
pub(in crate::config) mod source;
pub(in crate::config) mod synonym;
pub(in crate::config) mod syntax;
pub(in crate::config) mod value;
