//! Settings of others in the kernel that conflict with linkbal, or might be thought to.
//!
//! Nothing here is ever changed: each setting is reported, with its probable owner, its meaning,
//! and advice.

// Input from outside must not stop the daemon.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod chain_rules;
pub mod chains;
pub mod closed;
mod each_packet;
mod filters;
mod forward;
mod inbound;
mod iptables;
pub mod lookup;
mod marks;
pub mod path;
mod possible_marks;
mod products;
mod reach;
pub mod remains;
mod routes;
mod rules;
mod snat;
mod source_rule;
pub mod survey;
pub(in crate::engine) mod tracker;
mod tunnels;
mod vrf;

use std::{collections::BTreeSet, fmt};

use linkbal_common::uplink::Family;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use self::survey::Survey;
use super::network::Snapshot;
use crate::config::Config;

/// Maximum number of conflicts of one kind that are named: the rest would say nothing new.
const MAX_OF_KIND: usize = 8;

/// A setting of others that linkbal meets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, ToSchema)]
pub struct Conflict {
    /// The setting that was found.
    pub what: String,
    /// The probable owner.
    pub owner: String,
    /// The meaning for linkbal.
    pub meaning: String,
    /// Advice; empty if nothing need be done.
    pub advice: String,
    /// Set if both work side by side.
    pub compatible: bool,
}

/// The conflict in one sentence.
impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.what, self.owner, self.meaning)?;
        if self.advice.is_empty() { Ok(()) } else { write!(f, "; {}", self.advice) }
    }
}

/// Returns the conflicts, at most eight of each kind, in a stable order.
///
/// `down` are the interfaces, by family, of which no uplink can be used now.
pub fn find(
    config: &Config,
    snapshot: &Snapshot,
    survey: &Survey,
    down: &BTreeSet<(String, Family)>,
) -> BTreeSet<Conflict> {
    let each = [
        products::find(config, snapshot, survey),
        rules::find(config, snapshot, survey),
        routes::find(config, snapshot, down),
        marks::find(config, snapshot, survey),
        snat::find(config, snapshot, survey),
        filters::find(config, survey),
        closed::find(config, snapshot, survey),
        tunnels::find(config, snapshot),
        vrf::find(config, snapshot),
        inbound::find(config, snapshot).into_iter().collect(),
    ];
    let mut found: BTreeSet<Conflict> =
        each.into_iter().flat_map(|found| found.into_iter().take(MAX_OF_KIND)).collect();
    add_paths(&mut found, path::find(config, snapshot, &survey.paths));
    found
}

/// Adds packets that go elsewhere, unless the rules that take them are reported already: the same in
/// other words says nothing new.
pub fn add_paths(found: &mut BTreeSet<Conflict>, astray: Vec<Conflict>) {
    let is_known = |rule: &str| found.iter().any(|known| !known.compatible && known.what == rule);
    let new = |path: &Conflict| !path.owner.split(", ").all(is_known);
    let new: Vec<Conflict> = astray.into_iter().filter(new).take(MAX_OF_KIND).collect();
    found.extend(new);
}

#[cfg(test)]
mod tests;
