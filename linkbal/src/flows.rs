//! Flows as users see them: which are live, which are asked for, in which order, and what each
//! client has. Pure code: tables and clocks are read elsewhere.

// What hosts of the LAN send must not stop the daemon.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

pub mod changes;
pub mod clients;
pub mod filter;
pub mod leases;
pub mod live;
pub mod query;
pub mod recent;
pub mod record;
pub mod sort;
