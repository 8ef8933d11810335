//! The decisions, without I/O and without a clock.

pub mod network;
pub mod nft_text;
