//! The uplinks that new flows avoid as long as there are others.

use linkbal_common::uplink::{Family, UpMask};

use super::spillover;
use crate::engine::{
    admin::AdminState,
    context::{Context, Output},
    health::State,
    kernel::lease::Leases,
    report::Report,
    uplinks::UplinkState,
};

/// Returns the uplinks to avoid, the least fit first: those with an address or route that is held and
/// may not come back, drained ones, degraded ones, and of the rest the full ones. Each kind counts only
/// while another uplink is left: the datapath takes any of those to avoid if there are no others.
pub(in crate::engine) fn avoided(context: &Context, leases: &Leases) -> UpMask {
    let uplinks = &context.uplinks;
    let kinds = [
        uplinks.mask(|uplink, family| leases.may_expire(uplink, family)),
        uplinks.mask(|uplink, _| uplink.admin == AdminState::Drained),
        uplinks.mask(UplinkState::is_degraded),
    ];
    let others = kinds.into_iter().fold(UpMask::default(), |avoided, kind| {
        let avoidable = |family| leaves_one(context.up, avoided.union(kind), family);
        let kind =
            uplinks.mask(|uplink, family| kind.contains(uplink.index, family) && avoidable(family));
        avoided.union(kind)
    });
    others.union(spillover::full(uplinks, context.up.without(others)))
}

/// Returns whether an uplink that is `up` is outside of `avoided`, or none is up at all.
const fn leaves_one(up: UpMask, avoided: UpMask, family: Family) -> bool {
    up.family(family) == 0 || up.without(avoided).family(family) != 0
}

/// Reports which uplinks are degraded or no longer so. One that is down keeps no limits: that it is
/// down is said elsewhere.
pub(in crate::engine) fn report_degraded(context: &mut Context, output: &mut Output) {
    for uplink in context.uplinks.iter_mut() {
        for family in Family::ALL {
            let degraded = uplink.health[family].degraded();
            let is_up = uplink.health[family].state().is_up();
            let reported = &mut uplink.degraded[family];
            if degraded.is_some() != *reported {
                *reported = degraded.is_some();
                if !is_up && degraded.is_none() {
                    continue;
                }
                output.report(Report::Quality {
                    uplink: uplink.config.name.clone(),
                    family,
                    degraded: degraded.map(<[_]>::to_vec),
                });
            }
        }
    }
}

/// Returns the families in which no uplink is usable but drained ones, though without the
/// administrator there might be one.
pub(in crate::engine) fn families_without_choice(context: &Context) -> Vec<Family> {
    let drained = context.uplinks.mask(|uplink, _| uplink.admin == AdminState::Drained);
    let none_left = |family| context.up.family(family) & !drained.family(family) == 0;
    let by_admin = |family| {
        let mut uplinks = context
            .uplinks
            .iter()
            .filter_map(|uplink| Some((uplink.admin, uplink.family(family)?.state())));
        uplinks.any(|(admin, state)| {
            state == State::AdminDown || (admin == AdminState::Drained && state == State::Up)
        })
    };
    Family::ALL.into_iter().filter(|family| none_left(*family) && by_admin(*family)).collect()
}
