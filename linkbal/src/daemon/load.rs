//! What the engine must know of the load, and the weights that follow it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use linkbal_common::bucket::BUCKETS;

use super::{Daemon, kernel_task::Task};
use crate::engine::load::Octets;

impl Daemon {
    /// Lets the counters be read; they come back as an event.
    pub(super) fn count_octets(&self) -> Result<()> {
        let counters = self.datapath.uplink_counters()?;
        let uplinks = self.engine.uplinks().iter().map(|uplink| {
            let of = &counters[uplink.indexed.index as usize];
            (uplink.indexed.index, Octets { down: of.answer_bytes, up: of.bytes })
        });
        let interfaces = self.config.uplinks.iter().map(|uplink| uplink.interface.clone());
        let interfaces: BTreeSet<String> = interfaces.collect();
        self.ask_kernel(Task::Count(interfaces.into_iter().collect(), uplinks.collect()));
        Ok(())
    }

    /// Writes only the buckets of flows without a rule: others keep their weights.
    pub(super) fn set_weights(&mut self, weights: &BTreeMap<u32, u32>) -> Result<()> {
        let uplinks: Vec<_> =
            self.engine.uplinks().iter().map(|uplink| uplink.indexed.clone()).collect();
        self.policy.set_weights(&uplinks, weights);
        self.datapath.set_buckets(&self.policy.buckets[..BUCKETS as usize])
    }
}
