//! The uplinks: which index each has, and how it fares.

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

/// Gives every uplink an index. One that had an index before keeps it, so that marks of live flows
/// stay true; the others take the lowest free ones in the order of their names, those of uplinks
/// that were configured before only when there are no others: flows may still carry their marks.
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

/// The indexes by name, with those of former uplinks that nobody else has taken.
pub fn indexes(uplinks: &[Indexed], before: &BTreeMap<String, u32>) -> BTreeMap<String, u32> {
    let taken = |index: &u32| uplinks.iter().any(|uplink| uplink.index == *index);
    let former = before.iter().filter(|(_, index)| !taken(index));
    let now = uplinks.iter().map(|each| (each.uplink.name.clone(), each.index));
    former.map(|(name, index)| (name.clone(), *index)).chain(now).collect()
}

/// What becomes of the flows of each uplink, as `Settings::on_down` says it. The connections of a
/// former uplink are reset as it was said before, which was `before`.
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
    /// What the administrator wants of it.
    pub admin: Admin,
    /// Health by family, in the order of [`Family::ALL`].
    pub health: [Health; 2],
    /// What it carries.
    pub load: Load,
    /// Whether it was ever seen ready in the family, or is configured to be.
    pub(super) present: [bool; 2],
    /// Whether it has an IPv4 address. One without a way out is a mistake that is told; IPv6 ones
    /// may be meant for the neighbourhood.
    pub(super) has_ipv4: bool,
    /// It went down, and what conntrack knows of its flows is yet to be forgotten.
    pub(super) stale: [bool; 2],
    /// Whether its virtual addresses were last seen elsewhere, by family.
    pub(super) standby: [Option<bool>; 2],
    /// What its traffic tells.
    pub(super) watch: Watch,
    /// Whether its flows are to be moved back, by family.
    pub(super) debt: [Debt; 2],
    /// Whether it was last said to be degraded, by family.
    pub(super) degraded: [bool; 2],
}

impl UplinkState {
    /// An uplink at the start; `up` is what a running datapath has as usable.
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

    /// Health in one family; `None` if the uplink only has the other one, or may only use that.
    pub fn family(&self, family: Family) -> Option<&Health> {
        if !self.indexed.uplink.carries(family) {
            return None;
        }
        let has = self.present[position(family)] || self.present == [false; 2];
        let has = has || (family == Family::Ipv4 && self.has_ipv4);
        has.then(|| &self.health[position(family)])
    }

    /// Whether new flows of the family are to avoid it for its quality.
    pub(super) fn is_degraded(&self, family: Family) -> bool {
        let avoids = self.indexed.uplink.probe.on_degraded == OnDegraded::Avoid;
        avoids && self.health[position(family)].degraded().is_some()
    }

    /// The state over both families: up if one is, else the one with more to say.
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
