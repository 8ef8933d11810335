//! Uplinks with the index that their bits, fwmark and table come from.

use std::{collections::BTreeMap, sync::Arc};

use linkbal_common::uplink::MAX_UPLINKS;

use crate::config::{OnDown, Uplink};

/// Gives every uplink an index. An uplink that had an index before keeps it, so that marks of live
/// flows stay true; the others take the lowest free ones in the order of their names. Indexes of
/// uplinks that were configured before are taken last: flows may still carry their marks.
///
/// There are at most [`MAX_UPLINKS`] uplinks, which the configuration has made sure of.
pub fn assign(uplinks: &[Uplink], before: &BTreeMap<String, u32>) -> Vec<Indexed> {
    let kept = |uplink: &Uplink| before.get(&uplink.name).copied();
    let kept_indexes: Vec<u32> = uplinks.iter().filter_map(kept).collect();
    let mut free: Vec<u32> = (0..MAX_UPLINKS as u32).collect();
    free.retain(|index| !kept_indexes.contains(index));
    free.sort_by_key(|index| before.values().any(|former| former == index));
    let mut free = free.into_iter();
    let mut sorted: Vec<&Uplink> = uplinks.iter().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    let indexed = sorted.into_iter().filter_map(|uplink| {
        let index = kept(uplink).or_else(|| free.next())?;
        Some(Indexed { index, config: Arc::new(uplink.clone()) })
    });
    indexed.collect()
}

/// Returns the indexes by name, with those of former uplinks that no other uplink has taken.
pub fn indexes(uplinks: &[Indexed], before: &BTreeMap<String, u32>) -> BTreeMap<String, u32> {
    let taken = |index: &u32| uplinks.iter().any(|uplink| uplink.index == *index);
    let former = before.iter().filter(|(_, index)| !taken(index));
    let now = uplinks.iter().map(|each| (each.config.name.clone(), each.index));
    former.map(|(name, index)| (name.clone(), *index)).chain(now).collect()
}

/// Returns the treatment of the flows of each uplink that is down, as `Settings::on_down` has it.
/// The connections of a former uplink are reset if `before` has it so.
pub fn on_down(uplinks: &[Indexed], before: u32) -> u32 {
    let bit = |indexed: &Indexed| match indexed.config.on_down {
        OnDown::Reset => 1 << indexed.index,
        OnDown::Move => 0,
        OnDown::Keep => 1 << (MAX_UPLINKS as u32 + indexed.index),
    };
    let configured = uplinks.iter().fold(0, |all, indexed| all | 1 << indexed.index);
    let resets = (1 << MAX_UPLINKS as u32) - 1;
    uplinks.iter().map(bit).fold(before & resets & !configured, |all, bit| all | bit)
}

/// An uplink and the index that its bits, fwmark and table come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Indexed {
    /// The index.
    pub index: u32,
    /// The configuration of the uplink; a copy shares it.
    pub config: Arc<Uplink>,
}

impl Indexed {
    /// Returns whether another configuration has the same uplink as `next`.
    pub(super) fn is_continued_by(&self, next: &Indexed) -> bool {
        self.index == next.index && self.config.interface == next.config.interface
    }
}
