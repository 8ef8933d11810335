//! The states of bonds and of their members.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The state of a bond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BondState {
    /// The bond does not exist.
    Missing,
    /// The interface with its name is no bond.
    Foreign,
    /// No member works, or it was taken down.
    Down,
    /// At least one member works.
    Up,
}

/// The state of a member of a bond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberState {
    /// The member does not exist.
    Missing,
    /// The member is not in the bond.
    Outside,
    /// The member is dead, says its monitoring.
    Down,
    /// The member waits until it is needed.
    Standby,
    /// The member carries packets.
    Active,
}

impl BondState {
    /// Returns whether the bond carries nothing.
    pub const fn is_bad(self) -> bool {
        match self {
            BondState::Missing | BondState::Foreign | BondState::Down => true,
            BondState::Up => false,
        }
    }

    /// Returns the name, as in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            BondState::Missing => "missing",
            BondState::Foreign => "foreign",
            BondState::Down => "down",
            BondState::Up => "up",
        }
    }

    /// Returns the reason for the state, for people.
    pub const fn reason(self) -> &'static str {
        match self {
            BondState::Missing => "it does not exist",
            BondState::Foreign => "something else has its name: rename that, or the bond",
            BondState::Down => "none of its members works",
            BondState::Up => "it works",
        }
    }
}

impl MemberState {
    /// Returns whether the member could carry nothing.
    pub const fn is_bad(self) -> bool {
        match self {
            MemberState::Missing | MemberState::Outside | MemberState::Down => true,
            MemberState::Standby | MemberState::Active => false,
        }
    }

    /// Returns the name, as in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            MemberState::Missing => "missing",
            MemberState::Outside => "outside",
            MemberState::Down => "down",
            MemberState::Standby => "standby",
            MemberState::Active => "active",
        }
    }
}

impl fmt::Display for BondState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for MemberState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
