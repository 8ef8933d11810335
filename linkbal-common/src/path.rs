//! The packet path: from a parsed packet to its verdict.

pub mod admission;
pub mod classify;
pub mod continuity;
pub mod dns;
pub mod drill;
pub mod egress;
pub mod hash;
pub mod ingress;
pub mod learn;
pub mod local;
pub mod mss;
pub mod pick;
mod plain;
pub mod recent;
pub mod select;
mod session;
pub mod shortcut;
pub mod slow;
pub mod tables;
pub mod verdict;
pub mod wan_egress;
pub mod xdp;
