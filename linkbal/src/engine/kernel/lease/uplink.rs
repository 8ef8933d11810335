//! The address and route of one uplink in one family: what is held, and for how long.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use ipnet::IpNet;
use linkbal_common::uplink::Family;

use super::{
    super::{
        desired,
        network::{Address, Link, PROTOCOL, Route, Snapshot, TABLE_MAIN},
        nexthop,
    },
    GRACE,
};

/// The address and route of one uplink in one family.
#[derive(Debug, Default)]
pub(super) struct UplinkLease {
    pub(super) route: Option<Kept<Route>>,
    /// The last default route, once it is no longer held.
    pub(super) former: Option<Route>,
    /// The address that its flows have.
    pub(super) address: Option<Kept<Address>>,
    /// Addresses that the interface had beside it, and that are no successors of it: the gateway is in
    /// its network and not in theirs.
    pub(super) beside: BTreeSet<IpAddr>,
    /// Set if something is held that may not come back.
    pub(super) may_expire: bool,
}

impl UplinkLease {
    /// Updates the default route of an uplink whose gateway is not configured; returns a former one
    /// that is to be held. `real` are the default routes without those that are held for others.
    pub(super) fn update_route(
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
        if let Some(route) = nexthop::main_default(snapshot, link, family) {
            self.route = Some(Kept::new(route.clone()));
            self.former = None;
            return None;
        }
        let kept = self.route.as_mut()?;
        kept.lasting |= is_taken_over(real, &kept.value);
        if kept.value.ifindex != Some(link.ifindex) {
            self.route = None;
        } else if !kept.held(now) {
            self.former = self.route.take().map(|kept| kept.value);
        }
        self.route.as_ref().map(|kept| kept.value.clone())
    }

    /// Updates the address; `own` are those that the uplink has.
    pub(super) fn update_address(
        &mut self,
        own: &[Address],
        gateway: Option<IpAddr>,
        link: Option<&Link>,
        now: Duration,
    ) -> AddressChange {
        // One beside it is no successor as long as there is another, even if the route is yet to come.
        let others = own.iter().filter(|own| !self.beside.contains(&own.address));
        let others: Vec<Address> = others.copied().collect();
        let best = desired::preferred(if others.is_empty() { own } else { &others }, gateway);
        let Some(kept) = self.address.as_mut() else {
            self.address = best.map(Kept::new);
            self.note_beside(own, gateway);
            return AddressChange::Unchanged;
        };
        let former = kept.value;
        let here = link.is_some_and(|link| link.ifindex == former.ifindex && link.carrier);
        if own.iter().all(|own| self.beside.contains(&own.address)) {
            let held = kept.held(now) && here;
            if held {
                return AddressChange::Held(Address { held, ..former });
            }
        }
        let Some(best) = best.filter(|best| here || !self.beside.contains(&best.address)) else {
            return AddressChange::Unchanged;
        };
        let present = own.iter().find(|address| address.address == former.address);
        let rank = |address: &Address| desired::rank(address, gateway);
        let same = present.filter(|present| rank(present) == rank(&best));
        let was_lost = kept.lost_at.is_some();
        *kept = Kept::new(*same.unwrap_or(&best));
        self.note_beside(own, gateway);
        match same {
            Some(_) if was_lost => AddressChange::Returned,
            Some(_) => AddressChange::Unchanged,
            None => AddressChange::Moved {
                from: former.address,
                to: best.address,
                gone: present.is_none(),
            },
        }
    }

    /// Notes the addresses beside that of the uplink. Without a gateway, nothing tells them apart.
    fn note_beside(&mut self, own: &[Address], gateway: Option<IpAddr>) {
        let far = |address: &Address| desired::rank(address, gateway).far;
        let near = self.address.as_ref().is_some_and(|kept| gateway.is_some() && !far(&kept.value));
        let beside = own.iter().filter(|address| near && far(address));
        self.beside = beside.map(|address| address.address).collect();
    }
}

#[derive(Debug)]
pub(super) struct Kept<T> {
    pub(super) value: T,
    /// Time at which it was found to be gone.
    pub(super) lost_at: Option<Duration>,
    /// Set if it is held without limit.
    lasting: bool,
}

impl<T> Kept<T> {
    pub(super) const fn new(value: T) -> Kept<T> {
        Kept { value, lost_at: None, lasting: false }
    }

    /// Notes that it is gone; returns whether it is held all the same.
    fn held(&mut self, now: Duration) -> bool {
        let lost_at = *self.lost_at.get_or_insert(now);
        self.lasting || now < lost_at + GRACE
    }

    /// Returns the time until which it is held, if that ends.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.lost_at.filter(|_| !self.lasting).map(|lost_at| lost_at + GRACE)
    }
}

/// The address of an uplink, compared with the former one.
#[derive(Clone, Copy)]
pub(super) enum AddressChange {
    /// The address is the same, or there is none to hold.
    Unchanged,
    /// The address is gone, and held.
    Held(Address),
    /// The address was gone, and is back.
    Returned,
    /// The address changed. `gone`: flows can no longer use the former one.
    Moved { from: IpAddr, to: IpAddr, gone: bool },
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

/// Returns whether the gateway of a route is in the network of the address `to`: a client that sets a
/// new address has yet to set its route, which most often leads to the same gateway.
pub(super) fn is_near(own: &[Address], to: IpAddr, route: &Route) -> bool {
    let address = own.iter().find(|address| address.address == to);
    let network = address.and_then(|own| IpNet::new(own.address, own.prefix_length).ok());
    network.zip(route.nexthop).is_some_and(|(network, gateway)| network.contains(&gateway))
}

/// Returns what an earlier run knew of an uplink's gateway: its route in a table of ours.
pub(super) fn remembered(
    snapshot: &Snapshot,
    table: u32,
    link: &Link,
    family: Family,
) -> Option<Route> {
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
