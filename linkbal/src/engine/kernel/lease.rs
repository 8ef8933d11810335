//! Addresses and gateways of uplinks, which other programs set and remove.
//!
//! Clients of DHCP and PPP and router advertisements change them at any time. Three things are told
//! apart:
//!
//! - **A gap.** Some clients take everything away before they put it back, and a renewal is no
//!   outage. An address without successor, or a default route, that is gone from an interface that
//!   works is held for [`GRACE`]: nothing is ended, and new flows go elsewhere. An uplink without
//!   its address is not probed, and sends nothing: the kernel would translate to the address of
//!   another interface (`inet_select_addr` in net/ipv4/devinet.c), or another one of this interface,
//!   such as that for the modem's page. Then the uplink counts as not ready.
//! - **A route taken over.** A client that knows of one default route only, without a metric of its
//!   own, replaces that of another interface. The gateway that was there is held as long as the
//!   address is. Not so in IPv6, where a route that goes was withdrawn by its router.
//! - **A changed address.** Flows that were translated to the old one are over, as if the uplink
//!   had died: no replies arrive there any more. A gateway that is gone is still held if it is in the
//!   network of the new address: clients set the address first, then the route. An IPv6 address that is no longer preferred only
//!   hands over to the one that is, and temporary ones (RFC 8981) are not followed at all while
//!   there is another.

mod uplink;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use linkbal_common::uplink::Family;

use self::uplink::{AddressChange, Kept, UplinkLease, is_near, remembered};
use super::{
    desired,
    network::{Link, Route, Snapshot},
    nexthop,
};
use crate::{
    config::{Config, OnDown},
    engine::{
        command::{Command, Unmarked},
        context::{Context, Output},
        datapath::Datapath,
        health::{HealthEvent, Pause, reason::Gap},
        indexed::Indexed,
        report::Report,
        uplinks::UplinkState,
    },
};

/// Time for which an address or route that is gone is held.
pub(in crate::engine) const GRACE: Duration = Duration::from_secs(5);

/// The leases of all uplinks: their addresses and gateways, wherever they come from.
#[derive(Debug, Default)]
pub(in crate::engine) struct Leases {
    /// Leases by the name of the uplink, since an index can go to another uplink.
    leases: BTreeMap<(String, Family), UplinkLease>,
    /// Uplinks whose connections are to be forgotten once the new routes are in place. The flows
    /// that had one of these addresses are over.
    ended: BTreeMap<(u32, Family), BTreeSet<IpAddr>>,
    /// Addresses that several uplinks have, as they were reported.
    shared: BTreeMap<IpAddr, BTreeSet<String>>,
}

impl Leases {
    /// Forgets an uplink: another one begins with its index, or the same on another interface.
    pub(in crate::engine) fn forget(&mut self, uplink: &UplinkState) {
        self.leases.retain(|(name, _), _| *name != uplink.config.name);
        self.ended.retain(|(index, _), _| *index != uplink.index);
    }
}

impl Leases {
    /// Updates the leases from an observation, and restores in it what is held. Returns the time
    /// at which the next hold ends.
    pub(in crate::engine) fn update(
        &mut self,
        context: &mut Context,
        snapshot: &mut Snapshot,
        output: &mut Output,
    ) -> Option<Duration> {
        let uplinks = context.uplinks.indexed();
        let real = snapshot.routes.iter().filter(|route| route.is_default());
        let real: Vec<Route> = real.cloned().collect();
        for indexed in &uplinks {
            for family in Family::ALL {
                let change =
                    self.update_uplink(context, &uplinks, indexed, family, snapshot, &real);
                if let Some(change) = change {
                    self.apply(change, context, indexed, family, snapshot, output);
                }
            }
        }
        let configured = |name: &str| uplinks.iter().any(|indexed| indexed.config.name == name);
        self.leases.retain(|(name, _), _| configured(name));
        self.report_shared(desired::shared_addresses(&uplinks, snapshot), output);
        let deadlines = self.leases.values().flat_map(|lease| {
            let route = lease.route.as_ref().and_then(Kept::deadline);
            let address = lease.address.as_ref().and_then(Kept::deadline);
            [route, address]
        });
        deadlines.flatten().filter(|due| *due > context.now).min()
    }

