//! Plans against a kernel that refuses what the real one refuses.

mod kernel;
mod status;

use std::time::Duration;

use proptest::{option, prelude::*, sample::subsequence};

use self::kernel::Kernel;
use super::*;
use crate::config::{ArpValidate, Bond, BondMode, LacpRate, Monitor, Named as _, XmitHashPolicy};

const CARDS: [&str; 4] = ["eth0", "eth1", "eth2", "eth3"];

const NAMES: [&str; 6] = ["eth0", "eth1", "eth2", "eth3", "bond0", "br0"];

const ADDRESSES: [&str; 4] = ["192.0.2.2/30", "198.51.100.2/28", "2001:db8::2/64", "10.0.0.1/8"];

/// Number of rounds of observation and change within which everything must be in place.
const ROUNDS: usize = 5;

fn net(text: &str) -> IpNet {
    text.parse().expect("an address")
}

/// Creates a machine with four cards and a bridge.
fn machine() -> Kernel {
    let mut kernel = Kernel::default();
    for (number, name) in (0..).zip(CARDS) {
        let mac = [2, 0, 0, 0, 0, number];
        kernel.add(name, Port { mac, mtu: 1500, up: number % 2 == 0, ..Port::default() });
    }
    kernel.add("br0", Port { mac: [2, 9, 0, 0, 0, 0], mtu: 1500, ..Port::default() });
    kernel
}

fn bond(name: &str, mode: BondMode, members: &[&str]) -> Bond {
    Bond {
        name: name.into(),
        mode,
        members: members.iter().map(|member| (*member).to_owned()).collect(),
        monitor: Monitor::Carrier { interval: 100 },
        primary: None,
        lacp_rate: LacpRate::Slow,
        xmit_hash_policy: XmitHashPolicy::Layer2,
        mac: None,
        mtu: None,
        promisc: false,
        addresses: vec![],
    }
}

fn any_of<T: Copy + std::fmt::Debug + 'static>(
    names: &'static [(T, &'static str)],
) -> impl Strategy<Value = T> {
    (0..names.len()).prop_map(|at| names[at].0)
}

fn any_addresses() -> impl Strategy<Value = Vec<IpNet>> {
    subsequence(ADDRESSES.to_vec(), 0..=3).prop_map(|texts| texts.into_iter().map(net).collect())
}

fn any_monitor(mode: BondMode) -> impl Strategy<Value = Monitor> {
    let arp = (10..99u32, 1..=3u8, any_of(ArpValidate::NAMES));
    (10..99u32, option::of(arp)).prop_map(move |(interval, arp)| match arp {
        Some((interval, count, validate)) if mode.has_arp() => Monitor::Arp {
            interval,
            targets: (1..=count).map(|host| [192, 0, 2, host].into()).collect(),
            validate,
        },
        _ => Monitor::Carrier { interval },
    })
}

