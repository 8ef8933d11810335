//! What the fuzz targets do with their bytes, one module a target. Each panics on a finding.

pub mod config;
pub mod cursor;
pub mod frames;
pub mod packets;
