//! The number of live flows of each uplink, for the status.
//!
//! To count a million entries takes half a second: it is done by who needs it, beside the main loop,
//! and not again for some seconds.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Result;
use linkbal_common::uplink::MAX_UPLINKS;

use crate::sys::{
    datapath::flows::{self, FlowTable},
    host::descriptors,
};

/// Shortest time for which a count is used again, and how much longer it is than it took to count.
const MIN_AGE: Duration = Duration::from_secs(2);
const FACTOR: u32 = 20;

/// Numbers of live flows, by uplink index.
pub(super) type Counts = [u64; MAX_UPLINKS];

/// The last count; clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct LiveFlows(Arc<Mutex<Option<Count>>>);

#[derive(Clone, Debug)]
struct Count {
    maps: PathBuf,
    counts: Counts,
    /// Time until which it is used.
    until: Instant,
}

impl LiveFlows {
    /// Returns the live flows in the maps that are pinned in a folder; `None` if they cannot be counted.
    /// Blocks while somebody counts.
    pub(super) fn get(&self, maps: &Path) -> Option<Counts> {
        // A panic while it was locked came between two complete counts.
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = Instant::now();
        if let Some(count) = last.as_ref().filter(|last| last.until > begun && last.maps == maps) {
            return Some(count.counts);
        }
        let counts = count(maps).inspect_err(|error| tracing::warn!("{error:#}")).ok();
        let used = begun.elapsed().saturating_mul(FACTOR).max(MIN_AGE);
        let until = Instant::now().checked_add(used).unwrap_or(begun);
        *last = counts.map(|counts| Count { maps: maps.to_owned(), counts, until });
        counts
    }
}

fn count(maps: &Path) -> Result<Counts> {
    let lent = descriptors::lend();
    let table = FlowTable::open(maps)?;
    let situation = flows::situation(maps)?;
    drop(lent);
    let mut counts = Counts::default();
    table.for_each_part(|entries, _| {
        for (key, flow) in entries {
            if situation.is_live(&key, &flow)
                && let Some(count) = counts.get_mut(flow.uplink as usize)
            {
                *count = count.saturating_add(1);
            }
        }
        ControlFlow::Continue(())
    })?;
    Ok(counts)
}
