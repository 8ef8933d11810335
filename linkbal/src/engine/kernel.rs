//! The network state of the kernel: what it is, what it should be, and the way there.
//!
//! `network` is the observed state. [`desired`] is what it should be, [`diff`] the changes that lead
//! there, and `reconcile` asks for them.

pub(in crate::engine) mod adoption_schedule;
pub mod attribution;
pub mod bond;
pub mod conflict;
pub mod desired;
pub mod diff;
pub mod drift;
pub(in crate::engine) mod handover;
pub mod lan;
pub(in crate::engine) mod lease;
pub mod network;
pub mod nexthop;
pub mod nft_text;
pub(in crate::engine) mod reconcile;
pub mod refusal;
pub mod resource;
pub(in crate::engine) mod standby;
pub mod unready;
