//! Weights that follow the free capacity, if the configuration wants it.
//!
//! The weight of an uplink with a capacity is multiplied by the part of it that is free, but at
//! least by [`MIN_WEIGHT_PART`]: new flows prefer lines with room, and none starves for long. The weights
//! change at most every [`INTERVAL`], and only by more than [`STEP`]; each change moves the fewest
//! buckets, and live flows stay where they are. Weights that rules give are kept.

use std::{collections::BTreeMap, time::Duration};

use crate::engine::{
    command::Command,
    context::{Context, Output},
    uplinks::UplinkState,
};

/// Least time between two changes.
const INTERVAL: Duration = Duration::from_secs(10);

/// The part of its weight that an uplink always keeps.
const MIN_WEIGHT_PART: f64 = 0.2;

/// The least relative change of a weight that is worth moving buckets.
const STEP: f64 = 0.1;

/// The number that stands for a weight of 1, so that parts of it are whole numbers.
const SCALE: f64 = 1000.0;

/// The weights as they follow the loads.
#[derive(Debug, Default)]
pub(in crate::engine) struct Weights {
    /// Factors by index of the uplink; 1 for those that are missing.
    by_uplink: BTreeMap<u32, f64>,
    compared: Option<Duration>,
}

impl Weights {
    /// Changes the weights if the loads require it.
    pub(in crate::engine) fn update(&mut self, context: &Context, output: &mut Output) {
        let uplinks = context.uplinks.iter();
        let wanted = uplinks.map(|uplink| (uplink.index, free(uplink))).collect();
        if context.config.adaptive && self.replace(wanted, context.now) {
            self.set(context, output);
        }
    }

    /// Tells the datapath the current weights of another configuration.
    pub(in crate::engine) fn reconfigure(&mut self, context: &Context, output: &mut Output) {
        if !context.config.adaptive {
            *self = Weights::default();
        } else if context.snapshot.is_some() {
            self.set(context, output);
        }
    }

    fn set(&self, context: &Context, output: &mut Output) {
        let weights = context.uplinks.iter().map(|uplink| {
            let weight = f64::from(uplink.config.weight) * SCALE * self.of(uplink.index);
            (uplink.index, weight.round() as u32)
        });
        output.push(Command::SetWeights(weights.collect()));
    }

    /// Returns the factor of the uplink with an index.
    pub(in crate::engine) fn of(&self, index: u32) -> f64 {
        self.by_uplink.get(&index).copied().unwrap_or(1.0)
    }

    /// Takes over `wanted` if it is time and worth it, and returns whether it did.
    fn replace(&mut self, wanted: BTreeMap<u32, f64>, now: Duration) -> bool {
        if self.compared.is_some_and(|compared| now < compared + INTERVAL) {
            return false;
        }
        self.compared = Some(now);
        let differs = |(index, factor): (&u32, &f64)| {
            let before = self.of(*index);
            (factor - before).abs() > STEP * before
        };
        let worth = wanted.iter().any(differs);
        if worth {
            self.by_uplink = wanted;
        }
        worth
    }
}

/// Returns the free part of an uplink's capacity; all of it if the capacity is not known.
fn free(uplink: &UplinkState) -> f64 {
    let capacity = uplink.config.capacity;
    capacity.map_or(1.0, |capacity| (1.0 - uplink.load.share(capacity)).clamp(MIN_WEIGHT_PART, 1.0))
}
