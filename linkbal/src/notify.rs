//! Messages to people about outages and other events, pure code: what becomes a message, when, and
//! what it says. `sys::notify` sends them.
//!
//! News that nobody was told yet wait in a [`digest`], which is bounded: an uplink has one entry in it,
//! however often it goes down. A message is made of the whole digest when it can be sent, so what
//! happened while nothing could be is one message afterwards.

// Input from outside must not stop the daemon.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

pub mod digest;
pub mod outage;
pub mod outbox;
pub mod template;
pub mod text;

#[cfg(test)]
mod tests;
