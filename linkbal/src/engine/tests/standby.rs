//! Addresses that move between two gateways.

use super::*;

const BOTH: UpMask = UpMask(0x0003_0003);

fn config() -> String {
    CONFIG
        .replace(
            "weight = 30",
            "weight = 30\nvirtual_addresses = [\"203.0.113.2\", \"2001:db8:a::2\"]\n\
             gateway = { ipv4 = \"203.0.113.1\", ipv6 = \"2001:db8:a::1\" }",
        )
        .replace(
            "weight = 70",
            "weight = 70\nvirtual_addresses = [\"192.0.2.2\", \"2001:db8:b::2\"]\n\
             gateway = { ipv4 = \"192.0.2.1\", ipv6 = \"2001:db8:b::1\" }",
        )
}

/// Returns a gateway without the addresses of its uplinks.
fn bare() -> Snapshot {
    let mut kernel = machine();
    take(&mut kernel);
    kernel
}

fn take(kernel: &mut Snapshot) {
    kernel.addresses.retain(|held| held.ifindex == 2);
    kernel.routes.retain(|route| !IFINDEX.map(Some).contains(&route.ifindex));
}

fn change(world: &mut World, change: impl FnOnce(&mut Snapshot)) -> Vec<Command> {
    change(&mut world.kernel);
    world.engine.handle_event(Event::Network(NetworkEvent::Changed), world.now);
    let end = world.now + ms(30_000);
    world.run_until(end).decisions()
}

fn harms(commands: &[Command]) -> usize {
    let harm = |command: &&Command| {
        matches!(command, Command::EndFlows { .. } | Command::ForgetConnections { .. })
    };
    commands.iter().filter(harm).count()
}

#[test]
fn a_gateway_on_standby_is_ready_to_take_over() {
    let mut world = World::with_config(&config(), bare(), UpMask::default());
    let commands = world.run_until(ms(1000)).heard();
    assert_eq!(world.engine.up(), UpMask::default());
    assert_eq!(masks(&commands).last(), Some(&BOTH.0), "packets may come before we know");
    let ways = world.kernel.routes.iter().filter(|route| route.table == 2601 && route.metric == 1);
    assert_eq!(ways.count(), 2, "its routes wait");
    let reason = world.engine.uplinks()[0].health.ipv4.reason();
    assert_eq!(reason.to_string(), "standby: no ipv4 address on wan-a");

    // The addresses come: it is up without a probe, and without a hold time.
    let addresses = machine().addresses;
    world.kernel.addresses = addresses;
    world.engine.handle_event(Event::Network(NetworkEvent::Changed), world.now);
    let end = world.now + SETTLE + ms(5);
    world.run_until(end);
    assert_eq!(world.engine.up(), BOTH);
}

#[test]
fn what_is_handed_over_is_neither_ended_nor_held() {
    let mut world = World::with_config(&config(), machine(), UpMask::default());
    world.run_until(ms(1000)).heard();
    assert_eq!(world.engine.up(), BOTH);
    for _ in 0..4 {
        let commands = change(&mut world, take);
        assert_eq!(harms(&commands), 0, "{commands:?}");
        assert_eq!(world.engine.up(), UpMask::default());
        let dropped = commands.iter().filter(|each| matches!(each, Command::ForgetFlows { .. }));
        assert_eq!(dropped.count(), 2, "one for each family");
        let commands = change(&mut world, |kernel| kernel.addresses = machine().addresses);
        assert_eq!(harms(&commands), 0, "{commands:?}");
        assert_eq!(world.engine.up(), BOTH);
    }
}

#[test]
fn a_line_that_failed_before_is_not_trusted_at_takeover() {
    let mut world = World::with_config(&config(), machine(), UpMask::default());
    world.run_until(ms(1000)).heard();
    world.answers[A as usize] = NONE_ANSWERS;
    let end = world.now + ms(5000);
    world.run_until(end);
    let commands = change(&mut world, take);
    assert_eq!(masks(&commands).last(), Some(&0x0002_0002));
    world.answers[A as usize] = ALL_ANSWER;
    world.kernel.addresses = machine().addresses;
    world.engine.handle_event(Event::Network(NetworkEvent::Changed), world.now);
    let end = world.now + ms(1000);
    world.run_until(end);
    assert_eq!(world.engine.up(), UpMask(0x0002_0002), "it has to prove itself");
}

#[test]
fn a_dead_line_is_found_out_after_takeover() {
    let mut world = World::with_config(&config(), bare(), UpMask::default());
    world.run_until(ms(1000)).heard();
    world.answers[A as usize] = NONE_ANSWERS;
    change(&mut world, |kernel| kernel.addresses = machine().addresses);
    assert_eq!(world.engine.up(), UpMask(0x0002_0002));
}

#[test]
fn without_a_carrier_nothing_is_promised() {
    let mut world = World::with_config(&config(), bare(), UpMask::default());
    world.run_until(ms(1000)).heard();
    let commands = change(&mut world, |kernel| {
        kernel.links.insert(3, link(3, "wan-a", false));
    });
    assert_eq!(masks(&commands).last(), Some(&0x0002_0002));
}

