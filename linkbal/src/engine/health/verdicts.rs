//! Rounds of probes, readiness, and the verdicts that come of them.

use std::time::Duration;

use linkbal_common::uplink::Family;

use super::{HealthEvent, State};
use crate::{
    engine::{
        admin::AdminState,
        command::Command,
        context::{Context, Output},
        datapath::Datapath,
        kernel::{
            bond,
            nexthop::{self, Nexthop, nexthop},
            reconcile::Reconciler,
        },
        report::Report,
        uplinks::{UplinkState, VerdictChange},
    },
    per_family::other,
};

/// Starts the rounds of probes that are due.
pub(in crate::engine) fn start_rounds(
    context: &mut Context,
    datapath: &Datapath,
    output: &mut Output,
) {
    let Some(snapshot) = &context.snapshot else { return };
    let mask = linkbal_common::mark::MarkMask(context.config.kernel.fwmark_mask);
    for uplink in context.uplinks.iter_mut() {
        let Some(link) = snapshot.link(&uplink.config.interface) else {
            // Until it is seen not to be ready, which may have to wait.
            uplink.health.values_mut().for_each(|health| health.skip_round(context.now));
            continue;
        };
        for (family, health) in uplink.health.iter_mut() {
            let Some(start) = health.start_round(context.now) else { continue };
            let nexthop = nexthop(snapshot, &uplink.config, family).ok();
            output.push(Command::SendProbes {
                uplink: uplink.index,
                family,
                ifindex: link.ifindex,
                fwmark: mask.encode(uplink.index),
                gateway: nexthop.and_then(|nexthop| nexthop.gateway),
                own: datapath.address(uplink.index, family),
                round: start.round,
                targets: start.targets,
                timeout: start.timeout,
            });
        }
    }
}

/// Asks the gateways of uplinks that are down, to say more about that.
pub(in crate::engine) fn ask_gateways(
    context: &mut Context,
    datapath: &Datapath,
    output: &mut Output,
) {
    let Some(snapshot) = &context.snapshot else { return };
    let mask = linkbal_common::mark::MarkMask(context.config.kernel.fwmark_mask);
    for uplink in context.uplinks.iter_mut() {
        let Some(link) = snapshot.link(&uplink.config.interface) else { continue };
        // Elsewhere there is no neighbour to ask.
        if !link.ethernet || link.point_to_point {
            continue;
        }
        for (family, health) in uplink.health.iter_mut() {
            let found = nexthop(snapshot, &uplink.config, family).ok();
            let Some(gateway) = found.and_then(|nexthop| nexthop.gateway) else { continue };
            if health.ask_gateway(context.now) {
                output.push(Command::AskGateway {
                    uplink: uplink.index,
                    family,
                    ifindex: link.ifindex,
                    fwmark: mask.encode(uplink.index),
                    gateway,
                    own: datapath.address(uplink.index, family),
                });
            }
        }
    }
}

/// Handles the answer of a gateway, or its silence.
pub(in crate::engine) fn gateway_asked(
    context: &mut Context,
    uplink: u32,
    family: Family,
    answers: bool,
    output: &mut Output,
) {
    let Some(state) = context.uplinks.by_index_mut(uplink) else { return };
    let Some(cause) = state.health[family].gateway_asked(answers) else { return };
    let uplink = state.config.name.clone();
    let Some(health) = state.family(family) else { return };
    output.report(Report::Diagnosis { uplink, family, cause, reason: health.reason().clone() });
}

/// Passes an event to the health of one uplink and family.
pub(in crate::engine) fn handle(
    context: &mut Context,
    uplink: u32,
    family: Family,
    event: &HealthEvent<'_>,
) -> Vec<VerdictChange> {
    let now = context.now;
    let Some(state) = context.uplinks.by_index_mut(uplink) else { return Vec::new() };
    let transition = state.health[family].handle(event, now);
    transition.map(|transition| VerdictChange { uplink, family, transition }).into_iter().collect()
}

/// Takes down uplinks that are disabled, and lets those that no longer are prove themselves.
pub(in crate::engine) fn update_admin(context: &mut Context) -> Vec<VerdictChange> {
    let disabled = |uplink: &UplinkState| uplink.admin == AdminState::Disabled;
    let uplinks = context.uplinks.iter().map(|uplink| (uplink.index, disabled(uplink)));
    let mut verdicts = Vec::new();
    for (uplink, disabled) in uplinks.collect::<Vec<_>>() {
        let event = HealthEvent::Disabled(disabled);
        for family in Family::ALL {
            verdicts.extend(handle(context, uplink, family, &event));
        }
    }
    verdicts
}

