//! Addresses and gateways of uplinks, which other programs set and remove.
//!
//! Clients of DHCP and PPP and router advertisements change them at any time. Three things are told
//! apart:
//!
//! - **A gap.** Some clients take everything away before they put it back, and a renewal is no
//!   outage. An address without successor, or a default route, that is gone from an interface that
//!   works is held for [`GRACE`]: nothing is ended, and new flows go elsewhere. An uplink without
//!   its address is not probed, and sends nothing: the kernel would translate to the address of
//!   another interface (`inet_select_addr` in net/ipv4/devinet.c). Then the uplink counts as not
//!   ready.
//! - **A route taken over.** A client that knows of one default route only, without a metric of its
//!   own, replaces that of another interface. The gateway that was there is held as long as the
//!   address is. Not so in IPv6, where a route that goes was withdrawn by its router.
//! - **A changed address.** Flows that were translated to the old one are over, as if the uplink
//!   had died: no replies arrive there any more. An IPv6 address that is no longer preferred only
//!   hands over to the one that is, and temporary ones (RFC 8981) are not followed at all while
//!   there is another.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use linkbal_common::{mark::MarkMask, uplink::Family};

use super::{
    Command, Engine, Report,
    desired::{self, Indexed},
    network::{Address, Link, PROTOCOL, Route, Snapshot, TABLE_MAIN},
    uplinks::position,
};
use crate::config::OnDown;

/// Time for which an address or route that is gone is held.
pub const GRACE: Duration = Duration::from_secs(5);

/// The known addresses and routes of all uplinks.
#[derive(Debug, Default)]
pub(super) struct Ground {
    /// State by the name of the uplink, since an index can go to another uplink.
    lines: BTreeMap<(String, Family), Line>,
    /// Uplinks whose connections are to be forgotten once the new routes are in place. The flows
    /// that had one of these addresses are over.
    over: BTreeMap<(u32, Family), BTreeSet<IpAddr>>,
    /// Addresses that several uplinks have, as they were reported.
    shared: BTreeMap<IpAddr, BTreeSet<String>>,
}

impl Ground {
    /// Forgets an uplink: another one begins with its index, or the same on another interface.
    pub(super) fn forget(&mut self, uplink: &Indexed) {
        self.lines.retain(|(name, _), _| *name != uplink.uplink.name);
        self.over.retain(|(index, _), _| *index != uplink.index);
    }
}

/// The address and route of one uplink in one family.
#[derive(Debug, Default)]
struct Line {
    route: Option<Kept<Route>>,
    /// The address that its flows have.
    address: Option<Kept<Address>>,
    /// Set if something is held that may not come back.
    shaky: bool,
}

#[derive(Debug)]
struct Kept<T> {
    value: T,
    /// Time at which it was found to be gone.
    lost_at: Option<Duration>,
    /// Set if it is held without limit.
    lasting: bool,
}

impl<T> Kept<T> {
    const fn new(value: T) -> Kept<T> {
        Kept { value, lost_at: None, lasting: false }
    }

    /// Notes that it is gone; returns whether it is held all the same.
    fn held(&mut self, now: Duration) -> bool {
        let lost_at = *self.lost_at.get_or_insert(now);
        self.lasting || now < lost_at + GRACE
    }

    /// Returns the time until which it is held, if that ends.
    fn deadline(&self) -> Option<Duration> {
        self.lost_at.filter(|_| !self.lasting).map(|lost_at| lost_at + GRACE)
    }
}

/// The address of an uplink, compared with the former one.
enum Footing {
    /// The address is the same, or there is none to hold.
    Firm,
    /// The address is gone, and held.
    Held(Address),
    /// The address was gone, and is back.
    Back,
    /// The address changed. `gone`: flows can no longer use the former one.
    Moved { from: IpAddr, to: IpAddr, gone: bool },
}

impl Line {
    /// Follows the default route of an uplink whose gateway is not configured; returns a former one
    /// that is to be held. `real` are the default routes without those that are held for others.
    fn follow_route(
        &mut self,
        snapshot: &Snapshot,
        real: &[Route],
        link: Option<&Link>,
        family: Family,
        now: Duration,
    ) -> Option<Route> {
        let Some(link) = link else {
            self.route = None;
            return None;
        };
        if let Some(route) = desired::main_default(snapshot, link, family) {
            self.route = Some(Kept::new(route.clone()));
            return None;
        }
        let kept = self.route.as_mut()?;
        kept.lasting |= is_taken_over(real, &kept.value);
        if kept.value.ifindex != Some(link.ifindex) || !kept.held(now) {
            self.route = None;
        }
        self.route.as_ref().map(|kept| kept.value.clone())
    }

