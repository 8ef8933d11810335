//! The decisions, without I/O and without a clock.
//!
//! The engine is driven by values: [`Engine::handle_event`] takes what happened and when,
//! [`Engine::handle_timeout`] what time it is, [`Engine::poll_timeout`] says when it wants to hear
//! that, and [`Engine::next_command`] hands out what is to be done, in order. Times are monotonic,
//! from an epoch of the caller's.
//!
//! A verdict "down" comes out as: the new `UP_MASK`, the conntrack entries to forget, the routes to
//! change, the report; never in another order. While no uplink is usable nothing is forgotten.

pub mod buckets;
pub mod desired;
pub mod diff;
pub mod health;
pub mod network;
pub mod nft_text;
pub mod uplinks;
pub mod window;

use std::{
    collections::{BTreeSet, VecDeque},
    net::IpAddr,
    time::Duration,
};

use ipnet::IpNet;
use linkbal_common::{
    mark::MarkMask,
    uplink::{Family, UpMask},
};

use self::{
    desired::{Indexed, nexthop},
    health::{Health, State, Transition},
    network::{Change, Link, NetworkEvent, Snapshot},
};
use crate::config::Config;

/// After a change in the kernel, more usually follow: observe once they are all there.
const SETTLE: Duration = Duration::from_millis(20);

/// The state is compared with the kernel's this often even if nothing was heard.
const RECONCILE_INTERVAL: Duration = Duration::from_secs(30);

/// After a failed observation the next one waits this long.
const RETRY: Duration = Duration::from_secs(1);

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The kernel said something.
    Network(NetworkEvent),
    /// The answer to [`Command::Observe`].
    Observed(Snapshot),
    /// The other answer to [`Command::Observe`]: it failed.
    NotObserved,
    /// A target answered a probe.
    ProbeAnswer {
        /// Index of the uplink that the probe left by.
        uplink: u32,
        /// Who answered.
        target: IpAddr,
        /// The round it answers.
        round: u64,
    },
}

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Store the word that says which uplinks are usable.
    SetUpMask(UpMask),
    /// Delete the conntrack entries of one uplink and family.
    ForgetConnections {
        /// The family.
        family: Family,
        /// The uplink's fwmark.
        fwmark: u32,
    },
    /// Change routes, ip rules, sysctls and the nft table.
    Apply(Vec<Change>),
    /// Tell the datapath which destinations it leaves alone.
    SetBypass(BTreeSet<IpNet>),
    /// Make the datapath run on exactly these interfaces, by name and index.
    Attach(BTreeSet<(String, u32)>),
    /// Ask targets, by the uplink's device and table.
    SendProbes {
        /// Index of the uplink.
        uplink: u32,
        /// Its device.
        ifindex: u32,
        /// Its fwmark.
        fwmark: u32,
        /// The round; answers must name it.
        round: u64,
        /// Whom to ask.
        targets: Vec<IpAddr>,
    },
    /// Observe the kernel's state and answer with [`Event::Observed`].
    Observe,
    /// Tell people.
    Report(Report),
}

/// A change that people want to hear of.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Name of the uplink.
    pub uplink: String,
    /// Family.
    pub family: Family,
    /// The change.
    pub transition: Transition,
    /// Why.
    pub reason: String,
}

/// One uplink as the engine sees it.
#[derive(Debug)]
pub struct UplinkState {
    /// Index and configuration.
    pub indexed: Indexed,
    /// Health by family, in the order of [`Family::ALL`].
    pub health: [Health; 2],
    /// Whether it was ever seen ready in the family, or is configured to be.
    present: [bool; 2],
    /// It went down, and what conntrack knows of its flows is yet to be forgotten.
    stale: [bool; 2],
}

impl UplinkState {
    /// Health in one family; `None` if the uplink only has the other one.
    pub fn family(&self, family: Family) -> Option<&Health> {
        let has = self.present[position(family)] || self.present == [false; 2];
        has.then(|| &self.health[position(family)])
    }

    /// The state over both families: up if one is, else the one with more to say.
    pub fn state(&self) -> State {
        let states = Family::ALL.map(|family| self.family(family).map(Health::state));
        if states.contains(&Some(State::Up)) {
            State::Up
        } else if states.contains(&Some(State::Init)) {
            State::Init
        } else {
            State::Down
        }
    }
}

const fn position(family: Family) -> usize {
    match family {
        Family::Ipv4 => 0,
        Family::Ipv6 => 1,
    }
}

/// The engine.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    uplinks: Vec<UplinkState>,
    snapshot: Option<Snapshot>,
    up: UpMask,
    observe_at: Option<Duration>,
    observing: bool,
    bypass: BTreeSet<IpNet>,
    commands: VecDeque<Command>,
}

