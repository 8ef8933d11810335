//! The decisions, without I/O and without a clock.

pub mod network;
