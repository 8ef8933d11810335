//! Buckets: a hash selects one, which lists its uplinks in order of preference.

pub use crate::maps::limits::BUCKETS;
use crate::{
    map_struct,
    maps::{limits::MAX_RULES, uplink::MAX_UPLINKS},
};

/// Maximum number of weighted groups: that of all uplinks, which is the first, and those of rules.
pub const MAX_GROUPS: u32 = 16;

/// Number of buckets in all: those of the weighted groups, and one for each rule whose uplinks are
/// an ordered list, which needs no more.
pub const CAPACITY: u32 = MAX_GROUPS * BUCKETS + MAX_RULES as u32;

/// End of the list of a bucket's ranks.
pub const END_OF_RANKS: u8 = 0xff;

/// The uplinks of one bucket, most preferred first, then [`END_OF_RANKS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Bucket {
    /// Uplink indexes by rank.
    pub rank: [u8; MAX_UPLINKS],
}
map_struct!(Bucket, MAX_UPLINKS);

impl Bucket {
    /// A bucket without uplinks.
    pub const EMPTY: Bucket = Bucket { rank: [END_OF_RANKS; MAX_UPLINKS] };

    /// Returns the uplinks in the bucket, uplink `i` at bit `i`; without branches, for the
    /// verifier.
    #[inline(always)]
    pub const fn members(&self) -> u32 {
        let mut members = 0;
        let mut rank = 0;
        while rank < MAX_UPLINKS {
            // `END_OF_RANKS` gives the highest bit, which is no uplink's.
            members |= 1 << (self.rank[rank] & 31);
            rank += 1;
        }
        members & !(1 << 31)
    }
}
