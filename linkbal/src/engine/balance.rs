//! The uplinks that new flows are sent by: shares, full and degraded uplinks, and the return to a
//! better tier.

pub(in crate::engine) mod avoid;
pub mod buckets;
pub(in crate::engine) mod failback;
pub mod load;
pub(in crate::engine) mod spillover;
pub(in crate::engine) mod weights;