    /// Follows the address; `own` are those that the uplink has.
    fn follow_address(&mut self, own: &[Address], link: Option<&Link>, now: Duration) -> Footing {
        let best = desired::preferred(own);
        let Some(kept) = self.address.as_mut() else {
            self.address = best.map(Kept::new);
            return Footing::Firm;
        };
        let former = kept.value;
        let Some(best) = best else {
            let here = link.is_some_and(|link| link.ifindex == former.ifindex && link.carrier);
            let held = kept.held(now) && here;
            return if held { Footing::Held(Address { held, ..former }) } else { Footing::Firm };
        };
        let present = own.iter().find(|address| address.address == former.address);
        let same = present.filter(|present| desired::rank(present) == desired::rank(&best));
        let was_lost = kept.lost_at.is_some();
        *kept = Kept::new(*same.unwrap_or(&best));
        match same {
            Some(_) if was_lost => Footing::Back,
            Some(_) => Footing::Firm,
            None => {
                Footing::Moved { from: former.address, to: best.address, gone: present.is_none() }
            }
        }
    }
}

/// Returns whether the main table leads by another interface where it led by this IPv4 route.
fn is_taken_over(routes: &[Route], lost: &Route) -> bool {
    let place = |route: &Route| (route.table, route.destination, route.metric);
    let mut routes = routes.iter();
    lost.family() == Family::Ipv4
        && routes.any(|route| {
            let elsewhere = route.ifindex.is_some_and(|ifindex| Some(ifindex) != lost.ifindex);
            elsewhere && place(route) == place(lost)
        })
}

/// Returns what an earlier run knew of an uplink's gateway: its route in a table of ours.
fn remembered(snapshot: &Snapshot, table: u32, link: &Link, family: Family) -> Option<Route> {
    let mut routes = snapshot.routes.iter();
    let ours = routes.find(|route| {
        let of_uplink = route.table == table && route.ifindex == Some(link.ifindex);
        of_uplink && route.protocol == PROTOCOL && route.is_default() && route.family() == family
    })?;
    // The metric that it had is unknown: the best of the others may have taken its place.
    let others = snapshot.routes.iter().filter(|route| {
        route.table == TABLE_MAIN && route.is_default() && route.family() == family
    });
    let metric = others.map(|route| route.metric).min().unwrap_or_default();
    Some(Route { table: TABLE_MAIN, metric, protocol: 0, ..ours.clone() })
}

impl Engine {
    /// Restores in an observation what is held, and notes what changed.
    pub(super) fn follow_ground(&mut self, snapshot: &mut Snapshot, now: Duration) {
        self.follow_partner(snapshot);
        let uplinks = self.indexed();
        let real = snapshot.routes.iter().filter(|route| route.is_default());
        let real: Vec<Route> = real.cloned().collect();
        for indexed in &uplinks {
            for family in Family::ALL {
                self.follow_line(&uplinks, indexed, family, snapshot, &real, now);
            }
        }
        let configured = |name: &str| uplinks.iter().any(|indexed| indexed.uplink.name == name);
        self.ground.lines.retain(|(name, _), _| configured(name));
        let lines = self.ground.lines.values();
        let deadlines = lines.flat_map(|line| {
            let route = line.route.as_ref().and_then(Kept::deadline);
            let address = line.address.as_ref().and_then(Kept::deadline);
            [route, address]
        });
        let due = deadlines.flatten().filter(|due| *due > now).min();
        self.observe_at = self.observe_at.into_iter().chain(due).min();
        self.tell_shared(desired::shared_addresses(&uplinks, snapshot));
    }