    fn report_shared(&mut self, shared: BTreeMap<IpAddr, BTreeSet<String>>, output: &mut Output) {
        let before = std::mem::replace(&mut self.shared, shared);
        let now = &self.shared;
        let gone = before.keys().filter(|address| !now.contains_key(address));
        let gone = gone.map(|address| (address, None));
        let new = now.iter().filter(|(address, names)| before.get(address) != Some(names));
        let new = new.map(|(address, names)| (address, Some(names)));
        for (address, names) in gone.chain(new) {
            let problem = names.map(|names| {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                format!(
                    "{} have it: connections of the LAN are kept apart, but what this machine sends \
                     by unconnected sockets, or answers from this address, uses the best of them; \
                     give the router of one of them another network",
                    names.join(" and ")
                )
            });
            output.report(Report::Refused { what: format!("address {address}"), problem });
        }
    }

    /// Returns the lease of an uplink. The first time, it knows the gateway that an earlier run
    /// knew.
    fn lease(
        &mut self,
        config: &Config,
        indexed: &Indexed,
        family: Family,
        snapshot: &Snapshot,
        link: Option<&Link>,
    ) -> &mut UplinkLease {
        let key = (indexed.config.name.clone(), family);
        self.leases.entry(key).or_insert_with(|| {
            let table = config.kernel.table(indexed.index);
            let route = link.and_then(|link| remembered(snapshot, table, link, family));
            UplinkLease { route: route.map(Kept::new), ..UplinkLease::default() }
        })
    }

    /// Updates the lease of one uplink and family; returns what happened to its address.
    fn update_uplink(
        &mut self,
        context: &Context,
        uplinks: &[Indexed],
        indexed: &Indexed,
        family: Family,
        snapshot: &mut Snapshot,
        real: &[Route],
    ) -> Option<AddressChange> {
        let (uplink, now) = (&indexed.config, context.now);
        if !uplink.carries(family) {
            return None;
        }
        let link = snapshot.link(&uplink.interface).filter(|link| link.up).cloned();
        let link = link.as_ref();
        let lease = self.lease(&context.config, indexed, family, snapshot, link);
        if nexthop::configured_gateway(uplink, family).is_none() {
            let held = lease.update_route(snapshot, real, link, family, now);
            snapshot.routes.extend(held);
        } else {
            (lease.route, lease.former) = (None, None);
        }
        let own = desired::own(uplinks, indexed, snapshot, family);
        if uplink.virtual_of(family).next().is_some() {
            // They come and go with their connections: there is nothing to hold or to end.
            lease.may_expire = lease.route.as_ref().and_then(Kept::deadline).is_some();
            return None;
        }
        let gateway = nexthop::gateway(snapshot, uplink, family);
        let change = lease.update_address(&own, gateway, link, now);
        let held = matches!(change, AddressChange::Held(_));
        if let AddressChange::Moved { to, .. } = change
            && let Some(former) = lease
                .route
                .take_if(|kept| kept.lost_at.is_some() && !is_near(&own, to, &kept.value))
        {
            // It belonged to the former address.
            snapshot.routes.retain(|route| *route != former.value);
        }
        lease.may_expire = held || lease.route.as_ref().and_then(Kept::deadline).is_some();
        Some(change)
    }

