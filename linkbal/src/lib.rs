//! linkbal: spreads the flows of a network over several internet uplinks.

pub mod config;
pub mod engine;
pub mod sys;
