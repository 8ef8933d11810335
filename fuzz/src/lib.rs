//! The functions of the fuzz targets, one module per target. Each panics on a finding.

pub mod api;
pub mod config;
mod cursor;
pub mod dns;
mod frames;
pub mod netlink;
pub mod packets;
pub mod recording;
pub mod state;
