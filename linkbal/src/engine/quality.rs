//! Consequences of the uplinks' quality, besides their verdicts.

use std::time::Duration;

use linkbal_common::uplink::Family;

use super::{Command, Engine, Report, uplinks::position};

impl Engine {
    /// Reports which uplinks are degraded or no longer so, lets new flows avoid them, and moves
    /// flows back.
    pub(super) fn follow_quality(&mut self, now: Duration) {
        for uplink in &mut self.uplinks {
            for family in Family::ALL {
                let degraded = uplink.health[position(family)].degraded();
                let told = &mut uplink.degraded[position(family)];
                if degraded.is_some() != *told {
                    *told = degraded.is_some();
                    self.commands.push_back(Command::Report(Report::Quality {
                        uplink: uplink.indexed.uplink.name.clone(),
                        family,
                        degraded: degraded.map(str::to_owned),
                    }));
                }
            }
        }
        // The datapath is told for the first time with everything else.
        if self.avoided.is_some() {
            self.tell_avoided();
        }
        self.reclaim(now);
    }
}
