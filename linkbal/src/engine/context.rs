//! The state that the parts of the engine decide upon, and the place where their decisions go.

use std::{collections::VecDeque, time::Duration};

use linkbal_common::{
    mark::MarkMask,
    uplink::{Family, UpMask},
};

use super::{command::Command, kernel::network::Snapshot, report::Report, uplinks::Uplinks};
use crate::config::Config;

/// The situation in which a part of the engine decides.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) config: Config,
    pub(super) uplinks: Uplinks,
    /// The last observation of the kernel, with the changes that were asked for since then.
    pub(super) snapshot: Option<Snapshot>,
    /// The uplinks that are usable, by family.
    pub(super) up: UpMask,
    /// Present time.
    pub(super) now: Duration,
}

impl Context {
    /// Returns the fwmark of the uplink with an index.
    pub(super) const fn fwmark(&self, index: u32) -> u32 {
        MarkMask(self.config.kernel.fwmark_mask).encode(index)
    }

    /// Returns whether an uplink is usable in a family.
    pub(super) const fn has_usable(&self, family: Family) -> bool {
        self.up.family(family) != 0
    }
}

/// The commands that are given, in order.
#[derive(Debug, Default)]
pub(super) struct Output {
    commands: VecDeque<Command>,
}

impl Output {
    /// Gives a command.
    pub(super) fn push(&mut self, command: Command) {
        self.commands.push_back(command);
    }

    /// Gives the command to report something.
    pub(super) fn report(&mut self, report: Report) {
        self.push(Command::Report(report));
    }

    /// Takes out the first command.
    pub(super) fn pop(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }
}
