//! The load of the uplinks, and which of them are full.
//!
//! Rates come from counters that are read about once a second, smoothed over `SMOOTHING`. The
//! counters of an uplink's interface cover all traffic: that of the LAN and local traffic. Some drivers
//! leave out what passes at the driver itself; the datapath counts that, but the LAN's packets alone: the
//! larger of both counts. Uplinks that share an interface are told apart by the datapath.
//!
//! An uplink is full once the rate has been at `spillover` of the capacity or above for `FILLING`,
//! in either direction, and no longer once both have been below `RELIEF` of that for `EMPTYING`.
//! New flows avoid a full uplink, as they avoid a drained one: its flows and living sessions stay.
//! Every bucket ranks all uplinks, so the others of its tier come next, and then those of the next
//! tier. If all uplinks that new flows could use are full, none is avoided: they are shared by
//! weight as if none were.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::config::Capacity;

/// Time constant of the moving average.
const SMOOTHING: Duration = Duration::from_secs(3);

/// Time for which an uplink must be loaded until it is full.
const FILLING: Duration = Duration::from_secs(2);

/// Time for which a full uplink must be relieved until it is no longer full.
const EMPTYING: Duration = Duration::from_secs(5);

/// The part of the limit below which a full uplink is relieved.
const RELIEF: f64 = 0.8;

/// Least time between two readings of the counters: a shorter one says little about a rate.
const MIN_INTERVAL: Duration = Duration::from_millis(500);

/// Bytes of an uplink in each direction, since some moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Octets {
    /// Bytes from the provider.
    pub down: u64,
    /// Bytes to the provider.
    pub up: u64,
}

/// The counters of one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Counts {
    /// Counters of interfaces, by name; those that do not exist are left out.
    pub interfaces: BTreeMap<String, Octets>,
    /// Counters of the LAN's packets, by index of the uplink.
    pub uplinks: BTreeMap<u32, Octets>,
}

/// The load of one uplink.
#[derive(Clone, Debug, Default)]
pub struct Load {
    last: Option<(Duration, Vec<Octets>)>,
    /// Smoothed bits per second, down and up.
    rates: [f64; 2],
    full: bool,
    /// Time since which the rates contradict `full`.
    contradicted: Option<Duration>,
}

impl Load {
    /// Returns the smoothed rate from the provider, in bits per second.
    pub const fn down(&self) -> f64 {
        self.rates[0]
    }

    /// Returns the smoothed rate to the provider, in bits per second.
    pub const fn up(&self) -> f64 {
        self.rates[1]
    }

    /// Returns whether new flows should use other uplinks.
    pub const fn is_full(&self) -> bool {
        self.full
    }

    /// Returns the used part of the capacity, of the busier direction.
    pub fn share(&self, capacity: Capacity) -> f64 {
        (self.down() / capacity.down as f64).max(self.up() / capacity.up as f64)
    }

    /// Stores the counters of `now`, of which the one that grew most says the rate, in each direction. Without
    /// any, nothing flows.
    pub(in crate::engine) fn count(&mut self, counters: &[Octets], now: Duration) {
        if counters.is_empty() {
            self.last = None;
            self.rates = [0.0; 2];
            return;
        }
        let Some((then, before)) = &self.last else {
            self.last = Some((now, counters.into()));
            return;
        };
        let elapsed = now.saturating_sub(*then);
        if elapsed < MIN_INTERVAL {
            return;
        }
        // The counters of a recreated interface begin at zero.
        let passed = |of: fn(&Octets) -> u64| {
            let each = counters.iter().zip(before);
            each.map(|(after, before)| of(after).saturating_sub(of(before))).max().unwrap_or(0)
        };
        let passed = [passed(|octets| octets.down), passed(|octets| octets.up)];
        let weight = 1.0 - (-elapsed.as_secs_f64() / SMOOTHING.as_secs_f64()).exp();
        for (rate, bytes) in self.rates.iter_mut().zip(passed) {
            *rate += weight * (8.0 * bytes as f64 / elapsed.as_secs_f64() - *rate);
        }
        self.last = Some((now, counters.into()));
    }

    /// Forgets the last counters: those that follow may be others.
    pub(in crate::engine) fn restart(&mut self) {
        self.last = None;
    }

    /// Forgets whether the uplink is full, since that has another meaning now.
    pub(in crate::engine) const fn judge_anew(&mut self) {
        self.full = false;
        self.contradicted = None;
    }

    /// Returns whether the uplink is full, if that changed. It becomes full from `limit` on, a part
    /// of the capacity.
    pub(in crate::engine) fn judge(
        &mut self,
        capacity: Capacity,
        limit: f64,
        now: Duration,
    ) -> Option<bool> {
        let share = self.share(capacity);
        let (contradicts, hold) = match self.full {
            true => (share < limit * RELIEF, EMPTYING),
            false => (share >= limit, FILLING),
        };
        if !contradicts {
            self.contradicted = None;
            return None;
        }
        let since = *self.contradicted.get_or_insert(now);
        if now.saturating_sub(since) < hold {
            return None;
        }
        self.contradicted = None;
        self.full = !self.full;
        Some(self.full)
    }
}

#[cfg(test)]
mod tests;
