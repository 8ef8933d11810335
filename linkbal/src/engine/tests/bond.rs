//! Uplinks on bonds.

use super::{super::bond::Bonding, *};

const BOND: &str = r#"
[uplink.a]
interface = "bond0"
gateway = "192.0.2.1"
[bond.bond0]
mode = "active-backup"
members = ["eth1"]
addresses = ["192.0.2.2/30"]
"#;

/// That the bond is yet to be made is no failure of the uplink; that it cannot be made is.
#[test]
fn an_uplink_waits_for_its_bond_at_the_start() {
    let config = Config::parse(BOND, "test.toml").expect("a valid file");
    let indexed = uplinks::assign(&config.uplinks, &BTreeMap::new());
    let mut engine = Engine::new(config, indexed, UpMask(0), &BTreeMap::new(), ms(0));
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
