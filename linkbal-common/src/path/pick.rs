//! The choice of an uplink from a bucket.

use crate::maps::{
    bucket::Bucket,
    uplink::{Family, MAX_UPLINKS, UpMask},
};

/// Returns the first uplink of the bucket's ranks that is usable for `family`.
#[inline(always)]
pub fn pick(bucket: &Bucket, up: UpMask, family: Family) -> Option<u32> {
    let usable = up.family(family);
    for rank in 0..MAX_UPLINKS {
        let uplink = u32::from(bucket.rank[rank]);
        if uplink >= MAX_UPLINKS as u32 {
            return None;
        }
        if usable >> uplink & 1 == 1 {
            return Some(uplink);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn picks_the_best_ranked_usable_uplink(
            order in Just((0u8..16).collect::<Vec<_>>()).prop_shuffle(),
            length in 0usize..=16,
            mask: u32,
        ) {
            let mut bucket = Bucket::EMPTY;
            bucket.rank[..length].copy_from_slice(&order[..length]);
            for family in Family::ALL {
                let wanted = order[..length]
                    .iter()
                    .map(|uplink| u32::from(*uplink))
                    .find(|uplink| UpMask(mask).contains(*uplink, family));
                prop_assert_eq!(pick(&bucket, UpMask(mask), family), wanted);
            }
        }
    }
}
