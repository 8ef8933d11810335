//! Counters of the datapath, summed over all CPUs.

use anyhow::Result;
use linkbal_common::{
    counter::{Counter, UplinkCounters},
    maps,
    quota::{Host, Quota},
    uplink::MAX_UPLINKS,
};

use super::Datapath;

impl Datapath {
    /// Returns the number of packets by outcome, summed over all CPUs, in the order of
    /// [`Counter::ALL`].
    pub fn counters(&self) -> Result<Vec<(Counter, u64)>> {
        let map = self.per_cpu_array(maps::COUNTERS)?;
        let each = map.get(&0, 0)?;
        // Packets that take shortcuts are those of known flows, too.
        let shortcuts = self.shortcut_packets()?.into_iter().map(|[up, _]| up);
        let shortcuts = shortcuts.fold(0, u64::saturating_add);
        let sum = |counter: Counter| {
            let short = if matches!(counter, Counter::FlowKnown) { shortcuts } else { 0 };
            each.iter().map(|cpu| cpu.get(counter)).fold(short, u64::saturating_add)
        };
        Ok(Counter::ALL.map(|counter| (counter, sum(counter))).into())
    }

    /// Returns the value of one counter, summed over all CPUs.
    pub fn counter(&self, counter: Counter) -> Result<u64> {
        let map = self.per_cpu_array(maps::COUNTERS)?;
        Ok(map.get(&0, 0)?.iter().map(|cpu| cpu.get(counter)).sum())
    }

    /// Returns the number of packets that took shortcuts from the LAN and to it, by uplink index, summed
    /// over all CPUs.
    pub fn shortcut_packets(&self) -> Result<[[u64; 2]; MAX_UPLINKS]> {
        let map = self.per_cpu_array(maps::SHORTCUT_COUNTERS)?;
        let mut sums = [[0u64; 2]; MAX_UPLINKS];
        for (index, sums) in (0..).zip(&mut sums) {
            for cpu in map.get(&index, 0)?.iter() {
                sums[0] = sums[0].saturating_add(cpu.traffic.packets);
                sums[1] = sums[1].saturating_add(cpu.down);
            }
        }
        Ok(sums)
    }

    /// Returns the number of entries that each host has stored.
    pub fn quotas(&self) -> Result<Vec<(Host, Quota)>> {
        let mut quotas = Vec::new();
        self.for_each(maps::HOSTS, |host, quota| quotas.push((*host, *quota)))?;
        Ok(quotas)
    }

    /// Returns the traffic by uplink index, summed over all CPUs.
    pub fn uplink_counters(&self) -> Result<[UplinkCounters; MAX_UPLINKS]> {
        let map = self.per_cpu_array(maps::UPLINK_COUNTERS)?;
        let shortcuts = self.per_cpu_array(maps::SHORTCUT_COUNTERS)?;
        let add = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more);
        let mut sums = [UplinkCounters::default(); MAX_UPLINKS];
        for (index, sum) in sums.iter_mut().enumerate() {
            let (others, shortcuts) =
                (map.get(&(index as u32), 0)?, shortcuts.get(&(index as u32), 0)?);
            for cpu in others.iter().chain(shortcuts.iter().map(|cpu| &cpu.traffic)) {
                add(&mut sum.packets, cpu.packets);
                add(&mut sum.bytes, cpu.bytes);
                add(&mut sum.flows_new, cpu.flows_new);
                add(&mut sum.flows_moved_in, cpu.flows_moved_in);
                add(&mut sum.answers, cpu.answers);
                add(&mut sum.answers_ipv6, cpu.answers_ipv6);
                add(&mut sum.answer_bytes, cpu.answer_bytes);
                add(&mut sum.connects, cpu.connects);
                add(&mut sum.connects_answered, cpu.connects_answered);
                add(&mut sum.handshake_ms, cpu.handshake_ms);
                let networks = sum.networks.iter_mut().zip(&cpu.networks);
                for (sum, cpu) in networks.flat_map(|(sum, cpu)| sum.iter_mut().zip(cpu)) {
                    *sum = sum.wrapping_add(*cpu);
                }
            }
        }
        Ok(sums)
    }
}
