//! Uplinks on bonds.

use super::*;
use crate::engine::kernel::{
    bond::{Bonding, Port},
    resource::ResourceKind,
};

const BOND: &str = r#"
[uplink.a]
interface = "bond0"
gateway = "192.0.2.1"
[bond.bond0]
mode = "active-backup"
members = ["eth1"]
addresses = ["192.0.2.2/30"]
"#;

/// Checks that a bond which is yet to be made is no failure of the uplink, but one that cannot be
/// made is.
#[test]
fn an_uplink_waits_for_its_bond_at_the_start() {
    let config = Config::parse(BOND, "test.toml").expect("a valid file");
    let indexed = indexed::assign(&config.uplinks, &BTreeMap::new());
    let mut engine = Engine::new(config, indexed, UpMask(0), Vec::new(), &BTreeMap::new(), ms(0));
    let bare = Snapshot { bonding: Some(Bonding::default()), ..machine() };
    engine.handle_timeout(ms(0));
    engine.handle_event(Event::Observed(bare.clone()), ms(1));
    engine.handle_event(Event::Applied, ms(2));
    assert_eq!(engine.uplinks()[0].state(), State::Init);
    let due = engine.poll_timeout().expect("it looks again");
    assert!(due <= ms(10_000), "{due:?}");
    engine.handle_timeout(ms(10_000));
    engine.handle_event(Event::Observed(bare), ms(10_001));
    assert_eq!(engine.uplinks()[0].state(), State::Down);
}

/// Checks that a process which sets an option of the bond again and again is not answered at once
/// forever.
#[test]
fn a_fight_over_a_bond_is_slowed_and_told_as_a_conflict() {
    let config = format!(
        "{CONFIG}\n[bond.bond0]\nmode = \"active-backup\"\nmembers = [\"eth1\"]\nmiimon = 50\n"
    );
    let card = Port { ifindex: 9, up: true, mtu: 1500, ..Port::default() };
    let bonding = Bonding { ports: [("eth1".into(), card)].into(), ..Bonding::default() };
    let kernel = Snapshot { bonding: Some(bonding), ..machine() };
    let mut world = World::with_config(&config, kernel, UpMask::default());
    world.run_until(ms(500));
    // What the kernel makes has an index, which its messages carry.
    port(&mut world, "bond0").ifindex = 10;
    for _ in 0..5 {
        world.engine.handle_event(Event::Network(NetworkEvent::Changed), world.now);
        let now = world.now;
        world.run_until(now + ms(1000)).heard();
    }
    assert_eq!(port(&mut world, "eth1").master.as_deref(), Some("bond0"));
    let (mut applied, mut reports) = (0, Vec::new());
    for _ in 0..120 {
        port(&mut world, "bond0").bond.as_mut().expect("a bond").miimon = 77;
        world.engine.handle_event(Event::Network(NetworkEvent::Changed), world.now);
        let now = world.now;
        let commands = world.run_until(now + ms(500)).decisions();
        applied += commands.iter().filter(|each| matches!(each, Command::Apply(_))).count();
        reports.extend(commands.into_iter().filter_map(|command| match command {
            Command::Report(report) => Some(report),
            _ => None,
        }));
    }
    // Five at once, and about one in ten seconds for the rest of the minute.
    assert!((9..=11).contains(&applied), "{applied}");
    let repaired =
        |report: &Report| matches!(report, Report::Repair { kind: ResourceKind::Bonds, .. });
    assert_eq!(reports.iter().filter(|report| repaired(report)).count(), 5, "{reports:?}");
    let [throttled] = &reports[5..] else { panic!("{reports:?}") };
    let Report::Throttled { what, pace: Some(_), .. } = throttled else { panic!("{throttled:?}") };
    assert_eq!(what, "interface bond0: miimon becomes 50");
    // The other side gives up.
    let now = world.now;
    world.run_until(now + ms(120_000));
    assert_eq!(port(&mut world, "bond0").bond.as_ref().expect("a bond").miimon, 50);
    assert_eq!(world.engine.drift().throttled().count(), 0);
}

fn port<'a>(world: &'a mut World, name: &str) -> &'a mut Port {
    let bonding = world.kernel.bonding.as_mut().expect("bonds are observed");
    bonding.ports.get_mut(name).expect("a port")
}
