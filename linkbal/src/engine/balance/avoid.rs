//! The uplinks that new flows avoid as long as there are others.

use linkbal_common::uplink::{Family, UpMask};

use super::spillover;
use crate::engine::{
    admin::AdminState,
    context::{Context, Output},
    health::State,
    kernel::lease::Leases,
    report::Report,
};

/// Returns the uplinks to avoid: drained and degraded ones, those with an address or route that is
/// held and may not come back, and of the rest the full ones.
pub(in crate::engine) fn avoided(context: &Context, leases: &Leases) -> UpMask {
    let others = context.uplinks.mask(|uplink, family| {
        uplink.admin == AdminState::Drained
            || uplink.is_degraded(family)
            || leases.may_expire(uplink, family)
    });
    others.union(spillover::full(&context.uplinks, context.up.without(others)))
}

/// Reports which uplinks are degraded or no longer so.
pub(in crate::engine) fn report_degraded(context: &mut Context, output: &mut Output) {
    for uplink in context.uplinks.iter_mut() {
        for family in Family::ALL {
            let degraded = uplink.health[family].degraded();
            let reported = &mut uplink.degraded[family];
            if degraded.is_some() != *reported {
                *reported = degraded.is_some();
                output.report(Report::Quality {
                    uplink: uplink.config.name.clone(),
                    family,
                    degraded: degraded.map(str::to_owned),
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
