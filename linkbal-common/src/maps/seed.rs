//! The secret that makes hashes unpredictable.

/// The secret of the hash, drawn once and kept across restarts.
pub type Seed = [u64; 2];

/// A factor of hashes, odd and with bits everywhere: 2^64 divided by the golden ratio.
pub(crate) const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
