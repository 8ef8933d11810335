//! The decisions, without I/O and without a clock.

pub mod buckets;
pub mod health;
pub mod network;
pub mod window;
