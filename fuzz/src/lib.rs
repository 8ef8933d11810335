//! What the fuzz targets do with their bytes, one module a target. Each panics on a finding.

pub mod api;
pub mod config;
mod cursor;
pub mod dns;
mod frames;
pub mod netlink;
pub mod packets;
pub mod recording;
pub mod state;
