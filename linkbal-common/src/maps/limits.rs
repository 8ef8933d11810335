//! Limits that several tables share.

/// Maximum number of rules.
pub const MAX_RULES: usize = 128;

/// Number of buckets in a weighted group; a power of two.
pub const BUCKETS: u32 = 4096;
