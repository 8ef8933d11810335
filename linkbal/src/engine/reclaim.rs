//! Failback: flows that an uplink took over are moved back, if the configuration wants it.
//!
//! An uplink with `on_up = "reclaim"` owes its flows once every uplink of a better tier was down.
//! When one of those has been usable, and not to be avoided, for `reclaim_after` without a break,
//! the flows of the backup are ended, and begin anew where new flows go.

use std::time::Duration;

use linkbal_common::{mark::MarkMask, uplink::Family};

use super::{Command, Engine, health::State, uplinks::position};
use crate::config::OnUp;

/// The flows that an uplink owes to better ones, in one family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Debt {
    /// The uplink carries only flows that it was given while there was a choice.
    #[default]
    None,
    /// The uplink took over from better ones.
    Owed,
    /// A better uplink is back: the flows are moved at this time.
    Due(Duration),
}

impl Engine {
    /// Moves flows back that are due.
    pub(super) fn reclaim(&mut self, now: Duration) {
        for at in 0..self.uplinks.len() {
            let OnUp::Reclaim { after } = self.uplinks[at].indexed.uplink.on_up else { continue };
            for family in Family::ALL {
                let debt = self.uplinks[at].debt[position(family)];
                let debt = match (debt, self.better(at, family)) {
                    (_, Better::Down) => Debt::Owed,
                    (Debt::Due(_), Better::Unknown) => Debt::Owed,
                    (debt, Better::Unknown) => debt,
                    (Debt::Owed, Better::Usable) => Debt::Due(now + after),
                    (debt, Better::Usable) => debt,
                };
                let due = matches!(debt, Debt::Due(due) if due <= now);
                self.uplinks[at].debt[position(family)] = if due { Debt::None } else { debt };
                if due {
                    self.move_flows(at, family);
                }
            }
        }
    }

    /// Returns the time at which [`Self::reclaim`] has something to do.
    pub(super) fn reclaim_at(&self) -> Option<Duration> {
        let debts = self.uplinks.iter().flat_map(|uplink| uplink.debt);
        let due = debts.filter_map(|debt| if let Debt::Due(due) = debt { Some(due) } else { None });
        due.min()
    }

    fn move_flows(&mut self, at: usize, family: Family) {
        let uplink = self.uplinks[at].indexed.index;
        let own = self.addresses.get(&(uplink, family)).copied().into_iter().collect();
        self.commands.push_back(Command::EndFlows { uplink, family, own });
        let fwmark = MarkMask(self.config.kernel.fwmark_mask).encode(uplink);
        self.commands.push_back(Command::ForgetConnections { family, fwmark });
    }

    /// Returns the state of the uplinks of better tiers.
    fn better(&self, at: usize, family: Family) -> Better {
        let tier = self.uplinks[at].indexed.uplink.tier;
        let better = self.uplinks.iter().filter(|other| other.indexed.uplink.tier < tier);
        let states: Vec<_> = better
            .map(|other| {
                let avoided = self.avoided().contains(other.indexed.index, family);
                (other.health[position(family)].state(), avoided)
            })
            .collect();
        if states.contains(&(State::Up, false)) {
            Better::Usable
        } else if states.iter().any(|(state, _)| matches!(state, State::Init | State::Up)) {
            Better::Unknown
        } else {
            Better::Down
        }
    }
}

enum Better {
    /// A better uplink is usable.
    Usable,
    /// A better uplink is to be avoided, or may turn out to be usable.
    Unknown,
    /// No better uplink is usable.
    Down,
}
