//! Full uplinks, which new flows avoid.

use std::{collections::BTreeMap, time::Duration};

use linkbal_common::uplink::{Family, UpMask};

use super::load::Counts;
use crate::engine::{
    report::Report,
    uplinks::{UplinkState, Uplinks},
};

/// Stores new counters, and judges the loads. Returns reports of the uplinks that become full or
/// no longer are.
pub(in crate::engine) fn count(
    counts: &Counts,
    uplinks: &mut Uplinks,
    now: Duration,
) -> Vec<Report> {
    let mut sharing: BTreeMap<String, u32> = BTreeMap::new();
    for uplink in uplinks.iter() {
        *sharing.entry(uplink.config.interface.clone()).or_default() += 1;
    }
    let mut reports = Vec::new();
    for uplink in uplinks.iter_mut() {
        let interface = &uplink.config.interface;
        let own = counts.uplinks.get(&uplink.index);
        let traffic: Vec<_> = match (sharing[interface] > 1, counts.interfaces.get(interface)) {
            (true, _) => own.into_iter().copied().collect(),
            (false, all) => all.into_iter().chain(own.filter(|_| all.is_some())).copied().collect(),
        };
        uplink.load.count(&traffic, now);
        reports.extend(judge(uplink, now));
    }
    reports
}

/// Judges the load, and returns a report if the uplink becomes full or no longer is.
fn judge(uplink: &mut UplinkState, now: Duration) -> Option<Report> {
    let config = &uplink.config;
    let (capacity, spillover) = config.capacity.zip(config.spillover)?;
    let full = uplink.load.judge(capacity, f64::from(spillover) / 1000.0, now)?;
    let percent = (uplink.load.share(capacity) * 100.0).round() as u32;
    Some(Report::Load { uplink: config.name.clone(), full, percent })
}

/// Returns the full uplinks, in each family in which one of `usable` is not full.
pub(in crate::engine) fn full(uplinks: &Uplinks, usable: UpMask) -> UpMask {
    let mut full = UpMask::default();
    for family in Family::ALL {
        let filled = uplinks.iter().filter(|uplink| uplink.load.is_full());
        let with = filled.fold(full, |mask, uplink| mask.with(uplink.index, family, true));
        if usable.without(with).family(family) != 0 {
            full = with;
        }
    }
    full
}
