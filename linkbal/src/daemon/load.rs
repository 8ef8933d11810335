//! Counters for the engine's measure of the load, and the weights that follow it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use linkbal_common::bucket::BUCKETS;

use super::{Daemon, kernel_task::Task};
use crate::engine::balance::load::Octets;

impl Daemon {
    /// Starts a reading of the counters, whose result comes as an event, and keeps how many flows have
    /// begun, and the history.
    pub(super) fn count_octets(&mut self) -> Result<()> {
        let counters = self.datapath.uplink_counters()?;
        let begun = counters.map(|counters| counters.flows_new);
        self.recent_flows.record(self.now(), begun);
        self.record_history(&counters);
        let uplinks = self.engine.uplinks().iter().map(|uplink| {
            let of = &counters[uplink.index as usize];
            (uplink.index, Octets { down: of.answer_bytes, up: of.bytes })
        });
        let interfaces = self.config.uplinks.iter().map(|uplink| uplink.interface.clone());
        let interfaces: BTreeSet<String> = interfaces.collect();
        self.queue_task(Task::Count(interfaces.into_iter().collect(), uplinks.collect()));
        Ok(())
    }

    /// Writes new weights, to the buckets of flows without a rule only: others keep their weights.
    pub(super) fn set_weights(&mut self, weights: &BTreeMap<u32, u32>) -> Result<()> {
        let uplinks = self.engine.uplinks().indexed();
        self.policy.set_weights(&uplinks, weights);
        self.datapath.set_buckets(&self.policy.buckets[..BUCKETS as usize])
    }
}
