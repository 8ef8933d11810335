//! Quality of usable uplinks, compared with the limits of the configuration.

use std::time::Duration;

use super::{
    Health,
    reason::{Exceeded, Measure},
    window::Window,
};
use crate::config::{Limits, Loss, Probe};

/// Time between two looks.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Number of probes since it came up, from which on the loss says something.
const ENOUGH: u64 = 20;

/// Share of a limit below which it counts as kept again.
const KEPT: f64 = 0.8;

/// The quality of one uplink and family.
#[derive(Clone, Debug, Default)]
pub(super) struct Quality {
    next_poll: Duration,
    /// Number of probes that had been settled when it came up: its state told the loss before that.
    settled_before: u64,
    /// Number of looks in a row that found a limit exceeded.
    over: u32,
    /// Limits that are exceeded, and by how much, once it is degraded.
    degraded: Option<Vec<Exceeded>>,
    /// Time since which all limits are kept with a margin.
    kept_since: Option<Duration>,
}

impl Quality {
    /// Creates the quality of an uplink whose state just changed.
    pub(super) fn new(window: &Window) -> Quality {
        Quality { settled_before: window.settled(), ..Quality::default() }
    }

    /// Returns the limits that are exceeded when `share` of them is allowed.
    fn exceeded(&self, limits: &Limits, window: &Window, share: f64) -> Vec<Exceeded> {
        let newest = window.settled().saturating_sub(self.settled_before);
        let loss = (newest >= ENOUGH).then(|| window.loss_of_newest(newest));
        let millis = |time: Duration| time.as_secs_f64() * 1000.0;
        let each = [
            (Measure::Loss, loss.map(|loss| loss * 100.0), limits.loss.map(Loss::percent)),
            (Measure::Latency, window.latency().map(millis), limits.latency.map(millis)),
            (Measure::Jitter, window.jitter().map(millis), limits.jitter.map(millis)),
        ];
        let exceeded = each.into_iter().filter_map(|(measure, value, limit)| {
            let (value, limit) = value.zip(limit)?;
            (value > limit * share).then_some(Exceeded { measure, value, limit })
        });
        exceeded.collect()
    }

    /// Compares the window of a usable uplink with the limits, if that is due.
    pub(super) fn look(&mut self, probe: &Probe, window: &Window, now: Duration) {
        if probe.limits == Limits::default() || now < self.next_poll {
            return;
        }
        let over = self.exceeded(&probe.limits, window, 1.0);
        let kept = self.exceeded(&probe.limits, window, KEPT).is_empty();
        self.next_poll = now + POLL_INTERVAL;
        self.over = if over.is_empty() { 0 } else { self.over.saturating_add(1) };
        if self.over >= probe.failure_count {
            self.degraded = Some(over);
        }
        let kept_since = *self.kept_since.get_or_insert(now);
        if !kept {
            self.kept_since = None;
        } else if now >= kept_since + probe.hold {
            self.degraded = None;
        }
    }
}

impl Health {
    /// Returns the limits that it exceeds, and by how much, if it is degraded.
    pub fn degraded(&self) -> Option<&[Exceeded]> {
        self.quality.degraded.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::super::simulation::{Simulation, ms, probe};
    use super::{Limits, Loss};
    use crate::config::Probe;

    const fn limits(loss: Option<Loss>, latency: Option<u64>) -> Limits {
        let latency = match latency {
            Some(latency) => Some(ms(latency)),
            None => None,
        };
        Limits { loss, latency, jitter: None }
    }

    fn simulation(limits: Limits) -> Simulation {
        Simulation::new(7, Probe { limits, ..probe() })
    }

    #[test]
    fn latency_over_its_limit_is_told_and_ends_with_a_margin_and_the_hold_time() {
        let mut run = simulation(limits(None, Some(300)));
        run.run_until(ms(10_000), &mut |_, _| Some(ms(290)));
        assert_eq!(run.health.degraded(), None);
        run.run_until(ms(20_000), &mut |_, _| Some(ms(350)));
        let limits = run.health.degraded().expect("degraded");
        assert_eq!(limits.len(), 1);
        assert_eq!(limits[0].to_string(), "latency 350.0 ms (limit 300 ms)");
        assert_eq!(run.changes, []);
        // Below the limit, but not by enough.
        run.run_until(ms(60_000), &mut |_, _| Some(ms(270)));
        assert!(run.health.degraded().is_some());
        run.run_until(ms(64_000), &mut |_, _| Some(ms(100)));
        assert!(run.health.degraded().is_some(), "before the hold time is over");
        run.run_until(ms(68_000), &mut |_, _| Some(ms(100)));
        assert_eq!(run.health.degraded(), None);
    }

    #[test]
    fn loss_needs_more_than_a_few_probes_and_three_looks() {
        let mut run = simulation(limits(Some(Loss::percent_of(5)), None));
        run.run_until(ms(800), &mut |_, random| (random.share() >= 0.3).then_some(ms(10)));
        assert_eq!(run.health.degraded(), None);
        run.run_until(ms(10_000), &mut |_, random| (random.share() >= 0.3).then_some(ms(10)));
        assert!(run.health.degraded().is_some_and(|limits| limits[0].limit == 5.0));
        assert_eq!(run.changes, []);
    }

    #[test]
    fn what_was_lost_while_it_was_down_does_not_degrade_it() {
        let mut run = simulation(limits(Some(Loss::percent_of(5)), None));
        run.run_until(ms(5000), &mut |_, _| Some(ms(10)));
        run.run_until(ms(9000), &mut |_, _| None);
        let mut degraded = false;
        for end in (9000..40_000).step_by(100) {
            run.run_until(ms(end), &mut |_, _| Some(ms(10)));
            degraded |= run.health.degraded().is_some();
        }
        assert_eq!((run.changes.len(), degraded), (2, false));
    }
}
