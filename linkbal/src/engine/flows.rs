//! The end of the flows of uplinks that are no longer usable, or no longer there.

use std::mem;

use linkbal_common::uplink::Family;

use super::{
    command::Command,
    context::{Context, Output},
    datapath::Datapath,
    per_family::PerFamily,
    uplinks::UplinkState,
};
use crate::config::OnDown;

/// The uplinks that the configuration no longer has, or not on that interface, and whose flows have
/// yet to end.
#[derive(Debug, Default)]
pub(super) struct FlowTermination {
    former: Vec<Former>,
}

#[derive(Debug)]
struct Former {
    index: u32,
    on_down: OnDown,
    /// Set while connection tracking has yet to forget its flows.
    stale: PerFamily<bool>,
}

impl FlowTermination {
    /// Notes an uplink that is gone. Its flows are moved rather than kept, since there is nothing
    /// to wait for.
    pub(super) fn add(&mut self, uplink: &UplinkState) {
        let on_down = match uplink.config.on_down {
            OnDown::Reset => OnDown::Reset,
            OnDown::Move | OnDown::Keep => OnDown::Move,
        };
        self.former.push(Former { index: uplink.index, on_down, stale: uplink.present });
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
            let former =
                former.map(|former| (&mut former.stale[family], former.index, former.on_down));
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
    if on_down == OnDown::Reset {
        let own = datapath.address(uplink, family).into_iter().collect();
        output.push(Command::EndFlows { uplink, family, own });
    }
    if on_down != OnDown::Keep {
        let fwmark = context.fwmark(uplink);
        output.push(Command::ForgetConnections { family, fwmark });
    }
}