    /// Draws the consequences of what happened to the address of an uplink.
    fn apply(
        &mut self,
        change: AddressChange,
        context: &mut Context,
        indexed: &Indexed,
        family: Family,
        snapshot: &mut Snapshot,
        output: &mut Output,
    ) {
        let (index, now) = (indexed.index, context.now);
        if let Some(uplink) = context.uplinks.by_index_mut(index) {
            // Without an address, the probes would get no answers.
            let event = match change {
                AddressChange::Held(_) => HealthEvent::Paused(Pause::NoAddress, now + GRACE),
                _ => HealthEvent::Resumed(Pause::NoAddress),
            };
            uplink.health[family].handle(&event, now);
        }
        match change {
            AddressChange::Unchanged => {}
            AddressChange::Held(address) => snapshot.addresses.push(address),
            // What was translated meanwhile has an address of another interface.
            AddressChange::Returned => {
                self.ended.entry((index, family)).or_default();
            }
            AddressChange::Moved { from, to, gone } => {
                if gone {
                    self.ended.entry((index, family)).or_default().insert(from);
                }
                let uplink = indexed.config.name.clone();
                output.report(Report::Address { uplink, family, from, to, gone });
            }
        }
    }

    /// Says what of an uplink is gone and held, since when, and how long it still is; `None` if
    /// nothing is.
    pub(in crate::engine) fn gap(
        &self,
        uplink: &UplinkState,
        family: Family,
        now: Duration,
    ) -> Option<Gap> {
        let lease = self.leases.get(&(uplink.config.name.clone(), family))?;
        let address = lease.address.as_ref().and_then(Kept::deadline);
        let route = lease.route.as_ref().and_then(Kept::deadline);
        let due = address.or(route)?;
        let left = due.checked_sub(now).filter(|left| !left.is_zero())?;
        Some(Gap {
            family,
            address: address.is_some(),
            interface: uplink.config.interface.clone(),
            lasted_s: GRACE.saturating_sub(left).as_secs(),
            left_s: left.as_nanos().div_ceil(1_000_000_000).try_into().unwrap_or(u64::MAX),
        })
    }

    /// Returns the default route of an uplink that is gone, as long as nothing else has come.
    pub(in crate::engine) fn former_route(
        &self,
        uplink: &UplinkState,
        family: Family,
    ) -> Option<&Route> {
        let lease = self.leases.get(&(uplink.config.name.clone(), family))?;
        let held = lease.route.as_ref().filter(|kept| kept.lost_at.is_some());
        held.map(|kept| &kept.value).or(lease.former.as_ref())
    }

    /// Returns whether something of an uplink is held that may not come back.
    pub(in crate::engine) fn may_expire(&self, uplink: &UplinkState, family: Family) -> bool {
        let lease = self.leases.get(&(uplink.config.name.clone(), family));
        lease.is_some_and(|lease| lease.may_expire)
    }

    /// Forgets connections with a wrong translation, and ends the flows of addresses that are gone,
    /// once there is an uplink by which they can begin anew. The new routes must be in place.
    pub(in crate::engine) fn end_moved(
        &mut self,
        context: &Context,
        datapath: &Datapath,
        output: &mut Output,
    ) {
        let (ready, waiting): (BTreeMap<_, _>, _) = std::mem::take(&mut self.ended)
            .into_iter()
            .partition(|((_, family), _)| context.has_usable(*family));
        self.ended = waiting;
        for ((index, family), own) in ready {
            let Some(uplink) = context.uplinks.by_index(index) else { continue };
            let fwmark = context.fwmark(index);
            if uplink.config.on_down == OnDown::Reset && !own.is_empty() {
                // Without their address, those that came in are over, too.
                let (kept, gone): (Vec<_>, Vec<_>) =
                    own.into_iter().partition(|own| datapath.is_of_another(index, *own));
                for (own, unmarked) in [(gone, Unmarked::All), (kept, Unmarked::None)] {
                    if !own.is_empty() {
                        let uplink = index;
                        output.push(Command::EndFlows { uplink, family, own, fwmark, unmarked });
                    }
                }
            }
            output.push(Command::ForgetConnections { family, fwmark });
        }
    }
}
