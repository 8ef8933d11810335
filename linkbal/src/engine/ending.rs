//! The end of the flows of uplinks that are no longer usable, or no longer there.

use std::mem;

use linkbal_common::{mark::MarkMask, uplink::Family};

use super::{Command, Engine, UplinkState, desired::Indexed, uplinks::position};
use crate::config::OnDown;

/// An uplink that the configuration no longer has, or not on that interface.
#[derive(Debug)]
pub(super) struct Former {
    indexed: Indexed,
    /// Set while connection tracking has yet to forget its flows, by family.
    stale: [bool; 2],
}

impl Former {
    pub(super) fn new(state: UplinkState) -> Former {
        Former { stale: state.present, indexed: state.indexed }
    }

    /// Returns what to do with its flows: they are moved rather than kept, since there is nothing
    /// to wait for.
    fn on_down(&self) -> OnDown {
        match self.indexed.uplink.on_down {
            OnDown::Reset => OnDown::Reset,
            OnDown::Move | OnDown::Keep => OnDown::Move,
        }
    }
}

impl Engine {
    /// Ends or forgets the flows of uplinks that are down or gone. They are tracked with the
    /// address of their uplink: the kernel must forget that before they can go on elsewhere. With
    /// no usable uplink, they keep what they have.
    pub(super) fn forget_stale(&mut self) {
        for family in Family::ALL {
            if self.up.family(family) == 0 {
                continue;
            }
            let at = position(family);
            let present = self.uplinks.iter_mut().map(|uplink| {
                let Indexed { index, uplink: config } = &uplink.indexed;
                (&mut uplink.stale[at], *index, config.on_down)
            });
            let former = self.former.iter_mut().map(|former| {
                let on_down = former.on_down();
                (&mut former.stale[at], former.indexed.index, on_down)
            });
            let stale = present
                .chain(former)
                .filter_map(|(stale, index, on_down)| mem::take(stale).then_some((index, on_down)));
            for (index, on_down) in stale.collect::<Vec<_>>() {
                self.end_flows(index, family, on_down);
            }
        }
        self.former.retain(|former| former.stale.contains(&true));
    }

    fn end_flows(&mut self, uplink: u32, family: Family, on_down: OnDown) {
        if on_down == OnDown::Reset {
            let own = self.addresses.get(&(uplink, family)).copied();
            let own = own.into_iter().collect();
            self.commands.push_back(Command::EndFlows { uplink, family, own });
        }
        if on_down != OnDown::Keep {
            let fwmark = MarkMask(self.config.kernel.fwmark_mask).encode(uplink);
            self.commands.push_back(Command::ForgetConnections { family, fwmark });
        }
    }
}
