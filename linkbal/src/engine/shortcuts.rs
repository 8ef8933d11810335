//! Permission for shortcuts: no flow takes one whose packets would pass by something that the kernel
//! enforces.
//!
//! Anything that is not known yet is taken for an obstacle.

use std::collections::BTreeSet;

use super::{
    command::Command,
    context::{Context, Output},
    kernel::{desired::is_strict, lan, network::Snapshot},
    obstacles::{Obstacle, Obstacles, Scope},
    report::Report,
};
use crate::config::{Config, Uplink};

/// Without this sysctl each packet that the kernel gets would be invalid, and the flow would hang.
const STRICT: &str = "net.netfilter.nf_conntrack_tcp_be_liberal is 0";

/// The obstacles that are known, and what was told of them.
#[derive(Debug, Default)]
pub(super) struct Shortcuts {
    obstacles: Option<Obstacles>,
    told: Option<Scope>,
    reported: BTreeSet<Obstacle>,
}

impl Shortcuts {
    /// Stores what the kernel answered.
    pub(super) fn store(&mut self, obstacles: Obstacles) {
        self.obstacles = Some(obstacles);
    }

    /// Notes that another datapath runs, which has no shortcuts yet.
    pub(super) fn reconfigure(&mut self) {
        self.told = None;
    }

    /// Tells the datapath which flows take shortcuts, if that changed, and reports obstacles that are
    /// new, and those that are gone.
    pub(super) fn update(&mut self, context: &Context, output: &mut Output) {
        let scope = self.scope(context);
        // A datapath begins without shortcuts.
        if self.told.as_ref().map_or(scope.uplinks != 0, |told| *told != scope) {
            self.told = Some(scope.clone());
            output.push(Command::SetShortcuts(scope));
        }
        let found = self.found(context);
        let before = std::mem::replace(&mut self.reported, found);
        let gone = before.difference(&self.reported).map(|obstacle| (obstacle, false));
        let new = self.reported.difference(&before).map(|obstacle| (obstacle, true));
        for (obstacle, there) in gone.chain(new) {
            output.report(Report::Shortcuts { obstacle: obstacle.clone(), there });
        }
    }

    fn scope(&self, context: &Context) -> Scope {
        let (config, Some(snapshot)) = (&context.config, &context.snapshot) else {
            return Scope::default();
        };
        if !config.accelerate.takes_shortcuts() {
            return Scope::default();
        }
        let uplinks = context.uplinks.iter();
        let uplinks = uplinks.filter(|uplink| self.of_uplink(context, &uplink.config).is_none());
        let lan = lan::present(config, snapshot).into_iter();
        let left_out = lan.filter(|link| self.of_lan(config, snapshot, &link.name).is_some());
        Scope {
            uplinks: uplinks.fold(0, |mask, uplink| mask | 1 << (uplink.index & 15)),
            left_out: left_out.map(|link| link.ifindex).collect(),
        }
    }

    /// Returns the obstacles that others have set up.
    fn found(&self, context: &Context) -> BTreeSet<Obstacle> {
        let (config, Some(snapshot)) = (&context.config, &context.snapshot) else {
            return BTreeSet::new();
        };
        if !config.accelerate.takes_shortcuts() {
            return BTreeSet::new();
        }
        let uplinks = config.uplinks.iter().filter(|uplink| uplink.accelerate);
        let uplinks = uplinks.map(|uplink| uplink.interface.as_str());
        let lan = lan::present(config, snapshot).into_iter().map(|link| link.name.as_str());
        let lan = lan.filter(|name| !lan::is_excepted(config, name));
        let at_ingress =
            uplinks.chain(lan).filter_map(|name| self.at_ingress(Some(snapshot), name));
        let at_ingress = at_ingress.filter(|found| matches!(found, Obstacle::Ingress { .. }));
        // A sysctl that is refused is told by whoever sets it.
        at_ingress.chain(self.everywhere()).collect()
    }

    /// Returns why the flows of an uplink take no shortcuts; `None` if they do.
    pub(super) fn of_uplink(&self, context: &Context, uplink: &Uplink) -> Option<Obstacle> {
        if !uplink.accelerate {
            return Some(Obstacle::Configured("accelerate = false"));
        }
        self.of_interface(context.snapshot.as_ref(), &uplink.interface)
    }

    /// Returns why packets of a LAN interface take no shortcuts; `None` if they do.
    pub(super) fn of_lan(
        &self,
        config: &Config,
        snapshot: &Snapshot,
        interface: &str,
    ) -> Option<Obstacle> {
        if lan::is_excepted(config, interface) {
            return Some(Obstacle::Configured("[accelerate] leaves it out"));
        }
        self.of_interface(Some(snapshot), interface)
    }

    fn of_interface(&self, snapshot: Option<&Snapshot>, interface: &str) -> Option<Obstacle> {
        let strict = snapshot.is_some_and(is_strict);
        let strict = strict.then(|| Obstacle::Everywhere(STRICT.into()));
        let driver = snapshot.and_then(|snapshot| of_driver(snapshot, interface));
        self.everywhere().or(strict).or(driver).or_else(|| self.at_ingress(snapshot, interface))
    }

    fn everywhere(&self) -> Option<Obstacle> {
        let everywhere = self.obstacles.as_ref()?.everywhere.clone();
        everywhere.map(Obstacle::Everywhere)
    }

    fn at_ingress(&self, snapshot: Option<&Snapshot>, interface: &str) -> Option<Obstacle> {
        let interface = interface.to_owned();
        let link = snapshot.and_then(|snapshot| snapshot.link(&interface));
        let known = self.obstacles.as_ref().zip(link);
        match known.and_then(|(known, link)| known.ingress.get(&link.ifindex)) {
            None => Some(Obstacle::Unknown { interface }),
            Some(None) => None,
            Some(Some(what)) => Some(Obstacle::Ingress { interface, what: what.clone() }),
        }
    }
}

/// Returns the obstacle of an interface whose driver drops packets without a route (`ip_tunnel_xmit` in
/// net/ipv4/ip_tunnel.c, `ipip6_tunnel_xmit` in net/ipv6/sit.c, `ip6_tnl_xmit` in net/ipv6/ip6_tunnel.c).
fn of_driver(snapshot: &Snapshot, interface: &str) -> Option<Obstacle> {
    let link = snapshot.link(interface)?;
    let tunnel = snapshot.tunnels.get(&link.ifindex)?;
    tunnel.by_route.then(|| Obstacle::Driver { interface: interface.to_owned() })
}
