//! Damping: an uplink that keeps going down stays out for longer each time.
//!
//! A verdict "down" less than ten minutes after the one before doubles the hold time, up to its
//! ceiling; each ten minutes without one halve it again.

use std::{collections::VecDeque, time::Duration};

use super::Health;
use crate::config::Probe;

const WINDOW: Duration = Duration::from_secs(600);

/// Number of verdicts that are remembered: more do not fit into the window at a sensible hold time.
const REMEMBERED: usize = 100;

/// Number of doublings that lead from any hold time beyond any ceiling.
const MAX_DOUBLINGS: u32 = 32;

/// The history of one uplink and family going down.
#[derive(Clone, Debug, Default)]
pub(super) struct Damping {
    downs: VecDeque<Duration>,
    /// Number of times that the hold time is doubled.
    doublings: u32,
}

impl Damping {
    pub(super) fn went_down(&mut self, now: Duration) {
        if let Some(last) = self.downs.back() {
            let quiet = (now - *last).as_secs() / WINDOW.as_secs();
            let fewer =
                self.doublings.saturating_sub(u32::try_from(quiet).unwrap_or(MAX_DOUBLINGS));
            self.doublings = if quiet == 0 { (fewer + 1).min(MAX_DOUBLINGS) } else { fewer };
        }
        if self.downs.len() == REMEMBERED {
            self.downs.pop_front();
        }
        self.downs.push_back(now);
    }

    /// Returns the time for which it must answer well before it comes back.
    fn hold(&self, probe: &Probe) -> Duration {
        let factor = 1u64 << self.doublings;
        let millis = u64::try_from(probe.hold.as_millis()).unwrap_or(u64::MAX);
        let hold = Duration::from_millis(millis.saturating_mul(factor));
        hold.min(probe.hold_max).max(probe.hold)
    }

    /// Returns how many times it went down in the last window.
    pub(super) fn lately(&self, now: Duration) -> usize {
        self.downs.iter().filter(|at| **at + WINDOW > now).count()
    }
}

impl Health {
    /// Returns the time for which it must answer well before it comes back.
    pub(super) fn hold(&self) -> Duration {
        self.damping.hold(&self.probe)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            State,
            simulation::{Simulation, ms, probe},
        },
        *,
    };

    /// Returns the seconds that the line took to come back, each time that it went down after `up`.
    fn outages(run: &mut Simulation, times: usize, up: Duration) -> Vec<u64> {
        let mut outages = Vec::new();
        for _ in 0..times {
            let end = run.now + up;
            run.run_until(end, &mut |_, _| Some(ms(10)));
            let end = run.now + ms(1000);
            run.run_until(end, &mut |_, _| None);
            assert_eq!(run.health.state(), State::Down);
            let mended = run.now;
            while run.health.state() == State::Down {
                let next = run.now + ms(100);
                run.run_until(next, &mut |_, _| Some(ms(10)));
            }
            outages.push((run.now - mended).as_secs());
        }
        outages
    }

    #[test]
    fn each_fall_doubles_the_hold_time_up_to_its_ceiling_and_quiet_halves_it() {
        let mut run = Simulation::new(1, Probe { hold_max: ms(60_000), ..probe() });
        assert_eq!(outages(&mut run, 6, ms(2000)), [5, 10, 20, 40, 60, 60]);
        assert_eq!(run.health.damping.doublings, 5);
        // Two quiet windows.
        assert_eq!(outages(&mut run, 1, 2 * WINDOW), [40]);
        assert_eq!(outages(&mut run, 1, 4 * WINDOW), [5]);
    }

    #[test]
    fn the_status_says_when_it_comes_back_and_why_so_late() {
        let mut run = Simulation::new(1, probe());
        outages(&mut run, 2, ms(2000));
        let end = run.now + ms(2000);
        run.run_until(end, &mut |_, _| None);
        let explained = run.health.explain(run.now).to_string();
        let end_of = "; comes back when well for 20 s: it went down 3 times in 10 minutes";
        assert!(explained.ends_with(end_of), "{explained}");
        let end = run.now + ms(5300);
        run.run_until(end, &mut |_, _| Some(ms(10)));
        let explained = run.health.explain(run.now).to_string();
        let end_of = "; coming back in 15 s: it went down 3 times in 10 minutes";
        assert!(explained.ends_with(end_of), "{explained}");
    }

    #[test]
    fn a_hold_time_of_nothing_stays_so() {
        let mut run = Simulation::new(1, Probe { hold: ms(0), ..probe() });
        assert_eq!(outages(&mut run, 4, ms(2000)), [1, 1, 1, 1]);
    }
}
