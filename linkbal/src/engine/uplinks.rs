//! The uplinks: their indexes, and their state.

use std::{collections::BTreeMap, time::Duration};

use linkbal_common::uplink::{Family, MAX_UPLINKS, UpMask};

use super::{
    admin::Admin,
    desired::{self, Indexed},
    health::{Health, State},
    load::Load,
    reclaim::Debt,
    traffic::Watch,
};
use crate::config::{OnDegraded, OnDown, Uplink};

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
        Some(Indexed { index, uplink: uplink.clone() })
    });
    indexed.collect()
}

/// Returns the indexes by name, with those of former uplinks that no other uplink has taken.
pub fn indexes(uplinks: &[Indexed], before: &BTreeMap<String, u32>) -> BTreeMap<String, u32> {
    let taken = |index: &u32| uplinks.iter().any(|uplink| uplink.index == *index);
    let former = before.iter().filter(|(_, index)| !taken(index));
    let now = uplinks.iter().map(|each| (each.uplink.name.clone(), each.index));
    former.map(|(name, index)| (name.clone(), *index)).chain(now).collect()
}

/// Returns the treatment of the flows of each uplink that is down, as `Settings::on_down` has it.
/// The connections of a former uplink are reset if `before` has it so.
pub fn on_down(uplinks: &[Indexed], before: u32) -> u32 {
    let bit = |indexed: &Indexed| match indexed.uplink.on_down {
        OnDown::Reset => 1 << indexed.index,
        OnDown::Move => 0,
        OnDown::Keep => 1 << (MAX_UPLINKS as u32 + indexed.index),
    };
    let configured = uplinks.iter().fold(0, |all, indexed| all | 1 << indexed.index);
    let resets = (1 << MAX_UPLINKS as u32) - 1;
    uplinks.iter().map(bit).fold(before & resets & !configured, |all, bit| all | bit)
}

/// One uplink as the engine sees it.
#[derive(Debug)]
pub struct UplinkState {
    /// Index and configuration.
    pub indexed: Indexed,
    /// The administrator's wish for the uplink.
    pub admin: Admin,
    /// Health by family, in the order of [`Family::ALL`].
    pub health: [Health; 2],
    /// Load of the uplink.
    pub load: Load,
    /// Set if the uplink was ever seen ready in the family, or is configured to be.
    pub(super) present: [bool; 2],
    /// Set if the uplink has an IPv4 address. One without a way out is reported as a mistake; IPv6
    /// ones may be meant for the local network.
    pub(super) has_ipv4: bool,
    /// Set if the uplink went down, and conntrack has yet to forget its flows, by family.
    pub(super) stale: [bool; 2],
    /// Set if its virtual addresses were last seen elsewhere, by family; `None` before the first
    /// look.
    pub(super) standby: [Option<bool>; 2],
    /// Memory of its traffic.
    pub(super) watch: Watch,
    /// Flows that are to be moved back, by family.
    pub(super) debt: [Debt; 2],
    /// Set if it was last reported as degraded, by family.
    pub(super) degraded: [bool; 2],
}

impl UplinkState {
    /// Creates an uplink at the start; `up` are the uplinks that a running datapath has as usable.
    pub(super) fn new(
        indexed: Indexed,
        up: UpMask,
        wishes: &BTreeMap<String, Admin>,
        now: Duration,
    ) -> UplinkState {
        UplinkState {
            admin: wishes.get(&indexed.uplink.name).copied().unwrap_or_default(),
            health: Family::ALL.map(|family| {
                let usable = up.contains(indexed.index, family);
                Health::new(indexed.uplink.probe.clone(), family, usable, now)
            }),
            has_ipv4: false,
            present: Family::ALL.map(|family| {
                let uplink = &indexed.uplink;
                uplink.carries(family) && desired::configured_gateway(uplink, family).is_some()
            }),
            stale: [false; 2],
            standby: [None; 2],
            load: Load::default(),
            watch: Watch::default(),
            debt: [Debt::None; 2],
            degraded: [false; 2],
            indexed,
        }
    }

    /// Returns the health in one family; `None` if the uplink only has the other one, or may only
    /// use that.
    pub fn family(&self, family: Family) -> Option<&Health> {
        if !self.indexed.uplink.carries(family) {
            return None;
        }
        let has = self.present[position(family)] || self.present == [false; 2];
        let has = has || (family == Family::Ipv4 && self.has_ipv4);
        has.then(|| &self.health[position(family)])
    }

    /// Returns whether new flows of the family are to avoid the uplink for its quality.
    pub(super) fn is_degraded(&self, family: Family) -> bool {
        let avoids = self.indexed.uplink.probe.on_degraded == OnDegraded::Avoid;
        avoids && self.health[position(family)].degraded().is_some()
    }

    /// Returns the state over both families: up if one is, else the one with more to say.
    pub fn state(&self) -> State {
        let states = Family::ALL.map(|family| self.family(family).map(Health::state));
        if states.contains(&Some(State::Up)) {
            State::Up
        } else if states.contains(&Some(State::Init)) {
            State::Init
        } else if states.contains(&Some(State::AdminDown)) {
            State::AdminDown
        } else {
            State::Down
        }
    }
}

pub(super) const fn position(family: Family) -> usize {
    match family {
        Family::Ipv4 => 0,
        Family::Ipv6 => 1,
    }
}
