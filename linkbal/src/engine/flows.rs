//! The end of the flows of uplinks that are no longer usable, or no longer there.

use std::{mem, net::IpAddr};

use linkbal_common::uplink::{Family, MAX_UPLINKS, UpMask};
use serde::{Deserialize, Serialize};

use super::{
    command::{Command, Unmarked},
    context::{Context, Output},
    datapath::Datapath,
    indexed::Indexed,
    uplinks::{UplinkState, Uplinks},
};
use crate::{config::OnDown, per_family::PerFamily};

/// The uplinks that the configuration no longer has, or not on that interface, and whose flows have
/// yet to end.
#[derive(Debug, Default)]
pub(super) struct FlowTermination {
    former: Vec<Former>,
}

/// An uplink that the configuration no longer has, or not on that interface.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Former {
    /// The index that its flows carry.
    pub index: u32,
    /// Name of the interface; `None` if that is not known.
    pub interface: Option<String>,
    /// Set if its flows are reset. Others move, rather than stay: there is nothing to wait for.
    pub reset: bool,
    /// Set while connection tracking has yet to forget its flows.
    pub stale: PerFamily<bool>,
}

impl Former {
    /// Returns the uplinks of a running datapath that `uplinks` do not continue. `before` are those of
    /// its configuration, if that is known, and `up` those that it has as usable.
    pub fn find(before: &[Indexed], uplinks: &[Indexed], up: UpMask) -> Vec<Former> {
        let gone = before.iter().filter(|old| uplinks.iter().all(|new| !old.is_continued_by(new)));
        let known = gone.map(|old| {
            let stale = PerFamily::from_fn(|family| old.config.carries(family));
            Former::new(old.index, &old.config.interface, old.config.on_down, stale)
        });
        let mut all: Vec<Former> = known.collect();
        for index in 0..MAX_UPLINKS as u32 {
            let stale = PerFamily::from_fn(|family| up.contains(index, family));
            let is_known = before.iter().chain(uplinks).any(|each| each.index == index);
            if !is_known && stale != PerFamily::default() {
                all.push(Former { index, interface: None, reset: true, stale });
            }
        }
        all
    }

    fn new(index: u32, interface: &str, on_down: OnDown, stale: PerFamily<bool>) -> Former {
        Former { index, interface: Some(interface.into()), reset: on_down == OnDown::Reset, stale }
    }

    const fn on_down(&self) -> OnDown {
        if self.reset { OnDown::Reset } else { OnDown::Move }
    }
}

impl FlowTermination {
    /// Creates it with the uplinks that are gone at the start.
    pub(super) const fn new(former: Vec<Former>) -> FlowTermination {
        FlowTermination { former }
    }

    /// Notes an uplink that is gone.
    pub(super) fn add(&mut self, uplink: &UplinkState) {
        let UplinkState { index, config, present, .. } = uplink;
        self.former.push(Former::new(*index, &config.interface, config.on_down, *present));
    }

    /// Gives the flows of an uplink that was gone, and is back, to it again.
    pub(super) fn give_back(&mut self, uplinks: &mut Uplinks) {
        self.former.retain(|former| {
            let Some(uplink) = uplinks.by_index_mut(former.index) else { return true };
            if former.interface.as_ref() != Some(&uplink.config.interface) {
                return true;
            }
            uplink.stale = former.stale;
            false
        });
    }

    /// Ends or forgets the flows of uplinks that are down or gone. They are tracked with the
    /// address of their uplink: the kernel must forget that before they can go on elsewhere. With
    /// no usable uplink, they keep what they have.
    pub(super) fn end_stale(
        &mut self,
        context: &mut Context,
        datapath: &Datapath,
        output: &mut Output,
    ) {
        for family in Family::ALL {
            if !context.has_usable(family) {
                continue;
            }
            let present = context
                .uplinks
                .iter_mut()
                .map(|uplink| (&mut uplink.stale[family], uplink.index, uplink.config.on_down));
            let former = self.former.iter_mut();
            let former = former.map(|former| {
                let on_down = former.on_down();
                (&mut former.stale[family], former.index, on_down)
            });
            let stale = present
                .chain(former)
                .filter_map(|(stale, index, on_down)| mem::take(stale).then_some((index, on_down)));
            for (index, on_down) in stale.collect::<Vec<_>>() {
                end(context, datapath, index, family, on_down, output);
            }
        }
        self.former.retain(|former| former.stale != PerFamily::default());
    }
}

/// Ends the flows of an uplink as its `on_down` says.
pub(super) fn end(
    context: &Context,
    datapath: &Datapath,
    uplink: u32,
    family: Family,
    on_down: OnDown,
    output: &mut Output,
) {
    let fwmark = context.fwmark(uplink);
    if on_down == OnDown::Reset {
        let own: Vec<IpAddr> = datapath.address(uplink, family).into_iter().collect();
        let shared = own.iter().any(|own| datapath.is_of_another(uplink, *own));
        // Where local traffic is balanced, linkbal marks what this machine connects: all else came in,
        // or somebody chose its way.
        let unmarked = match (shared, context.config.local_balance) {
            (true, _) => Unmarked::None,
            (false, true) => Unmarked::UnlessBalanced,
            (false, false) => Unmarked::Outgoing,
        };
        output.push(Command::EndFlows { uplink, family, own, fwmark, unmarked });
    }
    if on_down != OnDown::Keep {
        output.push(Command::ForgetConnections { family, fwmark });
    }
}
