//! The state of an uplink in words, for the status.

use std::time::Duration;

use super::{
    Health,
    reason::{Reason, Reasons},
    state::State,
};

impl Health {
    /// Explains the state, with all that people want to know besides.
    pub fn explain(&self, now: Duration) -> Reasons {
        let mut reasons = self.reason().clone();
        reasons.more.extend(self.degraded().map(|limits| Reason::Degraded(limits.to_vec())));
        reasons.more.extend(self.unsent_probes(now).map(|unsent| {
            let lasted = Duration::from_secs(now.saturating_sub(unsent.since).as_secs());
            Reason::NotProbed { lasted, unprobed: unsent.probes }
        }));
        if self.state != State::Down || !self.ready {
            return reasons;
        }
        let hold = self.hold();
        reasons.more.push(match self.streak.good_since {
            Some(since) => {
                let left = (since + hold).saturating_sub(now).as_secs_f64().ceil();
                Reason::ComesBackIn(Duration::from_secs_f64(left))
            }
            None if self.fresh => Reason::ComesBackAtOnce,
            None => Reason::ComesBackWhenWell(hold),
        });
        let times = self.damping.lately(now);
        reasons.more.extend((times > 1).then_some(Reason::WentDown(times)));
        reasons
    }
}
