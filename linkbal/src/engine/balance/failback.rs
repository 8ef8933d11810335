//! Failback: flows that an uplink took over are moved back, if the configuration wants it.
//!
//! An uplink with `on_up = "reclaim"` gives its flows back once every better uplink was down: those of
//! better tiers, and for one without weight also those of its tier that have some. When one of them
//! has been usable, and not to be avoided, for `reclaim_after` without a break, the flows of the backup
//! are ended, and begin anew where new flows go.

use std::{collections::BTreeMap, time::Duration};

use linkbal_common::uplink::{Family, UpMask};

use crate::{
    config::{OnDown, OnUp},
    engine::{
        admin::AdminState,
        context::{Context, Output},
        datapath::Datapath,
        flows,
        health::State,
        uplinks::UplinkState,
    },
};

/// The flows to move back, by uplink. Those that are missing carry only flows that they were given
/// while there was a choice.
#[derive(Debug, Default)]
pub(in crate::engine) struct Failback {
    pending: BTreeMap<(u32, Family), Pending>,
}

/// Flows that an uplink took over from better ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pending {
    /// The better ones are not usable yet.
    Waiting,
    /// A better one is back: the flows are moved at this time.
    Due(Duration),
}

impl Failback {
    /// Forgets an uplink that is no longer configured.
    pub(in crate::engine) fn forget(&mut self, uplink: u32) {
        self.pending.retain(|(index, _), _| *index != uplink);
    }

    /// Moves flows back that are due; `avoided` are the uplinks that new flows avoid.
    pub(in crate::engine) fn update(
        &mut self,
        context: &Context,
        datapath: &Datapath,
        avoided: UpMask,
        output: &mut Output,
    ) {
        for uplink in context.uplinks.iter() {
            let OnUp::Reclaim { after } = uplink.config.on_up else {
                self.forget(uplink.index);
                continue;
            };
            for family in Family::ALL {
                let key = (uplink.index, family);
                let pending = self.pending.get(&key).copied();
                let pending = match (pending, preferred_tier(context, uplink, family, avoided)) {
                    (_, PreferredTier::Down) => Some(Pending::Waiting),
                    (Some(Pending::Due(_)), PreferredTier::Unknown) => Some(Pending::Waiting),
                    (pending, PreferredTier::Unknown) => pending,
                    (Some(Pending::Waiting), PreferredTier::Usable) => {
                        Some(Pending::Due(context.now + after))
                    }
                    (pending, PreferredTier::Usable) => pending,
                };
                match pending {
                    Some(Pending::Due(due)) if due <= context.now => {
                        self.pending.remove(&key);
                        flows::end(context, datapath, uplink.index, family, OnDown::Reset, output);
                    }
                    Some(pending) => {
                        self.pending.insert(key, pending);
                    }
                    None => {}
                }
            }
        }
    }

    /// Returns the time at which [`Self::update`] has something to do.
    pub(in crate::engine) fn deadline(&self) -> Option<Duration> {
        let due = |pending: &Pending| match pending {
            Pending::Due(due) => Some(*due),
            Pending::Waiting => None,
        };
        self.pending.values().filter_map(due).min()
    }
}

/// The state of the better uplinks.
enum PreferredTier {
    /// One of them is usable.
    Usable,
    /// One of them is to be avoided, or may turn out to be usable.
    Unknown,
    /// None of them is usable.
    Down,
}

fn preferred_tier(
    context: &Context,
    uplink: &UplinkState,
    family: Family,
    avoided: UpMask,
) -> PreferredTier {
    let better = context.uplinks.iter().filter(|other| other.config.is_better_than(&uplink.config));
    // The last uplink is not avoided, however unfit: flows that work are not moved to that.
    let unfit = |other: &UplinkState| {
        avoided.contains(other.index, family)
            || other.is_degraded(family)
            || other.admin == AdminState::Drained
    };
    let state = |other: &UplinkState| (other.health[family].state(), unfit(other));
    let states: Vec<_> = better.map(state).collect();
    if states.contains(&(State::Up, false)) {
        PreferredTier::Usable
    } else if states.iter().any(|(state, _)| matches!(state, State::Init | State::Up)) {
        PreferredTier::Unknown
    } else {
        PreferredTier::Down
    }
}
