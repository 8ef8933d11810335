//! Buckets: what a hash falls into, each with its uplinks in order of preference.

use crate::{map_struct, uplink::MAX_UPLINKS};

/// Buckets in a group; a power of two.
pub const BUCKETS: u32 = 4096;

/// Ends the list of a bucket's ranks.
pub const NO_UPLINK: u8 = 0xff;

/// The uplinks of one bucket, most wanted first, then [`NO_UPLINK`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Bucket {
    /// Uplink indexes by rank.
    pub rank: [u8; MAX_UPLINKS],
}
map_struct!(Bucket, MAX_UPLINKS);

impl Bucket {
    /// A bucket without uplinks.
    pub const EMPTY: Bucket = Bucket { rank: [NO_UPLINK; MAX_UPLINKS] };
}
