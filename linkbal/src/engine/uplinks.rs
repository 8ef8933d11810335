//! Which index each uplink has.

use std::collections::BTreeMap;

use linkbal_common::uplink::MAX_UPLINKS;

use super::desired::Indexed;
use crate::config::Uplink;

/// Gives every uplink an index. One that had an index before keeps it, so that marks of live flows
/// stay true; the others take the lowest free ones in the order of their names.
///
/// There are at most [`MAX_UPLINKS`] uplinks, which the configuration has made sure of.
pub fn assign(uplinks: &[Uplink], before: &BTreeMap<String, u32>) -> Vec<Indexed> {
    let mut free: Vec<u32> = (0..MAX_UPLINKS as u32).rev().collect();
    let kept = |uplink: &Uplink| before.get(&uplink.name).copied();
    let kept_indexes: Vec<u32> = uplinks.iter().filter_map(kept).collect();
    free.retain(|index| !kept_indexes.contains(index));
    let mut sorted: Vec<&Uplink> = uplinks.iter().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    let indexed = sorted.into_iter().filter_map(|uplink| {
        let index = kept(uplink).or_else(|| free.pop())?;
        Some(Indexed { index, uplink: uplink.clone() })
    });
    indexed.collect()
}
