//! The times at which connections without a mark are looked at, and the signs of their owners.

use std::time::Duration;

use linkbal_common::{mark::MarkMask, uplink::Family};

use super::{
    attribution::{Adoption, Owner},
    desired,
    network::Snapshot,
};
use crate::{
    config::Config,
    engine::{
        command::Command,
        context::{Context, Output},
        indexed::Indexed,
    },
};

/// The schedule of looks at connections.
#[derive(Debug, Default)]
pub(in crate::engine) struct AdoptionSchedule {
    /// Set while the nft table is being written.
    written: bool,
    due: Option<Duration>,
    quick: u8,
}

impl AdoptionSchedule {
    /// Notes that the nft table is written anew.
    pub(in crate::engine) const fn writing(&mut self) {
        self.written = true;
    }

    /// Notes that everything is in place.
    pub(in crate::engine) fn in_place(&mut self, now: Duration) {
        if std::mem::take(&mut self.written) {
            (self.due, self.quick) = (Some(now), TIMES);
        }
    }

    pub(in crate::engine) const fn due(&self) -> Option<Duration> {
        self.due
    }

    /// Returns whether a look is due, and schedules the next one.
    pub(in crate::engine) fn is_due(&mut self, now: Duration) -> bool {
        if self.due.is_none_or(|due| due > now) {
            return false;
        }
        self.quick = self.quick.saturating_sub(1);
        self.due = Some(now + if self.quick > 0 { QUICK } else { SLOW });
        true
    }
}

/// Requests a look at connections without a mark.
pub(in crate::engine) fn request(context: &Context, output: &mut Output) {
    let Some(snapshot) = &context.snapshot else { return };
    let adoption = adoption(&context.config, &context.uplinks.indexed(), snapshot);
    output.push(Command::AdoptConnections(adoption));
}

fn adoption(config: &Config, uplinks: &[Indexed], snapshot: &Snapshot) -> Adoption {
    let owner = |indexed: &Indexed| {
        let own = |family| desired::own(uplinks, indexed, snapshot, family);
        Owner {
            index: indexed.index,
            addresses: Family::ALL.into_iter().flat_map(own).map(|own| own.address).collect(),
            prefixes: indexed.config.prefixes().collect(),
            translates: desired::translated_families(&indexed.config),
        }
    };
    Adoption {
        mask: MarkMask(config.kernel.fwmark_mask),
        uplinks: uplinks.iter().map(owner).collect(),
        exempt: desired::exempt(config, uplinks),
        known: desired::bypass(&config.exempt, uplinks, snapshot),
    }
}

/// Time between two looks at connections once the table is in place.
const QUICK: Duration = Duration::from_millis(500);

/// Number of looks at that interval: packets that are under way begin some more connections.
const TIMES: u8 = 4;

/// Time between two looks from then on.
const SLOW: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_looked_at_often_at_first_and_then_seldom() {
        let mut schedule = AdoptionSchedule::default();
        assert!(!schedule.is_due(Duration::ZERO));
        schedule.in_place(Duration::ZERO);
        assert_eq!(schedule.due(), None, "nothing was written");
        schedule.writing();
        let begin = Duration::from_secs(9);
        schedule.in_place(begin);
        let mut now = begin;
        let mut times = Vec::new();
        while now < begin + Duration::from_secs(40) {
            if schedule.is_due(now) {
                times.push((now - begin).as_millis());
            }
            now += Duration::from_millis(100);
        }
        assert_eq!(times, [0, 500, 1000, 1500, 16_500, 31_500]);
    }
}
