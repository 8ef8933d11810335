//! linkbal: spreads the flows of a network over several internet uplinks.
//!
//! ```text
//! config file -> config -> Config ------------------+
//! netlink, probe answers -> daemon -> Event -> engine (pure) -> Command -> daemon -> sys (I/O)
//! ```

pub mod api;
pub mod bytes;
pub mod cli;
pub mod coded;
mod commented;
pub mod config;
pub mod daemon;
pub mod engine;
pub mod events;
pub mod flows;
pub mod history;
pub mod import;
pub mod init;
mod mac;
pub mod notify;
pub mod per_family;
mod protocol;
pub mod removal;
pub mod replay;
pub mod sys;
mod words;
