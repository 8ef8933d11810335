//! Targets of probes, as they are written.

mod meant;
mod operator;
mod read;

pub(in crate::config) use self::{meant::advised, operator::only_operator};
