//! Cables of a gateway whose partner may have a better one.
//!
//! keepalived hears of a cut cable when we do, and its partner takes over a few advertisements later.
//! Connections whose uplink failed here meanwhile would be reset and moved, though they live on at the
//! partner. So a carrier that is gone from an interface with virtual addresses is kept in the observation
//! for [`PARTNER_TIMEOUT`], and what is decided from it, verdicts, routes and rules, knows nothing of the cut.
//! Packets by that cable are lost until then. If the addresses go within that time, the gateway is on
//! standby; if not, the uplink fails as any other does.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use linkbal_common::uplink::Family;

use super::network::Snapshot;
use crate::{
    config::Uplink,
    engine::{
        health::{HealthEvent, Pause},
        uplinks::Uplinks,
    },
};

/// Time that the partner has to take over: several times what keepalived needs with ten
/// advertisements a second.
pub(in crate::engine) const PARTNER_TIMEOUT: Duration = Duration::from_secs(1);

/// The carrier of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carrier {
    /// Present; `is_master` if virtual addresses are, too. They may go before the carrier does.
    Here {
        is_master: bool,
    },
    LostAt(Duration),
}

/// The carriers of interfaces with virtual addresses.
#[derive(Debug, Default)]
pub(in crate::engine) struct Handover {
    /// Carriers by the index of the interface, of those that were seen with one.
    carriers: BTreeMap<u32, Carrier>,
}

impl Handover {
    /// Restores in an observation the carriers that are kept; `changed` is the interface that it has
    /// news of, `None` for all. Returns the time at which the next one is no longer.
    pub(in crate::engine) fn update(
        &mut self,
        uplinks: &mut Uplinks,
        snapshot: &mut Snapshot,
        changed: Option<u32>,
        now: Duration,
    ) -> Option<Duration> {
        let with_addresses =
            uplinks.iter().filter(|each| !each.config.virtual_addresses.is_empty());
        let interfaces: BTreeSet<u32> = with_addresses
            .filter_map(|each| Some(snapshot.link(&each.config.interface)?.ifindex))
            .collect();
        self.carriers.retain(|ifindex, _| interfaces.contains(ifindex));
        let is_news = |ifindex| changed.is_none_or(|changed| changed == ifindex);
        let mut deadlines = BTreeMap::new();
        for ifindex in interfaces {
            if let Some(until) =
                self.update_interface(ifindex, uplinks, snapshot, is_news(ifindex), now)
            {
                deadlines.insert(ifindex, until);
            }
        }
        for uplink in uplinks.iter_mut().filter(|each| !each.config.virtual_addresses.is_empty()) {
            let link = snapshot.link(&uplink.config.interface);
            // No target could answer: that says nothing of the line.
            let event = match link.and_then(|link| deadlines.get(&link.ifindex)) {
                Some(until) => HealthEvent::Paused(Pause::NoAddress, *until),
                None => HealthEvent::Resumed(Pause::NoAddress),
            };
            for family in Family::ALL {
                uplink.health[family].handle(&event, now);
            }
        }
        deadlines.into_values().min()
    }

    /// Restores the carrier of an interface, if it is kept; returns until when. Without `is_news` a
    /// carrier that was lost is one that was restored before.
    fn update_interface(
        &mut self,
        ifindex: u32,
        uplinks: &Uplinks,
        snapshot: &mut Snapshot,
        is_news: bool,
        now: Duration,
    ) -> Option<Duration> {
        let is_master = uplinks.iter().any(|each| has_virtual(&each.config, snapshot, ifindex));
        let link = snapshot.links.get_mut(&ifindex)?;
        let is_lost = matches!(self.carriers.get(&ifindex), Some(Carrier::LostAt(_)));
        if link.carrier && (is_news || !is_lost) {
            self.carriers.insert(ifindex, Carrier::Here { is_master });
            return None;
        }
        let lost_at = match self.carriers.get(&ifindex)? {
            Carrier::LostAt(moment) => *moment,
            Carrier::Here { is_master: true } => now,
            Carrier::Here { is_master: false } => {
                // Nobody takes over what is at the partner already.
                self.carriers.remove(&ifindex);
                return None;
            }
        };
        self.carriers.insert(ifindex, Carrier::LostAt(lost_at));
        let until = lost_at.saturating_add(PARTNER_TIMEOUT);
        let kept = link.up && now < until;
        link.carrier = kept;
        kept.then_some(until)
    }
}

/// Returns whether a virtual address of an uplink is on an interface.
fn has_virtual(uplink: &Uplink, snapshot: &Snapshot, ifindex: u32) -> bool {
    let mut here = snapshot.addresses.iter().filter(|own| own.ifindex == ifindex);
    here.any(|own| uplink.virtual_addresses.contains(&own.address))
}
