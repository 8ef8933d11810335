//! Drills: an uplink becomes a black hole for a while, to see what happens.
//!
//! A drill cannot outlast its time: its programs end it by the clock, whatever happens to the
//! daemon. With tcx they also end with the daemon's last descriptor.

use std::time::Duration;

use anyhow::{Context as _, Result};
use aya::programs::{TcAttachType, tc::SchedClassifierLink};
use linkbal_common::{drill::Drill, maps, names, packet::EthernetHeader};
use nix::time::{ClockId, clock_gettime};

use super::{Datapath, program::loaded_program};
use crate::engine::kernel::network::Link;

/// A black hole, which ends when this is dropped.
#[derive(Debug)]
pub struct BlackHole {
    _links: [SchedClassifierLink; 2],
}

impl Datapath {
    /// Drops on `link`, for `time`, the packets that `drill` selects; its end and header are filled
    /// in here.
    ///
    /// # Errors
    ///
    /// If the kernel refuses the programs; then nothing is dropped.
    pub fn install_black_hole(
        &mut self,
        link: &Link,
        drill: Drill,
        time: Duration,
    ) -> Result<BlackHole> {
        let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?);
        let until_ns =
            u64::try_from(now.saturating_add(time).as_nanos()).context("too long a drill")?;
        let header = if link.ethernet { size_of::<EthernetHeader>() as u32 } else { 0 };
        let [ingress, egress] = names::DRILL_PROGRAMS;
        // The map tells the programs to drop nothing until both are there.
        self.array_mut(maps::DRILL)?.set(0, Drill::default(), 0)?;
        let links = [
            self.attach_drill(ingress, link, TcAttachType::Ingress)?,
            self.attach_drill(egress, link, TcAttachType::Egress)?,
        ];
        self.array_mut(maps::DRILL)?.set(0, Drill { until_ns, header, ..drill }, 0)?;
        // Packets at the driver would miss the programs of the drill.
        self.attachments.drivers.pause(&mut self.ebpf, Some(link.ifindex));
        Ok(BlackHole { _links: links })
    }

    /// Removes a black hole.
    pub fn remove_black_hole(&mut self, hole: BlackHole) {
        drop(hole);
        self.attachments.forget_drill();
        self.attachments.drivers.pause(&mut self.ebpf, None);
    }

    /// Returns the number of packets that drills have dropped so far.
    ///
    /// # Errors
    ///
    /// If the map cannot be read.
    pub fn drilled(&self) -> Result<u64> {
        let map = self.per_cpu_array(maps::DRILLED)?;
        Ok(map.get(&0, 0)?.iter().sum())
    }

    fn attach_drill(
        &mut self,
        name: &str,
        link: &Link,
        side: TcAttachType,
    ) -> Result<SchedClassifierLink> {
        let program = loaded_program(&mut self.ebpf, name)?;
        let attached = self.attachments.attach_drill(program, &link.name, side);
        attached.with_context(|| format!("failed to attach {name} to {}", link.name))
    }
}