#[test]
fn a_partner_has_time_to_take_over_when_a_cable_is_cut() {
    let mut world = World::with_config(&config(), machine(), UpMask::default());
    world.run_until(ms(1000)).heard();
    let cut = world.now;
    world.answers[A as usize] = NONE_ANSWERS;
    world.set_carrier(A, false).run_until(cut + ms(900));
    assert_eq!(world.engine.up(), BOTH, "neither the carrier nor the probes count");
    let commands = world.decisions();
    assert_eq!(harms(&commands), 0, "{commands:?}");
    assert!(masks(&commands).is_empty(), "{commands:?}");
    // The partner takes over.
    let commands = change(&mut world, take);
    assert_eq!(harms(&commands), 0, "{commands:?}");
    assert_eq!(world.engine.uplinks()[0].health.ipv4.reason().to_string(), "no carrier on wan-a");
    assert_eq!(masks(&commands).last(), Some(&0x0002_0002), "nothing is promised by that cable");
}

/// Checks the LAN's cable being cut first: the addresses go first, and all is seen at once.
#[test]
fn a_gateway_that_lost_all_its_cables_may_be_the_master_again() {
    let mut world = World::with_config(&config(), machine(), UpMask::default());
    world.run_until(ms(1000)).heard();
    let commands = change(&mut world, |kernel| {
        take(kernel);
        kernel.links.insert(3, link(3, "wan-a", false));
    });
    assert_eq!(harms(&commands), 0, "{commands:?}");
    change(&mut world, |kernel| {
        kernel.links.insert(3, link(3, "wan-a", true));
    });
    let commands = change(&mut world, |kernel| kernel.addresses = machine().addresses);
    assert_eq!(harms(&commands), 0, "{commands:?}");
    assert_eq!(world.engine.up(), BOTH, "it has nothing to prove");
}

#[test]
fn without_a_partner_an_uplink_without_its_cable_fails() {
    let mut world = World::with_config(&config(), machine(), UpMask::default());
    world.run_until(ms(1000)).heard();
    let cut = world.now;
    world.set_carrier(A, false).run_until(cut + ms(1100));
    assert_eq!(world.engine.up(), UpMask(0x0002_0002));
    assert_eq!(harms(&world.decisions()), 4, "its flows end in both families");
    // It comes back, and its cable is cut again.
    world.set_carrier(A, true);
    let end = world.now + ms(10_000);
    world.run_until(end).heard();
    assert_eq!(world.engine.up(), BOTH);
    let cut = world.now;
    world.set_carrier(A, false).run_until(cut + ms(900));
    assert_eq!(world.engine.up(), BOTH);
    world.set_carrier(A, true).run_until(cut + ms(2000));
    assert_eq!(world.engine.up(), BOTH, "a plug that was pushed in again");
    assert_eq!(harms(&world.decisions()), 0);
}

#[test]
fn a_cable_that_was_never_in_is_not_waited_for() {
    let mut kernel = machine();
    kernel.links.insert(3, link(3, "wan-a", false));
    let mut world = World::with_config(&config(), kernel, UpMask::default());
    world.run_until(ms(1000));
    assert_eq!(world.engine.up(), UpMask(0x0002_0002));
}

#[test]
fn news_of_another_interface_gives_the_partner_no_more_time() {
    let mut world = World::with_config(&config(), machine(), UpMask::default());
    world.run_until(ms(1000)).heard();
    let cut = world.now;
    world.answers[A as usize] = NONE_ANSWERS;
    world.set_carrier(A, false);
    for at in (100..1500).step_by(100) {
        let veth = link(100, "veth0", at % 200 == 0);
        world.kernel.links.insert(100, veth.clone());
        world.engine.handle_event(Event::Network(NetworkEvent::Link(veth)), world.now);
        world.run_until(cut + ms(at));
    }
    assert_eq!(world.engine.up(), UpMask(0x0002_0002));
}

#[test]
fn probes_that_are_lost_before_a_handover_is_seen_blame_nobody() {
    let mut world = World::with_config(&config(), machine(), UpMask::default());
    world.run_until(ms(1000)).heard();
    take(&mut world.kernel);
    world.answers = [NONE_ANSWERS; 2];
    for ifindex in IFINDEX {
        world.engine.handle_event(Event::Network(NetworkEvent::AddressGone { ifindex }), world.now);
    }
    // The observation takes its time.
    world.late = Some(Vec::new());
    let seen = world.now + ms(900);
    world.run_until(seen);
    assert_eq!(world.engine.up(), BOTH);
    for command in world.late.take().unwrap_or_default() {
        world.perform(command);
    }
    let end = world.now + ms(2000);
    assert_eq!(harms(&world.run_until(end).decisions()), 0);
    world.answers = [ALL_ANSWER; 2];
    let commands = change(&mut world, |kernel| kernel.addresses = machine().addresses);
    assert_eq!(harms(&commands), 0, "{commands:?}");
    assert_eq!(world.engine.up(), BOTH, "it has nothing to prove");
}

#[test]
fn addresses_that_come_and_go_for_ever_hide_no_dead_line() {
    let mut world = World::with_config(&config(), machine(), UpMask::default());
    world.run_until(ms(1000)).heard();
    world.answers[A as usize] = NONE_ANSWERS;
    let found = (0..300).find(|_| {
        let gone = NetworkEvent::AddressGone { ifindex: IFINDEX[A as usize] };
        world.engine.handle_event(Event::Network(gone), world.now);
        let next = world.now + ms(100);
        world.run_until(next);
        world.engine.up() == UpMask(0x0002_0002)
    });
    assert!(found.is_some(), "it is up after 30 s");
}
