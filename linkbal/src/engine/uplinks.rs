//! The uplinks and their state.

use std::{
    collections::BTreeMap,
    mem,
    ops::{Deref, DerefMut},
    sync::Arc,
    time::Duration,
};

use linkbal_common::uplink::{Family, UpMask};

use super::{
    admin::AdminState,
    balance::load::Load,
    health::{Health, HealthEvent, State, Transition, traffic::TrafficMonitor},
    indexed::Indexed,
    kernel::nexthop,
    report::Report,
};
use crate::{
    config::{OnDegraded, Uplink},
    per_family::PerFamily,
};

/// One uplink as the engine sees it.
#[derive(Debug)]
pub struct UplinkState {
    /// The index that its bits, fwmark and table come from.
    pub index: u32,
    /// Configuration of the uplink.
    pub config: Arc<Uplink>,
    /// The state that the administrator wants.
    pub admin: AdminState,
    /// Health by family.
    pub health: PerFamily<Health>,
    /// Load of the uplink.
    pub load: Load,
    /// Set if the uplink was ever seen ready in the family, or is configured to be.
    pub(super) present: PerFamily<bool>,
    /// Set if the uplink has an IPv4 address. One without a way out is reported as a mistake; IPv6
    /// ones may be meant for the local network.
    pub(super) has_ipv4: bool,
    /// Set if the uplink went down, and connection tracking has yet to forget its flows.
    pub(super) stale: PerFamily<bool>,
    /// Set if its virtual addresses were last seen elsewhere; `None` before the first look.
    pub(super) standby: PerFamily<Option<bool>>,
    /// Traffic of the uplink, and the answers to it.
    pub(super) traffic: TrafficMonitor,
    /// Set if it was last reported as degraded.
    pub(super) degraded: PerFamily<bool>,
}

impl UplinkState {
    /// Creates an uplink at the start; `up` are the uplinks that a running datapath has as usable,
    /// and `admin` the states that the administrator wants, by name of the uplink.
    pub(crate) fn new(
        indexed: Indexed,
        up: UpMask,
        admin: &BTreeMap<String, AdminState>,
        now: Duration,
    ) -> UplinkState {
        let Indexed { index, config } = indexed;
        UplinkState {
            index,
            admin: admin.get(&config.name).copied().unwrap_or_default(),
            health: PerFamily::from_fn(|family| {
                Health::new(config.probe.clone(), family, up.contains(index, family), now)
            }),
            has_ipv4: false,
            present: PerFamily::from_fn(|family| {
                config.carries(family) && nexthop::configured_gateway(&config, family).is_some()
            }),
            stale: PerFamily::default(),
            standby: PerFamily::default(),
            load: Load::default(),
            traffic: TrafficMonitor::default(),
            degraded: PerFamily::default(),
            config,
        }
    }

    /// Returns the configuration, with the index.
    pub fn indexed(&self) -> Indexed {
        Indexed { index: self.index, config: Arc::clone(&self.config) }
    }

    /// Returns the health in one family; `None` if the uplink only has the other one, or may only
    /// use that.
    pub fn family(&self, family: Family) -> Option<&Health> {
        if !self.config.carries(family) {
            return None;
        }
        let has = self.present[family] || self.present == PerFamily::default();
        let has = has || (family == Family::Ipv4 && self.has_ipv4);
        has.then(|| &self.health[family])
    }

    /// Returns whether there is more of a family than a chance: IPv6 that was never ready may not exist.
    pub fn is_there(&self, family: Family) -> bool {
        let only = family == Family::Ipv4 || !self.config.carries(Family::Ipv4);
        self.family(family).is_some() && (only || self.present[family])
    }

    /// Returns whether new flows of the family are to avoid the uplink for its quality.
    pub(super) fn is_degraded(&self, family: Family) -> bool {
        let avoids = self.config.probe.on_degraded == OnDegraded::Avoid;
        avoids && self.health[family].degraded().is_some()
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

/// The uplinks, in the order of their names.
#[derive(Debug, Default)]
pub struct Uplinks(Vec<UplinkState>);

impl Uplinks {
    /// Returns the uplink with an index.
    pub fn by_index(&self, index: u32) -> Option<&UplinkState> {
        self.0.iter().find(|uplink| uplink.index == index)
    }

    /// Returns the uplink with an index.
    pub(super) fn by_index_mut(&mut self, index: u32) -> Option<&mut UplinkState> {
        self.0.iter_mut().find(|uplink| uplink.index == index)
    }

    /// Sets the state that the administrator wants of an uplink; returns the report if it is another one.
    pub(super) fn set_admin(&mut self, index: u32, admin: AdminState) -> Option<Report> {
        let uplink = self.by_index_mut(index)?;
        let from = mem::replace(&mut uplink.admin, admin);
        let report = || Report::Admin { uplink: uplink.config.name.clone(), from, to: admin };
        (from != admin).then(report)
    }

    /// Returns the uplink with a name.
    pub fn by_name(&self, name: &str) -> Option<&UplinkState> {
        self.0.iter().find(|uplink| uplink.config.name == name)
    }

    /// Returns the configurations, with their indexes.
    pub fn indexed(&self) -> Vec<Indexed> {
        self.0.iter().map(UplinkState::indexed).collect()
    }

    /// Returns the uplinks that satisfy a condition, by family.
    pub(super) fn mask(&self, condition: impl Fn(&UplinkState, Family) -> bool) -> UpMask {
        let both = self.0.iter().flat_map(|uplink| Family::ALL.map(|family| (uplink, family)));
        let matching = both.filter(|(uplink, family)| condition(uplink, *family));
        matching
            .fold(UpMask::default(), |mask, (uplink, family)| mask.with(uplink.index, family, true))
    }

    /// Passes an event to the health of every uplink and family; returns what changed.
    pub(super) fn handle_all(
        &mut self,
        event: &HealthEvent<'_>,
        now: Duration,
    ) -> Vec<VerdictChange> {
        let mut verdicts = Vec::new();
        for uplink in &mut self.0 {
            for (family, health) in uplink.health.iter_mut() {
                let transition = health.handle(event, now);
                verdicts.extend(transition.map(|transition| VerdictChange {
                    uplink: uplink.index,
                    family,
                    transition,
                }));
            }
        }
        verdicts
    }
}

impl Deref for Uplinks {
    type Target = [UplinkState];

    fn deref(&self) -> &[UplinkState] {
        &self.0
    }
}

impl DerefMut for Uplinks {
    fn deref_mut(&mut self) -> &mut [UplinkState] {
        &mut self.0
    }
}

impl FromIterator<UplinkState> for Uplinks {
    fn from_iter<I: IntoIterator<Item = UplinkState>>(uplinks: I) -> Uplinks {
        Uplinks(uplinks.into_iter().collect())
    }
}

impl IntoIterator for Uplinks {
    type Item = UplinkState;
    type IntoIter = std::vec::IntoIter<UplinkState>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// A change of state of an uplink in one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct VerdictChange {
    /// Index of the uplink.
    pub(super) uplink: u32,
    /// The family.
    pub(super) family: Family,
    /// The change.
    pub(super) transition: Transition,
}
