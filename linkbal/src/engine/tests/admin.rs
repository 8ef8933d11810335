//! Requested states of uplinks.

use super::*;

/// Requests a state of `uplink`, now.
fn want(world: &mut World, uplink: u32, admin: AdminState) -> Vec<Command> {
    world.engine.handle_event(Event::Admin { uplink, admin }, world.now);
    let now = world.now;
    world.run_until(now).decisions()
}

fn avoid_masks(commands: &[Command]) -> Vec<u32> {
    let each = commands.iter().filter_map(|command| match command {
        Command::SetAvoidMask(mask) => Some(mask.0),
        _ => None,
    });
    each.collect()
}

#[test]
fn a_disabled_uplink_fails_over_like_a_dead_one_and_is_not_asked() {
    let mut world = both_up();
    let commands = want(&mut world, B, AdminState::Disabled);
    let report =
        Report::Admin { uplink: "b".into(), from: AdminState::Enabled, to: AdminState::Disabled };
    assert_eq!(commands[0], Command::Report(report));
    assert_eq!(commands[1], Command::SetUpMask(UpMask(0x0001_0001)));
    let both = [(Family::Ipv4, FWMARK[1]), (Family::Ipv6, FWMARK[1])];
    assert_eq!(forgotten(&commands[2..6]), both);
    assert!(matches!(commands[6], Command::Apply(_)));
    let down = |family| ("b".to_owned(), family, State::AdminDown);
    assert_eq!(reports(&commands[7..]), [down(Family::Ipv4), down(Family::Ipv6)]);
    let b = &world.engine.uplinks()[B as usize];
    assert_eq!(
        (b.state(), b.health.ipv4.reason().to_string().as_str()),
        (State::AdminDown, "disabled by the administrator")
    );
    assert!(b.health.values().all(|health| health.deadline().is_none()), "it is asked");
    // What the kernel says of its cable changes nothing.
    let now = world.now;
    world.set_carrier(B, false).run_until(now + ms(1000)).set_carrier(B, true);
    assert!(masks(&world.run_until(now + ms(60_000)).decisions()).is_empty());
    assert_eq!(world.engine.families_without_choice(), []);
}

#[test]
fn an_admitted_uplink_comes_back_with_its_first_answer() {
    let mut world = both_up();
    want(&mut world, A, AdminState::Disabled);
    let enabled = world.run_until(ms(10_000)).now;
    world.decisions();
    want(&mut world, A, AdminState::Enabled);
    world.engine.handle_event(Event::EnableNow { uplink: A }, world.now);
    let commands = world.run_until(enabled + ms(600)).decisions();
    assert_eq!(masks(&commands).last(), Some(&0x0003_0003), "no hold time");
    // It must prove itself again after the next outage, and while it proves itself, it can be
    // admitted, too.
    want(&mut world, A, AdminState::Disabled);
    want(&mut world, A, AdminState::Enabled);
    let now = world.now;
    assert!(!masks(&world.run_until(now + ms(2000)).decisions()).contains(&0x0003_0003));
    world.engine.handle_event(Event::EnableNow { uplink: A }, world.now);
    let now = world.now;
    let commands = world.run_until(now).decisions();
    assert_eq!(masks(&commands).last(), Some(&0x0003_0003), "at once");
    world.engine.handle_event(Event::EnableNow { uplink: A }, world.now);
    assert!(masks(&world.run_until(now).decisions()).is_empty(), "nothing new");
}

#[test]
fn an_enabled_uplink_comes_back_after_its_hold_time() {
    let mut world = both_up();
    want(&mut world, A, AdminState::Disabled);
    let enabled = world.run_until(ms(10_000)).now;
    world.decisions();
    let commands = want(&mut world, A, AdminState::Enabled);
    assert_eq!(masks(&commands), [0x0002_0002], "down until it has proved itself");
    assert_eq!(forgotten(&commands), []);
    assert!(masks(&world.run_until(enabled + ms(4900)).decisions()).is_empty());
    let commands = world.run_until(enabled + ms(6000)).decisions();
    assert_eq!(masks(&commands).last(), Some(&0x0003_0003));
    assert_eq!(want(&mut world, A, AdminState::Enabled), [], "nothing new");
}