impl Engine {
    /// An engine that knows nothing yet but the uplinks that a running datapath has as usable.
    pub fn new(config: Config, indexed: Vec<Indexed>, up: UpMask, now: Duration) -> Engine {
        let uplinks = indexed.into_iter().map(|indexed| UplinkState {
            health: Family::ALL.map(|family| {
                let usable = up.contains(indexed.index, family);
                Health::new(indexed.uplink.probe.clone(), family, usable, now)
            }),
            present: Family::ALL
                .map(|family| desired::configured_gateway(&indexed.uplink, family).is_some()),
            indexed,
            stale: [false; 2],
        });
        Engine {
            config,
            uplinks: uplinks.collect(),
            snapshot: None,
            up,
            observe_at: Some(now),
            observing: false,
            bypass: BTreeSet::new(),
            commands: VecDeque::new(),
        }
    }

    /// The uplinks, for the status.
    pub fn uplinks(&self) -> &[UplinkState] {
        &self.uplinks
    }

    /// The last observation, for the status.
    pub const fn snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_ref()
    }

    /// Takes in what happened.
    pub fn handle_event(&mut self, event: Event, now: Duration) {
        match event {
            Event::Network(event) => self.network_event(event, now),
            Event::Observed(snapshot) => self.observed(snapshot, now),
            Event::NotObserved => {
                self.observing = false;
                self.observe_at = Some(now + RETRY);
            }
            Event::ProbeAnswer { uplink, target, round } => {
                self.probe_answer(uplink, target, round, now);
            }
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Duration) {
        let mut transitions = Vec::new();
        for (at, family) in self.every_health() {
            let health = &mut self.uplinks[at].health[position(family)];
            transitions.extend(health.expire(now).map(|transition| (at, family, transition)));
        }
        self.follow_verdicts(transitions, now);
        self.start_rounds(now);
        if self.observe_at.is_some_and(|due| due <= now) && !self.observing {
            self.observe_at = None;
            self.observing = true;
            self.commands.push_back(Command::Observe);
        }
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let healths = self.uplinks.iter().flat_map(|uplink| &uplink.health);
        let observe_at = self.observe_at.filter(|_| !self.observing);
        healths.filter_map(Health::deadline).chain(observe_at).min()
    }

    /// The next thing to do.
    pub fn next_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    fn every_health(&self) -> Vec<(usize, Family)> {
        let uplinks = 0..self.uplinks.len();
        uplinks.flat_map(|at| Family::ALL.map(|family| (at, family))).collect()
    }

    fn network_event(&mut self, event: NetworkEvent, now: Duration) {
        let observe_at = match event {
            NetworkEvent::Overrun => now,
            NetworkEvent::Link(_) | NetworkEvent::LinkGone { .. } | NetworkEvent::Changed => {
                now + SETTLE
            }
        };
        self.observe_at = Some(self.observe_at.map_or(observe_at, |due| due.min(observe_at)));
        // The carrier need not wait for the full observation.
        let Some(snapshot) = self.snapshot.as_mut() else { return };
        match event {
            NetworkEvent::Link(link) => {
                forget_name(snapshot, &link);
                snapshot.links.insert(link.ifindex, link);
            }
            NetworkEvent::LinkGone { ifindex } => {
                snapshot.links.remove(&ifindex);
            }
            NetworkEvent::Changed | NetworkEvent::Overrun => return,
        }
        self.check_readiness(now);
    }

    fn observed(&mut self, snapshot: Snapshot, now: Duration) {
        self.observing = false;
        let soon = now + RECONCILE_INTERVAL;
        self.observe_at = Some(self.observe_at.map_or(soon, |due| due.min(soon)));
        self.attach(&snapshot);
        let bypass = desired::bypass(&snapshot);
        if bypass != self.bypass {
            self.bypass.clone_from(&bypass);
            self.commands.push_back(Command::SetBypass(bypass));
        }
        self.snapshot = Some(snapshot);
        self.check_readiness(now);
        self.reconcile();
    }

    /// The datapath runs on every LAN interface that exists, and on a new one of the same name.
    fn attach(&mut self, snapshot: &Snapshot) {
        let lan = self.config.lan_interfaces.iter();
        let links = lan.filter_map(|name| snapshot.link(name));
        let wanted = links.map(|link| (link.name.clone(), link.ifindex)).collect();
        self.commands.push_back(Command::Attach(wanted));
    }

    fn check_readiness(&mut self, now: Duration) {
        let Some(snapshot) = self.snapshot.take() else { return };
        let mut transitions = Vec::new();
        for (at, family) in self.every_health() {
            let uplink = &mut self.uplinks[at];
            let nexthop = nexthop(&snapshot, &uplink.indexed.uplink, family);
            let ready = nexthop.as_ref().map(|_| ()).map_err(String::as_str);
            uplink.present[position(family)] |= ready.is_ok();
            let transition = uplink.health[position(family)].set_ready(ready, now);
            transitions.extend(transition.map(|transition| (at, family, transition)));
        }
        self.snapshot = Some(snapshot);
        self.follow_verdicts(transitions, now);
        self.start_rounds(now);
    }

    fn probe_answer(&mut self, uplink: u32, target: IpAddr, round: u64, now: Duration) {
        let family = if target.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 };
        let Some(at) = self.uplinks.iter().position(|known| known.indexed.index == uplink) else {
            return;
        };
        let transition = self.uplinks[at].health[position(family)].answer(target, round, now);
        let transitions = transition.map(|transition| (at, family, transition));
        self.follow_verdicts(transitions.into_iter().collect(), now);
    }

    fn start_rounds(&mut self, now: Duration) {
        let Some(snapshot) = &self.snapshot else { return };
        let mask = MarkMask(self.config.kernel.fwmark_mask);
        for uplink in &mut self.uplinks {
            let Some(link) = snapshot.link(&uplink.indexed.uplink.interface) else { continue };
            for health in &mut uplink.health {
                let Some(start) = health.start_round(now) else { continue };
                self.commands.push_back(Command::SendProbes {
                    uplink: uplink.indexed.index,
                    ifindex: link.ifindex,
                    fwmark: mask.encode(uplink.indexed.index),
                    round: start.round,
                    targets: start.targets,
                });
            }
        }
    }

    /// Turns changes of health into commands.
    fn follow_verdicts(&mut self, mut changes: Vec<(usize, Family, Transition)>, now: Duration) {
        changes.extend(self.follow_other_families(now));
        if changes.is_empty() {
            return;
        }
        for (at, family, transition) in &changes {
            let uplink = &mut self.uplinks[*at];
            let usable = transition.to == State::Up;
            self.up = self.up.with(uplink.indexed.index, *family, usable);
            uplink.stale[position(*family)] = transition.from == State::Up && !usable;
        }
        self.commands.push_back(Command::SetUpMask(self.up));
        self.forget_stale();
        self.reconcile();
        for (at, family, transition) in changes {
            let uplink = &self.uplinks[at];
            // That an IPv4 line has no IPv6 is no news.
            let Some(health) = uplink.family(family) else { continue };
            self.commands.push_back(Command::Report(Report {
                uplink: uplink.indexed.uplink.name.clone(),
                family,
                transition,
                reason: health.reason().into(),
            }));
        }
    }

    fn follow_other_families(&mut self, now: Duration) -> Vec<(usize, Family, Transition)> {
        let mut changes = Vec::new();
        for (at, uplink) in self.uplinks.iter_mut().enumerate() {
            for (family, other) in [(0, 1), (1, 0)] {
                let leader = uplink.present[other].then(|| uplink.health[other].state());
                let transition = uplink.health[family].follow(leader, now);
                changes.extend(transition.map(|change| (at, Family::ALL[family], change)));
            }
        }
        changes
    }

    /// Live flows of a down uplink are tracked with its address: the kernel must forget that before
    /// they can go on elsewhere. With nowhere to go, they keep what they have.
    fn forget_stale(&mut self) {
        let mask = MarkMask(self.config.kernel.fwmark_mask);
        for family in Family::ALL {
            if self.up.family(family) == 0 {
                continue;
            }
            for uplink in &mut self.uplinks {
                if std::mem::take(&mut uplink.stale[position(family)]) {
                    let fwmark = mask.encode(uplink.indexed.index);
                    self.commands.push_back(Command::ForgetConnections { family, fwmark });
                }
            }
        }
    }

    fn reconcile(&mut self) {
        let Some(snapshot) = self.snapshot.as_mut() else { return };
        let indexed: Vec<Indexed> =
            self.uplinks.iter().map(|uplink| uplink.indexed.clone()).collect();
        let desired = desired::desired(&self.config, &indexed, snapshot, self.up);
        let changes = diff::diff(&desired, snapshot);
        if changes.is_empty() {
            return;
        }
        diff::assume(snapshot, &changes);
        self.commands.push_back(Command::Apply(changes));
    }
}

/// An interface that was renamed is no longer found under its old name, nor a recreated one under
/// its old index.
fn forget_name(snapshot: &mut Snapshot, link: &Link) {
    snapshot.links.retain(|_, known| known.name != link.name);
}

#[cfg(test)]
mod tests;