    fn tell_shared(&mut self, shared: BTreeMap<IpAddr, BTreeSet<String>>) {
        let before = std::mem::replace(&mut self.ground.shared, shared);
        let now = &self.ground.shared;
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
            let report = Report::Trouble { what: format!("address {address}"), problem };
            self.commands.push_back(Command::Report(report));
        }
    }

    fn follow_line(
        &mut self,
        uplinks: &[Indexed],
        indexed: &Indexed,
        family: Family,
        snapshot: &mut Snapshot,
        real: &[Route],
        now: Duration,
    ) {
        let (index, uplink) = (indexed.index, &indexed.uplink);
        if !uplink.carries(family) {
            return;
        }
        let link = snapshot.link(&uplink.interface).filter(|link| link.up).cloned();
        let link = link.as_ref();
        let table = desired::table(&self.config, indexed);
        let line = self.ground.lines.entry((uplink.name.clone(), family)).or_insert_with(|| Line {
            route: link.and_then(|link| remembered(snapshot, table, link, family)).map(Kept::new),
            ..Line::default()
        });
        if desired::configured_gateway(uplink, family).is_none() {
            let held = line.follow_route(snapshot, real, link, family, now);
            snapshot.routes.extend(held);
        }
        let own = desired::own(uplinks, indexed, snapshot, family);
        // Virtual addresses come and go with their connections: there is nothing to hold or to end.
        let footing = match uplink.virtual_of(family).next() {
            Some(_) => Footing::Firm,
            None => line.follow_address(&own, link, now),
        };
        let held = matches!(footing, Footing::Held(_));
        if matches!(footing, Footing::Moved { .. })
            && let Some(former) = line.route.take_if(|kept| kept.lost_at.is_some())
        {
            // It belonged to the former address.
            snapshot.routes.retain(|route| *route != former.value);
        }
        line.shaky = held || line.route.as_ref().and_then(Kept::deadline).is_some();
        self.pause(index, family, held, now);
        match footing {
            Footing::Firm => {}
            Footing::Held(address) => snapshot.addresses.push(address),
            // What was translated meanwhile has an address of another interface.
            Footing::Back => {
                self.ground.over.entry((index, family)).or_default();
            }
            Footing::Moved { from, to, gone } => self.moved(indexed, family, from, to, gone),
        }
    }

    /// Pauses the probes of an uplink without an address, which would get no answers; resumes them
    /// otherwise.
    fn pause(&mut self, index: u32, family: Family, bare: bool, now: Duration) {
        let mut uplinks = self.uplinks.iter_mut();
        let Some(uplink) = uplinks.find(|uplink| uplink.indexed.index == index) else { return };
        let health = &mut uplink.health[position(family)];
        if bare {
            health.pause(now + GRACE);
        } else {
            health.resume();
        }
    }

    fn moved(&mut self, indexed: &Indexed, family: Family, from: IpAddr, to: IpAddr, gone: bool) {
        if gone {
            self.ground.over.entry((indexed.index, family)).or_default().insert(from);
        }
        let uplink = indexed.uplink.name.clone();
        self.commands.push_back(Command::Report(Report::Address {
            uplink,
            family,
            from,
            to,
            gone,
        }));
    }

    /// Returns whether something of an uplink is held that may not come back.
    pub(super) fn is_shaky(&self, uplink: &Indexed, family: Family) -> bool {
        let line = self.ground.lines.get(&(uplink.uplink.name.clone(), family));
        line.is_some_and(|line| line.shaky)
    }

    /// Forgets connections with a wrong translation, and ends the flows of addresses that are gone,
    /// once there is an uplink by which they can begin anew.
    pub(super) fn end_moved(&mut self) {
        // Flows that begin anew find the new routes in place.
        if self.pending_changes > 0 {
            return;
        }
        let (ready, waiting) = std::mem::take(&mut self.ground.over)
            .into_iter()
            .partition(|((_, family), _)| self.up.family(*family) != 0);
        self.ground.over = waiting;
        let ready: BTreeMap<(u32, Family), BTreeSet<IpAddr>> = ready;
        for ((index, family), own) in ready {
            let mut uplinks = self.uplinks.iter();
            let Some(uplink) = uplinks.find(|uplink| uplink.indexed.index == index) else {
                continue;
            };
            if uplink.indexed.uplink.on_down == OnDown::Reset && !own.is_empty() {
                let own = own.into_iter().collect();
                self.commands.push_back(Command::EndFlows { uplink: index, family, own });
            }
            let fwmark = MarkMask(self.config.kernel.fwmark_mask).encode(index);
            self.commands.push_back(Command::ForgetConnections { family, fwmark });
        }
    }
}
