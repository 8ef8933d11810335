//! Verdicts from rounds of probes, and their consequences.

use std::time::Duration;

use linkbal_common::{mark::MarkMask, uplink::Family};

use super::{
    Command, Engine, Report,
    desired::nexthop,
    health::{Health, State, Transition},
    uplinks::position,
};

impl Engine {
    pub(super) fn probe_ended(
        &mut self,
        uplink: u32,
        family: Family,
        tell: impl FnOnce(&mut Health) -> Option<Transition>,
        now: Duration,
    ) {
        let Some(at) = self.uplinks.iter().position(|known| known.indexed.index == uplink) else {
            return;
        };
        let transition = tell(&mut self.uplinks[at].health[position(family)]);
        let transitions = transition.map(|transition| (at, family, transition));
        self.follow_verdicts(transitions.into_iter().collect(), now);
    }

    pub(super) fn start_rounds(&mut self, now: Duration) {
        let Some(snapshot) = &self.snapshot else { return };
        let mask = MarkMask(self.config.kernel.fwmark_mask);
        for uplink in &mut self.uplinks {
            let Some(link) = snapshot.link(&uplink.indexed.uplink.interface) else { continue };
            for (family, health) in Family::ALL.into_iter().zip(&mut uplink.health) {
                let Some(start) = health.start_round(now) else { continue };
                let nexthop = nexthop(snapshot, &uplink.indexed.uplink, family).ok();
                self.commands.push_back(Command::SendProbes {
                    uplink: uplink.indexed.index,
                    family,
                    ifindex: link.ifindex,
                    fwmark: mask.encode(uplink.indexed.index),
                    gateway: nexthop.and_then(|nexthop| nexthop.gateway),
                    round: start.round,
                    targets: start.targets,
                    timeout: start.timeout,
                });
            }
        }
    }

    /// Turns changes of health into commands.
    pub(super) fn follow_verdicts(
        &mut self,
        mut changes: Vec<(usize, Family, Transition)>,
        now: Duration,
    ) {
        changes.extend(self.follow_other_families(now));
        if changes.is_empty() {
            return;
        }
        for (at, family, transition) in &changes {
            let uplink = &mut self.uplinks[*at];
            let usable = transition.to == State::Up;
            self.up = self.up.with(uplink.indexed.index, *family, usable);
            if usable {
                uplink.watch.begin();
            }
            // Connections that were handed over to the partner live on.
            let handed_over = uplink.standby[position(*family)] == Some(true);
            let stale = &mut uplink.stale[position(*family)];
            *stale = !usable && !handed_over && (*stale || transition.from == State::Up);
        }
        let usable = self.with_promised();
        self.promised = Some(usable);
        self.commands.push_back(Command::SetUpMask(usable));
        self.forget_stale();
        self.reconcile(None, now);
        for (at, family, transition) in changes {
            let uplink = &self.uplinks[at];
            // An IPv4 line without IPv6 is no news.
            let Some(health) = uplink.family(family) else { continue };
            self.commands.push_back(Command::Report(Report::Uplink {
                uplink: uplink.indexed.uplink.name.clone(),
                family,
                transition,
                reason: health.reason().into(),
                evidence: health.seen(),
            }));
        }
        // The last uplink that is not full may be among them.
        if self.avoided.is_some() {
            self.tell_avoided();
        }
    }

    pub(super) fn follow_other_families(
        &mut self,
        now: Duration,
    ) -> Vec<(usize, Family, Transition)> {
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
}
