//! The state of an uplink in words, for the status.

use std::time::Duration;

use super::{Health, transition::State};
use crate::words::spoken;

impl Health {
    /// Explains the state, with all that people want to know besides.
    pub fn explain(&self, now: Duration) -> String {
        let mut text = self.reason().to_owned();
        if let Some(degraded) = self.degraded() {
            text = format!("{text}; degraded: {degraded}");
        }
        if let Some(unasked) = self.unsent_probes(now) {
            let lasts = Duration::from_secs(now.saturating_sub(unasked.since()).as_secs());
            text = format!("{text}; for {}: {}", spoken(lasts), unasked.explain());
        }
        if self.state != State::Down || !self.ready {
            return text;
        }
        let hold = self.hold();
        match self.streak.good_since {
            Some(since) => {
                let left = (since + hold).saturating_sub(now).as_secs_f64().ceil();
                let left = spoken(Duration::from_secs_f64(left));
                text = format!("{text}; coming back in {left}");
            }
            None if self.fresh => text = format!("{text}; comes back with its first answers"),
            None => text = format!("{text}; comes back when well for {}", spoken(hold)),
        }
        match self.damping.lately(now) {
            0 | 1 => text,
            times => format!("{text}: it went down {times} times in 10 minutes"),
        }
    }
}
