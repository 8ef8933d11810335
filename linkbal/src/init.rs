//! A configuration for a machine that has none: facts in, text out.
//!
//! ```text
//! Facts -> role (uplink, LAN, neither) -> Proposal -> write (TOML, tried by `config`)
//!                     ^ Choice: what a person says
//! ```
//!
//! Nothing is asked and nothing is run here. Each value says in a comment which fact it comes from, and
//! each interface that is left out says why.

// Input from outside must not stop the program.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod facts;
mod kernel;
mod machine;
mod model;
mod proposal;
mod role;
#[cfg(test)]
mod tests;
mod way;
mod write;

pub use self::{
    facts::{Client, Facts, Found, Weight},
    model::{Choice, Proposal},
    proposal::{propose, watched},
};
