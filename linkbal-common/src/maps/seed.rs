//! The secret that makes hashes unpredictable.

/// The secret of the hash, drawn once and kept across restarts.
pub type Seed = [u64; 2];