fn any_bond(name: &'static str, cards: &'static [&'static str]) -> impl Strategy<Value = Bond> {
    let members = subsequence(cards.to_vec(), 1..=cards.len());
    (any_of(BondMode::NAMES), members).prop_flat_map(move |(mode, members)| {
        let numbers = (option::of(0..9u8), option::of(1280..1400u32), any::<bool>());
        let choices =
            (any_of(LacpRate::NAMES), any_of(XmitHashPolicy::NAMES), option::of(0..members.len()));
        (any_monitor(mode), numbers, choices, any_addresses()).prop_map(
            move |(monitor, (mac, mtu, promisc), (lacp_rate, policy, primary), addresses)| Bond {
                monitor,
                primary: primary.filter(|_| mode.has_primary()).map(|at| members[at].to_owned()),
                lacp_rate: if mode.has_lacp() { lacp_rate } else { LacpRate::Slow },
                xmit_hash_policy: if mode.has_hash() { policy } else { XmitHashPolicy::Layer2 },
                mac: mac.map(|last| [2, 7, 0, 0, 0, last]),
                mtu,
                promisc,
                addresses,
                ..bond(name, mode, &members)
            },
        )
    })
}

fn any_option() -> impl Strategy<Value = BondOption> {
    prop_oneof![
        (0..7u8).prop_map(BondOption::Mode),
        (0..3u32).prop_map(|number| BondOption::Miimon(number * 50)),
        (0..3u32).prop_map(|number| BondOption::ArpInterval(number * 70)),
        (0..3u8).prop_map(|count| {
            BondOption::ArpTargets((0..count).map(|host| [10, 0, 0, host].into()).collect())
        }),
        (0..7u8).prop_map(BondOption::ArpValidate),
        option::of(0..4usize).prop_map(|at| BondOption::Primary(at.map(|at| CARDS[at].to_owned()))),
        (0..2u8).prop_map(BondOption::LacpRate),
        (0..6u8).prop_map(BondOption::XmitHashPolicy),
    ]
}

/// Generates what an administrator may do by hand; the kernel refuses some of it.
fn any_act() -> impl Strategy<Value = BondChange> {
    let name = (0..NAMES.len()).prop_map(|at| NAMES[at].to_owned());
    let master = prop_oneof![Just("bond0".to_owned()), Just("br0".to_owned())];
    (name, master, any_option(), 0..9u8, any::<bool>(), 0..ADDRESSES.len(), 0..12u8).prop_map(
        |(name, master, option, number, on, address, kind)| match kind {
            0 => BondChange::Create("bond0".into(), number % 7),
            1 => BondChange::Release(name),
            2..=4 => BondChange::Enslave(name, master),
            5 | 6 => BondChange::SetOption("bond0".into(), option),
            7 => BondChange::SetMac(name, [2, 5, 0, 0, 0, number]),
            8 => BondChange::SetMtu(name, 1400 + u32::from(number)),
            9 => BondChange::SetPromisc(name, on),
            10 => BondChange::SetUp(name, on),
            _ => BondChange::AddAddress(name, net(ADDRESSES[address])),
        },
    )
}

fn acts(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<BondChange>> {
    prop::collection::vec(any_act(), count)
}

/// Observes and changes until there is nothing to change; no change may be refused.
fn converge(kernel: &mut Kernel, bonds: &[Bond]) {
    for _ in 0..ROUNDS {
        let changes = plan(bonds, &kernel.state);
        if changes.is_empty() {
            return;
        }
        for change in &changes {
            let done = kernel.carry_out(change);
            assert!(done.is_ok(), "{change}: {done:?}\nof {changes:#?}\nin {:#?}", kernel.state);
        }
    }
    panic!("still {:#?}\nin {:#?}", plan(bonds, &kernel.state), kernel.state);
}

fn assert_as_wanted(kernel: &Kernel, bonds: &[Bond]) {
    let ports = &kernel.state.ports;
    for bond in bonds {
        let port = &ports[&bond.name];
        let members = ports.iter().filter(|(_, port)| port.is_in(&bond.name));
        let members: BTreeSet<_> = members.map(|(name, _)| name.clone()).collect();
        assert_eq!(members, bond.members.iter().cloned().collect());
        let options = port.bond.clone().expect("it is a bond");
        let mut wanted = Options::wanted(bond);
        // Without meaning in other modes, and left as it was.
        if !bond.mode.has_lacp() {
            wanted.lacp_rate = options.lacp_rate;
        }
        if !bond.mode.has_primary() {
            wanted.primary.clone_from(&options.primary);
        }
        assert_eq!(options, wanted);
        assert!(port.up);
        assert!(bond.mac.is_none_or(|mac| port.mac == mac));
        assert!(bond.mtu.is_none_or(|mtu| port.mtu == mtu));
        assert!(bond.addresses.iter().all(|address| port.addresses.contains(address)));
        for member in &bond.members {
            let member = &ports[member];
            assert!(member.up && member.mtu == port.mtu, "{member:?}");
            assert!(member.promisc || !bond.promisc);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    /// Leads from any state of a machine, without a step that the kernel refuses, to the desired
    /// one; again after anything was done by hand; and back to what was there before.
    #[test]
    fn bonds_become_what_is_wanted_and_are_given_back(
        before in acts(0..12),
        bond0 in any_bond("bond0", &["eth0", "eth1", "eth2"]),
        bond1 in option::of(any_bond("bond1", &["eth3"])),
        by_hand in acts(0..6),
        second in any_bond("bond0", &["eth1", "eth2", "eth3"]),
    ) {
        let mut kernel = machine();
        // A member's own MAC address and MTU besides those of its bond are not given back: some
        // modes exchange them all the time.
        let own = |act: &BondChange| matches!(act, BondChange::SetMac(..) | BondChange::SetMtu(..));
        let members = |kernel: &Kernel, act: &BondChange| {
            kernel.state.ports.get(act.interface()).is_some_and(|port| port.is_in("bond0"))
        };
        for act in &before {
            if !(own(act) && members(&kernel, act)) {
                kernel.attempt(act);
            }
        }
        let found = kernel.clone();
        let bonds: Vec<Bond> = [bond0].into_iter().chain(bond1).collect();
        converge(&mut kernel, &bonds);
        assert_as_wanted(&kernel, &bonds);

        let mut given_back = kernel.clone();
        converge(&mut given_back, &[]);
        prop_assert_eq!(&given_back.state, &found.state);

        by_hand.iter().for_each(|act| kernel.attempt(act));
        converge(&mut kernel, &bonds);
        assert_as_wanted(&kernel, &bonds);

        let second = [second];
        converge(&mut kernel, &second);
        assert_as_wanted(&kernel, &second);
        converge(&mut kernel, &[]);
        prop_assert!(kernel.state.records.is_empty());
    }

    /// Checks that the assumed effect of a plan leaves nothing to change.
    #[test]
    fn nothing_is_asked_for_twice(
        before in acts(0..12),
        bond0 in any_bond("bond0", &["eth0", "eth1", "eth2"]),
    ) {
        let mut kernel = machine();
        before.iter().for_each(|act| kernel.attempt(act));
        let mut assumed = kernel.state.clone();
        let bonds = [bond0];
        plan(&bonds, &assumed).iter().for_each(|change| assumed.apply(change));
        prop_assert_eq!(plan(&bonds, &assumed), vec![]);
    }
}

/// Checks that only the steps are taken that an administrator would take.
#[test]
fn a_change_of_the_mode_disturbs_as_little_as_it_can() {
    let mut kernel = machine();
    let bonds = [bond("bond0", BondMode::BalanceRr, &["eth1", "eth2"])];
    converge(&mut kernel, &bonds);
    let changed = [bond("bond0", BondMode::ActiveBackup, &["eth1", "eth2"])];
    let steps: Vec<String> =
        plan(&changed, &kernel.state).iter().map(ToString::to_string).collect();
    assert_eq!(
        steps,
        [
            "eth1: taken out of its bond",
            "eth2: taken out of its bond",
            "bond0: taken down",
            "bond0: mode becomes active-backup",
            "eth1: put into bond0",
            "eth2: put into bond0",
            "bond0: taken up",
        ]
    );
    let monitored = [Bond { monitor: Monitor::Carrier { interval: 50 }, ..bonds[0].clone() }];
    let steps: Vec<String> =
        plan(&monitored, &kernel.state).iter().map(ToString::to_string).collect();
    assert_eq!(steps, ["bond0: miimon becomes 50"]);
}

/// Checks that a kernel that cannot create the bond costs no network card.
#[test]
fn cards_are_left_alone_until_the_bond_is_there() {
    let kernel = machine();
    let bonds = [bond("bond0", BondMode::BalanceRr, &["eth0", "eth1"])];
    let changes = plan(&bonds, &kernel.state);
    let real: Vec<_> = changes.iter().filter(|change| !change.is_memory()).collect();
    assert_eq!(real, [&BondChange::Create("bond0".into(), 0)]);
}

/// Checks that the name and the cards are left alone while something else has the bond's name.
#[test]
fn something_else_of_the_name_is_left_alone() {
    let mut kernel = machine();
    kernel.add("bond0", Port { up: true, ..Port::default() });
    let bonds = [bond("bond0", BondMode::BalanceRr, &["eth0", "eth1"])];
    assert_eq!(plan(&bonds, &kernel.state), []);
}

#[test]
fn a_member_that_comes_back_is_taken_in_again() {
    let mut kernel = machine();
    let bonds = [bond("bond0", BondMode::BalanceRr, &["eth0", "eth1"])];
    converge(&mut kernel, &bonds);
    kernel.carry_out(&BondChange::Release("eth0".into())).expect("it was in");
    kernel.state.ports.remove("eth0");
    converge(&mut kernel, &bonds);
    assert!(!kernel.state.records.contains_key("eth0"), "it is gone, and nothing to give back");
    kernel.add("eth0", Port { mac: [2, 0, 0, 0, 0, 99], mtu: 1500, ..Port::default() });
    converge(&mut kernel, &bonds);
    assert_as_wanted(&kernel, &bonds);
    converge(&mut kernel, &[]);
    assert_eq!(kernel.state.ports["eth0"].mac, [2, 0, 0, 0, 0, 99]);
}

#[test]
fn a_member_that_was_renamed_is_given_back() {
    let mut kernel = machine();
    let found = kernel.state.ports["eth0"].clone();
    converge(&mut kernel, &[bond("bond0", BondMode::BalanceRr, &["eth0", "eth1"])]);
    let port = kernel.state.ports.remove("eth0").expect("it is there");
    kernel.carry_out(&BondChange::SetUp("eth1".into(), false)).expect("it is there");
    kernel.rename("eth0", "wan0", port);
    converge(&mut kernel, &[]);
    assert_eq!(kernel.state.ports["wan0"], found);
    assert!(kernel.state.records.is_empty());
}
