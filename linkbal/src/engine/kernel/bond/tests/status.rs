//! Reports about bonds.

use super::*;
use crate::{
    engine::{
        kernel::network::{Link, Snapshot},
        report::Report,
    },
    per_family::PerFamily,
};

fn link(name: &str, ifindex: u32, carrier: bool) -> (u32, Link) {
    let name = name.to_owned();
    let link = Link {
        ifindex,
        name,
        up: true,
        carrier,
        point_to_point: false,
        ethernet: true,
        port: false,
        vrf: None,
        mtu: PerFamily::both(1500),
    };
    (ifindex, link)
}

fn snapshot(carrier: bool, members: [Option<Membership>; 2]) -> Snapshot {
    let mut kernel = machine();
    let bonds = [bond("bond0", BondMode::ActiveBackup, &["eth0", "eth1"])];
    converge(&mut kernel, &bonds);
    for (name, member) in ["eth0", "eth1"].into_iter().zip(members) {
        kernel.state.ports.get_mut(name).expect("a card").member = member;
    }
    kernel.state.ports.get_mut("bond0").expect("the bond").active = Some("eth0".into());
    Snapshot {
        links: [link("bond0", 6, carrier)].into(),
        bonding: Some(kernel.state),
        ..Snapshot::default()
    }
}

const ACTIVE: Option<Membership> = Some(Membership { alive: true, active: true });
const STANDBY: Option<Membership> = Some(Membership { alive: true, active: false });
const DEAD: Option<Membership> = Some(Membership { alive: false, active: false });

#[test]
fn a_bond_and_its_members_have_states() {
    let bonds = [bond("bond0", BondMode::BalanceRr, &["eth0", "eth1", "eth9"])];
    let [of] = &status(&bonds, &snapshot(true, [ACTIVE, None]))[..] else { panic!("one bond") };
    assert_eq!((of.mode, of.state), ("active-backup", BondState::Up));
    assert_eq!(of.active.as_deref(), Some("eth0"));
    let states: Vec<_> = of.members.iter().map(|member| member.state).collect();
    assert_eq!(states, [MemberState::Active, MemberState::Outside, MemberState::Missing]);
    let [of] = &status(&bonds, &Snapshot::default())[..] else { panic!("one bond") };
    assert_eq!((of.mode, of.state), ("balance-rr", BondState::Missing));
}

#[test]
fn what_changes_is_told_and_the_start_is_no_news() {
    let bonds = [bond("bond0", BondMode::ActiveBackup, &["eth0", "eth1"])];
    let mut watch = Watch::new(Duration::ZERO);
    let mut tell = |carrier, members| watch.update(status(&bonds, &snapshot(carrier, members)));
    let member = |member: &str, from, to| Report::Member {
        bond: "bond0".into(),
        member: member.into(),
        from,
        to,
    };
    assert_eq!(tell(true, [ACTIVE, STANDBY]), []);
    assert_eq!(
        tell(true, [DEAD, ACTIVE]),
        [
            member("eth0", MemberState::Active, MemberState::Down),
            member("eth1", MemberState::Standby, MemberState::Active),
        ]
    );
    assert_eq!(
        tell(false, [DEAD, DEAD]),
        [
            member("eth1", MemberState::Active, MemberState::Down),
            Report::Bond { bond: "bond0".into(), from: BondState::Up, to: BondState::Down },
        ]
    );
}