/// Handles a neighbour that cannot be reached, which may be the gateway of uplinks.
pub(in crate::engine) fn neighbour_failed(
    context: &mut Context,
    ifindex: u32,
    address: std::net::IpAddr,
) -> Vec<VerdictChange> {
    let Some(snapshot) = &context.snapshot else { return Vec::new() };
    let family = if address.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 };
    let failed = Some(Nexthop { ifindex, gateway: Some(address) });
    let by_it = |uplink: &&UplinkState| nexthop(snapshot, &uplink.config, family).ok() == failed;
    let uplinks: Vec<u32> =
        context.uplinks.iter().filter(by_it).map(|uplink| uplink.index).collect();
    let event = HealthEvent::GatewayFailed(address);
    uplinks.into_iter().flat_map(|uplink| handle(context, uplink, family, &event)).collect()
}

/// Checks which uplinks are ready. None becomes so before everything is in place: a flow that an
/// uplink got before its addresses are translated would be tracked without translation for as long as
/// it lives. One that no longer is does not wait for that.
pub(in crate::engine) fn check_readiness(
    context: &mut Context,
    reconciler: &mut Reconciler,
    bonds: &bond::Watch,
) -> Vec<VerdictChange> {
    let mut verdicts = Vec::new();
    let Some(snapshot) = &context.snapshot else { return verdicts };
    let installed = reconciler.is_installed();
    let now = context.now;
    for uplink in context.uplinks.iter_mut() {
        let interface = &uplink.config.interface;
        let link = snapshot.link(interface);
        uplink.has_ipv4 =
            link.is_some_and(|link| nexthop::has_address(snapshot, link, Family::Ipv4));
        for family in Family::ALL {
            let nexthop = nexthop(snapshot, &uplink.config, family);
            let health = &uplink.health[family];
            let fails = nexthop.is_err() && (health.is_ready() || health.state().is_up());
            if !installed && !fails {
                continue;
            }
            uplink.present[family] |= nexthop.is_ok();
            let bond_due = bonds.expected_until(&context.config.bonds, interface, now);
            if nexthop.is_err() && bond_due.is_some() && uplink.state() == State::Init {
                reconciler.observe_by(bond_due);
                continue;
            }
            let health = &mut uplink.health[family];
            let event = match &nexthop {
                Err(lacks) if uplink.standby[family] == Some(true) => HealthEvent::Standby(lacks),
                Err(lacks) => HealthEvent::NotReady(lacks),
                // An uplink that is up must have its routes in place, too; once the changes are
                // made, this is checked again.
                Ok(_) if !health.is_ready() && reconciler.is_pending() => continue,
                Ok(_) => HealthEvent::Ready,
            };
            let transition = health.handle(&event, now);
            verdicts.extend(transition.map(|transition| VerdictChange {
                uplink: uplink.index,
                family,
                transition,
            }));
        }
    }
    verdicts
}

/// Returns the verdicts on families that have no targets of their own: the other family decides.
pub(in crate::engine) fn other_families(context: &mut Context) -> Vec<VerdictChange> {
    let now = context.now;
    let mut verdicts = Vec::new();
    for uplink in context.uplinks.iter_mut() {
        for family in Family::ALL {
            let leader = other(family);
            let state = uplink.present[leader].then(|| uplink.health[leader].state());
            let transition = uplink.health[family].handle(&HealthEvent::OtherFamily(state), now);
            let uplink = uplink.index;
            verdicts.extend(transition.map(|transition| VerdictChange {
                uplink,
                family,
                transition,
            }));
        }
    }
    verdicts
}

/// Notes which uplinks are usable, and whose flows connection tracking has yet to forget.
pub(in crate::engine) fn store(context: &mut Context, verdicts: &[VerdictChange]) {
    for VerdictChange { uplink, family, transition } in verdicts {
        let usable = transition.to == State::Up;
        context.up = context.up.with(*uplink, *family, usable);
        let Some(state) = context.uplinks.by_index_mut(*uplink) else { continue };
        if usable {
            state.traffic.begin();
        }
        // Connections that were handed over to the partner live on.
        let handed_over = state.standby[*family] == Some(true);
        let stale = &mut state.stale[*family];
        *stale = !usable && !handed_over && (*stale || transition.from == State::Up);
    }
}

/// Reports verdicts.
pub(in crate::engine) fn report(
    context: &Context,
    verdicts: &[VerdictChange],
    output: &mut Output,
) {
    for VerdictChange { uplink, family, transition } in verdicts {
        let Some(state) = context.uplinks.by_index(*uplink) else { continue };
        // An IPv4 line without IPv6 is no news.
        let Some(health) = state.family(*family) else { continue };
        output.report(Report::Uplink {
            uplink: state.config.name.clone(),
            family: *family,
            transition: *transition,
            reason: health.reason().clone(),
            evidence: health.seen(),
        });
    }
}

/// Returns the time at which health has something to do.
pub(in crate::engine) fn deadline(context: &Context) -> Option<Duration> {
    let healths = context.uplinks.iter().flat_map(|uplink| uplink.health.values());
    let suspicions = context.uplinks.iter().filter_map(UplinkState::suspicion_at);
    healths.filter_map(super::Health::deadline).chain(suspicions).min()
}
