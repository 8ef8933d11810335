//! State of the configured bonds, and its changes.

use std::{collections::BTreeMap, time::Duration};

use super::{
    super::network::Snapshot,
    Bonding,
    state::{BondState, MemberState},
};
use crate::{
    config::{Bond, BondMode, name_of},
    engine::report::Report,
};

/// A bond, as shown to people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BondStatus {
    /// Name.
    pub name: String,
    /// Name of the present mode; that of the configuration while the bond does not exist.
    pub mode: &'static str,
    /// State of the bond.
    pub state: BondState,
    /// The active member, in modes with one.
    pub active: Option<String>,
    /// The members, as configured.
    pub members: Vec<MemberStatus>,
}

/// A member of a bond, as shown to people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// Name.
    pub name: String,
    /// State of the member.
    pub state: MemberState,
}

/// Returns the state of the bonds.
pub fn status(bonds: &[Bond], snapshot: &Snapshot) -> Vec<BondStatus> {
    let nothing = Bonding::default();
    let bonding = snapshot.bonding.as_ref().unwrap_or(&nothing);
    bonds.iter().map(|bond| of(bond, snapshot, bonding)).collect()
}

fn of(bond: &Bond, snapshot: &Snapshot, bonding: &Bonding) -> BondStatus {
    let port = bonding.ports.get(&bond.name).filter(|port| port.ifindex != 0);
    let works = snapshot.link(&bond.name).is_some_and(|link| link.up && link.carrier);
    let state = match port {
        None => BondState::Missing,
        Some(port) if port.bond.is_none() => BondState::Foreign,
        Some(_) if works => BondState::Up,
        Some(_) => BondState::Down,
    };
    let mode = port.and_then(|port| port.bond.as_ref()).map(|options| options.mode);
    let members = bond.members.iter().map(|member| MemberStatus {
        name: member.clone(),
        state: member_state(bonding, &bond.name, member),
    });
    BondStatus {
        name: bond.name.clone(),
        mode: name_of::<BondMode>(mode.unwrap_or_else(|| crate::config::Named::number(bond.mode))),
        state,
        active: port.and_then(|port| port.active.clone()),
        members: members.collect(),
    }
}

fn member_state(bonding: &Bonding, bond: &str, member: &str) -> MemberState {
    let Some(port) = bonding.ports.get(member) else { return MemberState::Missing };
    match port.member.filter(|_| port.is_in(bond)) {
        None => MemberState::Outside,
        Some(member) if !member.alive => MemberState::Down,
        Some(member) if member.active => MemberState::Active,
        Some(_) => MemberState::Standby,
    }
}

/// Time for which uplinks wait for their bonds at the start.
const CREATION_TIME: Duration = Duration::from_secs(10);

/// The bonds as last reported.
#[derive(Debug)]
pub struct Watch {
    known: Option<BTreeMap<String, BondStatus>>,
    expected_until: Duration,
}

impl Watch {
    /// Creates a watch that has reported nothing so far.
    pub const fn new(now: Duration) -> Watch {
        Watch { known: None, expected_until: now.saturating_add(CREATION_TIME) }
    }

    /// Returns the time until which it is no news that an interface is not ready, if it is one of
    /// the bonds: it is about to be created.
    pub fn expected_until(
        &self,
        bonds: &[Bond],
        interface: &str,
        now: Duration,
    ) -> Option<Duration> {
        let waits = now < self.expected_until && bonds.iter().any(|bond| bond.carries(interface));
        waits.then_some(self.expected_until)
    }

    /// Updates the state of the bonds; returns what changed. The state at the start is no change.
    ///
    /// A bond that was created counts as missing until it works for the first time.
    pub fn update(&mut self, now: Vec<BondStatus>) -> Vec<Report> {
        let mut now: BTreeMap<_, _> =
            now.into_iter().map(|bond| (bond.name.clone(), bond)).collect();
        for (name, bond) in &mut now {
            let before = self.known.as_ref().and_then(|known| known.get(name));
            let missing = before.is_some_and(|before| before.state == BondState::Missing);
            if missing && bond.state == BondState::Down {
                bond.state = BondState::Missing;
            }
        }
        let before = self.known.replace(now.clone()).unwrap_or_else(|| now.clone());
        let pairs = now.iter().filter_map(|(name, now)| Some((before.get(name)?, now)));
        pairs.flat_map(|(before, now)| news(before, now)).collect()
    }
}

fn news(before: &BondStatus, now: &BondStatus) -> Vec<Report> {
    let bond = (before.state != now.state).then(|| Report::Bond {
        bond: now.name.clone(),
        from: before.state,
        to: now.state,
    });
    let pairs = now.members.iter().filter_map(|member| {
        let mut before = before.members.iter();
        Some((before.find(|before| before.name == member.name)?, member))
    });
    let members = pairs.filter(|(before, now)| before.state != now.state);
    let members = members.map(|(before, member)| Report::Member {
        bond: now.name.clone(),
        member: member.name.clone(),
        from: before.state,
        to: member.state,
    });
    members.chain(bond).collect()
}
