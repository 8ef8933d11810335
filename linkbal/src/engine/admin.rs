//! The administrator's wishes for uplinks, besides their health.

use std::{mem, time::Duration};

use linkbal_common::uplink::{Family, UpMask};
use serde::{Deserialize, Serialize};

use super::{
    Command, Engine, Report, UplinkState,
    health::{State, Transition},
};

/// The administrator's wish for an uplink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Admin {
    /// The uplink is used as its health allows.
    #[default]
    Enabled,
    /// The uplink is down whatever its health, and is not probed.
    Disabled,
    /// The uplink keeps its flows, and new ones avoid it.
    Drained,
}

impl Admin {
    /// Returns the name, as in the status and in events.
    pub const fn name(self) -> &'static str {
        match self {
            Admin::Enabled => "enabled",
            Admin::Disabled => "disabled",
            Admin::Drained => "drained",
        }
    }
}

impl Engine {
    /// Stores the administrator's wish for the uplink with an index, and follows it.
    pub(super) fn set_admin(&mut self, index: u32, admin: Admin, now: Duration) {
        let Some(at) = self.uplinks.iter().position(|known| known.indexed.index == index) else {
            return;
        };
        let uplink = &mut self.uplinks[at];
        let from = mem::replace(&mut uplink.admin, admin);
        if from == admin {
            return;
        }
        let uplink = uplink.indexed.uplink.name.clone();
        self.commands.push_back(Command::Report(Report::Admin { uplink, from, to: admin }));
        self.tell_avoided();
        self.follow_admin(now);
        // An uplink that was enabled is probed at once.
        self.check_readiness(now);
    }

    /// Takes down uplinks that are disabled, and lets those that no longer are prove themselves.
    pub(super) fn follow_admin(&mut self, now: Duration) {
        let mut transitions: Vec<(usize, Family, Transition)> = Vec::new();
        for (at, uplink) in self.uplinks.iter_mut().enumerate() {
            let disabled = uplink.admin == Admin::Disabled;
            for (family, health) in Family::ALL.into_iter().zip(&mut uplink.health) {
                let transition = health.set_disabled(disabled, now);
                transitions.extend(transition.map(|transition| (at, family, transition)));
            }
        }
        self.follow_verdicts(transitions, now);
    }

    /// Tells the datapath which uplinks new flows should avoid, if that changed.
    pub(super) fn tell_avoided(&mut self) {
        let avoided = Some(self.avoided());
        if avoided != self.avoided {
            self.avoided = avoided;
            self.commands.extend(avoided.map(Command::SetAvoidMask));
        }
    }

    /// Returns the uplinks that new flows avoid as long as there are others: drained and degraded
    /// ones, those with an address or route that is held and may not come back, and of the rest the
    /// full ones.
    pub fn avoided(&self) -> UpMask {
        let others = self.mask_of(|uplink, family| {
            uplink.admin == Admin::Drained
                || uplink.is_degraded(family)
                || self.is_shaky(&uplink.indexed, family)
        });
        others.union(self.full(self.up.without(others)))
    }

    fn drained(&self) -> UpMask {
        self.mask_of(|uplink, _| uplink.admin == Admin::Drained)
    }

    fn mask_of(&self, wanted: impl Fn(&UplinkState, Family) -> bool) -> UpMask {
        let uplinks = self.uplinks.iter();
        let both = uplinks.flat_map(|uplink| Family::ALL.map(|family| (uplink, family)));
        let wanted = both.filter(|(uplink, family)| wanted(uplink, *family));
        wanted.fold(UpMask::default(), |mask, (uplink, family)| {
            mask.with(uplink.indexed.index, family, true)
        })
    }

    /// Returns the families in which no uplink is usable but drained ones, though without the
    /// administrator's wishes there might be one.
    pub fn families_without_choice(&self) -> Vec<Family> {
        let up = |family| self.up.family(family) & !self.drained().family(family);
        let wished_away = |family| {
            let mut uplinks = self
                .uplinks
                .iter()
                .filter_map(|uplink| Some((uplink.admin, uplink.family(family)?.state())));
            uplinks.any(|(admin, state)| {
                state == State::AdminDown || (admin == Admin::Drained && state == State::Up)
            })
        };
        let families = Family::ALL.into_iter();
        families.filter(|family| up(*family) == 0 && wished_away(*family)).collect()
    }
}
