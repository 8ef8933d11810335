//! The counters of rules, which follow their rules to another configuration.

use std::{collections::BTreeMap, path::Path};

use anyhow::Result;
use aya::{
    maps::{Map, MapData, PerCpuArray, PerCpuValues},
    util::nr_cpus,
};
use linkbal_common::{counter::RuleCounters, maps, rule::ACTIONS};

use super::Datapath;

impl Datapath {
    /// Returns the use of each rule, summed over all CPUs; that of flows that no rule matches is the
    /// last one.
    ///
    /// # Errors
    ///
    /// If the map cannot be read.
    pub fn rule_counters(&self) -> Result<Vec<RuleCounters>> {
        sums(&self.per_cpu_array(maps::RULE_COUNTERS)?)
    }

    /// Begins with the counters of the datapath that is pinned in a folder, whose rules have the new
    /// numbers in `rules`. What it counts from now on until this one is in force is lost.
    ///
    /// # Errors
    ///
    /// If a map cannot be read or written.
    pub fn carry_rule_counters(&mut self, from: &Path, rules: &BTreeMap<u32, u32>) -> Result<()> {
        // An earlier version has no such map.
        let Ok(map) = MapData::from_pin(from.join(maps::RULE_COUNTERS::NAME)) else {
            return Ok(());
        };
        let before = sums(&PerCpuArray::try_from(Map::PerCpuArray(map))?)?;
        let cpus = nr_cpus().map_err(|(_, error)| error)?;
        let mut map = self.per_cpu_array_mut(maps::RULE_COUNTERS)?;
        for (old, new) in rules {
            let Some(counters) = before.get(*old as usize) else { continue };
            let mut each = vec![RuleCounters::default(); cpus];
            if let Some(first) = each.first_mut() {
                *first = *counters;
            }
            map.set(*new, PerCpuValues::try_from(each)?, 0)?;
        }
        Ok(())
    }
}

fn sums<T: std::borrow::Borrow<MapData>>(
    map: &PerCpuArray<T, RuleCounters>,
) -> Result<Vec<RuleCounters>> {
    let sum = |rule: u32| -> Result<RuleCounters> {
        let each = map.get(&rule, 0)?;
        Ok(each.iter().fold(RuleCounters::default(), |sum, cpu| RuleCounters {
            flows: sum.flows.saturating_add(cpu.flows),
            blocked: sum.blocked.saturating_add(cpu.blocked),
        }))
    };
    (0..ACTIONS as u32).map(sum).collect()
}