#[test]
fn the_last_usable_uplink_can_be_disabled_and_its_flows_are_not_forgotten() {
    let mut world = both_up();
    want(&mut world, A, AdminState::Disabled);
    let commands = want(&mut world, B, AdminState::Disabled);
    assert_eq!(masks(&commands), [0]);
    assert_eq!(forgotten(&commands), []);
    assert_eq!(world.engine.families_without_choice(), Family::ALL);
}

#[test]
fn flows_that_had_nowhere_to_go_move_though_their_uplink_was_enabled_in_the_meantime() {
    let mut world = both_up();
    world.answers[B as usize] = NONE_ANSWERS;
    world.run_until(ms(5000)).heard();
    want(&mut world, A, AdminState::Disabled);
    world.answers = [NONE_ANSWERS, ALL_ANSWER];
    assert_eq!(forgotten(&want(&mut world, A, AdminState::Enabled)), []);
    let commands = world.run_until(ms(20_000)).decisions();
    assert_eq!(masks(&commands).last(), Some(&0x0002_0002));
    assert_eq!(forgotten(&commands), [(Family::Ipv4, FWMARK[0]), (Family::Ipv6, FWMARK[0])]);
}

#[test]
fn a_drained_uplink_is_avoided_and_else_as_it_was() {
    let mut world = both_up();
    let commands = want(&mut world, B, AdminState::Drained);
    assert_eq!(avoid_masks(&commands), [0x0002_0002]);
    assert_eq!((masks(&commands), forgotten(&commands)), (vec![], vec![]));
    assert_eq!(world.engine.families_without_choice(), []);
    // Its health goes on to count.
    let now = world.now;
    world.set_carrier(B, false).run_until(now);
    assert_eq!(masks(&world.decisions()).last(), Some(&0x0001_0001));
    assert_eq!(avoid_masks(&want(&mut world, B, AdminState::Enabled)), [0]);
}

#[test]
fn draining_the_last_one_is_known_to_leave_no_choice() {
    let mut world = both_up();
    world.answers[A as usize] = PerFamily { ipv4: false, ipv6: true };
    world.run_until(ms(5000)).heard();
    assert_eq!(world.engine.families_without_choice(), []);
    want(&mut world, B, AdminState::Drained);
    assert_eq!(world.engine.families_without_choice(), [Family::Ipv4]);
}

#[test]
fn what_was_wanted_before_a_restart_holds_from_the_first_moment() {
    let admin = BTreeMap::from([
        ("a".to_owned(), AdminState::Disabled),
        ("b".to_owned(), AdminState::Drained),
    ]);
    let up = UpMask(0x0003_0003);
    let mut world = World::with_admin(CONFIG, machine(), up, &admin);
    assert_eq!(world.engine.next_command(), Some(Command::SetUpMask(UpMask(0x0002_0002))));
    let commands = world.run_until(ms(20_000)).decisions();
    assert!(masks(&commands).is_empty());
    assert_eq!(avoid_masks(&commands), [0], "there is no other one");
    let states = world.engine.uplinks().iter().map(UplinkState::state).collect::<Vec<_>>();
    assert_eq!(states, [State::AdminDown, State::Up]);
}

#[test]
fn without_targets_an_enabled_uplink_waits_for_its_hold_time_too() {
    let text = CONFIG.replace("\"198.51.100.1\", \"2001:db8:ff::1\"", "");
    let mut world = World::with_config(&text, machine(), UpMask::default());
    world.run_until(ms(1000)).heard();
    want(&mut world, A, AdminState::Disabled);
    assert_eq!(masks(&want(&mut world, A, AdminState::Enabled)), [0x0002_0002]);
    assert!(masks(&world.run_until(ms(5900)).decisions()).is_empty());
    let commands = world.run_until(ms(6000)).decisions();
    assert_eq!(masks(&commands).last(), Some(&0x0003_0003));
}
