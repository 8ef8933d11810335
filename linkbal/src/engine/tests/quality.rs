//! Degraded uplinks, and flows that are moved back.

use super::*;
use crate::engine::health::reason::Measure;

fn avoid_masks(commands: &[Command]) -> Vec<u32> {
    let each = commands.iter().filter_map(|command| match command {
        Command::SetAvoidMask(mask) => Some(mask.0),
        _ => None,
    });
    each.collect()
}

fn ended(commands: &[Command]) -> Vec<(u32, Family)> {
    let each = commands.iter().filter_map(|command| match command {
        Command::EndFlows { uplink, family, .. } => Some((*uplink, *family)),
        _ => None,
    });
    each.collect()
}

/// Returns a world with two targets in a family, one of which answers by uplink A: half of the
/// probes are lost.
fn half_lost(degraded: &str) -> World {
    let targets = "\"198.51.100.1\", \"198.51.100.2\"";
    let text =
        CONFIG.replace("\"198.51.100.1\"", targets) + "limits = { loss = \"20%\" }\n" + degraded;
    let mut world = World::with_config(&text, machine(), UpMask::default());
    world.run_until(ms(10_000)).heard();
    world.deaf = Some((A, address("198.51.100.2")));
    world
}

#[test]
fn a_degraded_uplink_stays_up_is_avoided_and_comes_back_with_a_margin() {
    let mut world = half_lost("");
    let commands = world.run_until(ms(30_000)).decisions();
    assert_eq!((masks(&commands), forgotten(&commands)), (vec![], vec![]));
    assert_eq!(avoid_masks(&commands), [0x0000_0001]);
    let Command::Report(Report::Quality { uplink, family, degraded: Some(reason) }) = &commands[0]
    else {
        panic!("{:?}", commands[0])
    };
    assert_eq!((uplink.as_str(), *family), ("a", Family::Ipv4));
    assert!(reason.iter().all(|limit| limit.measure == Measure::Loss && limit.limit == 20.0));
    let health = &world.engine.uplinks()[A as usize].health.ipv4;
    assert!(
        health.explain(world.now).to_string().starts_with("targets answer; degraded: loss 50.0 %")
    );
    world.deaf = None;
    let commands = world.run_until(ms(60_000)).decisions();
    assert_eq!((masks(&commands), avoid_masks(&commands)), (vec![], vec![0]));
}

#[test]
fn a_degraded_uplink_can_be_used_as_ever() {
    let mut world = half_lost("on_degraded = \"ignore\"\n");
    let commands = world.run_until(ms(30_000)).decisions();
    assert!(matches!(&commands[..], [Command::Report(Report::Quality { .. })]), "{commands:?}");
}

fn backup(on_up: &str) -> World {
    let text = CONFIG.replace("weight = 70", &format!("tier = 2\n{on_up}"));
    let mut world = World::with_config(&text, machine(), UpMask::default());
    world.run_until(ms(60_000));
    assert_eq!(ended(&world.heard()), [], "nothing was taken over");
    world.answers[A as usize] = NONE_ANSWERS;
    world.run_until(ms(65_000)).heard();
    world.answers[A as usize] = ALL_ANSWER;
    world
}

#[test]
fn the_flows_of_a_backup_are_reclaimed_once_the_better_one_is_back_for_good() {
    let mut world = backup("on_up = \"reclaim\"");
    world.run_until(ms(85_000));
    let back = world.heard.iter().find_map(|(at, command)| match command {
        Command::SetUpMask(mask) if mask.0 & 1 != 0 => Some(*at),
        _ => None,
    });
    let back = back.expect("a is up again");
    assert_eq!(ended(&world.heard()), []);
    world.run_until(back + ms(29_900));
    assert_eq!(ended(&world.heard()), []);
    let commands = world.run_until(back + ms(30_500)).heard();
    assert_eq!(ended(&commands), [(B, Family::Ipv4), (B, Family::Ipv6)]);
    assert_eq!(forgotten(&commands), [(Family::Ipv4, FWMARK[1]), (Family::Ipv6, FWMARK[1])]);
    assert_eq!(ended(&world.run_until(ms(300_000)).heard()), [], "once");
}

#[test]
fn a_better_uplink_that_goes_down_again_reclaims_nothing() {
    let mut world = backup("on_up = \"reclaim\"\nreclaim_after = \"20s\"");
    world.run_until(ms(80_000));
    world.answers[A as usize] = NONE_ANSWERS;
    world.run_until(ms(200_000));
    let commands = world.heard();
    assert!(masks(&commands).len() > 1, "it was up for a while");
    assert!(ended(&commands).iter().all(|(uplink, _)| *uplink == A), "{:?}", ended(&commands));
}

#[test]
fn a_better_uplink_that_is_drained_reclaims_nothing_before_it_is_enabled() {
    let mut world = backup("on_up = \"reclaim\"");
    world.engine.handle_event(Event::Admin { uplink: A, admin: AdminState::Drained }, world.now);
    world.run_until(ms(200_000));
    assert_eq!(ended(&world.heard()), []);
    let now = world.now;
    world.engine.handle_event(Event::Admin { uplink: A, admin: AdminState::Enabled }, now);
    assert_eq!(ended(&world.run_until(now + ms(31_000)).heard()).len(), 2);
}

#[test]
fn by_default_the_flows_of_a_backup_stay() {
    let mut world = backup("on_up = \"drain\"");
    assert_eq!(ended(&world.run_until(ms(200_000)).heard()), []);
}

#[test]
fn without_limits_an_uplink_is_degraded_no_longer() {
    let mut world = half_lost("");
    let commands = world.run_until(ms(30_000)).decisions();
    assert_eq!(avoid_masks(&commands), [0x0000_0001]);
    let text = CONFIG.replace("\"198.51.100.1\"", "\"198.51.100.1\", \"198.51.100.2\"");
    reconfigure(&mut world, &text);
    let now = world.now;
    let commands = world.run_until(now).decisions();
    assert_eq!(avoid_masks(&commands), [0]);
    assert!(world.engine.uplinks()[A as usize].health.ipv4.degraded().is_none());
}

/// Requests a state of an uplink, and returns what it decides.
fn want(world: &mut World, uplink: u32, admin: AdminState) -> Vec<Command> {
    let now = world.now;
    world.engine.handle_event(Event::Admin { uplink, admin }, now);
    world.run_until(now).decisions()
}

#[test]
fn new_flows_prefer_a_degraded_uplink_to_one_that_is_drained() {
    let mut world = half_lost("");
    let commands = world.run_until(ms(30_000)).decisions();
    assert_eq!(avoid_masks(&commands), [0x0000_0001], "the degraded one");
    let commands = want(&mut world, B, AdminState::Drained);
    assert_eq!(avoid_masks(&commands), [0x0002_0002], "the drained one alone");
    let commands = want(&mut world, A, AdminState::Drained);
    assert_eq!(avoid_masks(&commands), [0x0000_0001], "of two drained ones the degraded one, too");
    let commands = want(&mut world, B, AdminState::Enabled);
    assert_eq!(avoid_masks(&commands), [0x0001_0001]);
}

#[test]
fn an_uplink_that_is_the_last_one_is_not_avoided_by_its_kind() {
    let mut world = half_lost("");
    world.run_until(ms(30_000)).decisions();
    let cut = world.now;
    world.set_carrier(B, false).run_until(cut);
    assert_eq!(avoid_masks(&world.decisions()), [0]);
    world.set_carrier(B, true).run_until(cut + ms(60_000));
    assert_eq!(avoid_masks(&world.decisions()).last(), Some(&0x0000_0001));
}

#[test]
fn a_degraded_uplink_that_dies_is_not_told_to_be_good() {
    let mut world = half_lost("");
    world.run_until(ms(30_000)).decisions();
    let cut = world.now;
    world.set_carrier(A, false).run_until(cut + ms(5000));
    let told = |commands: &[Command]| {
        let each = commands.iter().filter_map(|command| match command {
            Command::Report(Report::Quality { degraded, .. }) => Some(degraded.is_some()),
            _ => None,
        });
        each.collect::<Vec<bool>>()
    };
    assert!(told(&world.decisions()).is_empty());
    // It is told anew when it is up again.
    world.set_carrier(A, true).run_until(cut + ms(60_000));
    assert_eq!(told(&world.decisions()), [true]);
}

#[test]
fn an_uplink_without_weight_gives_its_flows_back_to_those_beside_it() {
    let text = CONFIG.replace("weight = 70", "weight = 0\non_up = \"reclaim\"");
    let mut world = World::with_config(&text, machine(), UpMask::default());
    world.run_until(ms(1000)).heard();
    world.answers[A as usize] = NONE_ANSWERS;
    world.run_until(ms(5000)).heard();
    world.answers[A as usize] = ALL_ANSWER;
    let commands = world.run_until(ms(120_000)).heard();
    assert_eq!(ended(&commands), [(B, Family::Ipv4), (B, Family::Ipv6)]);
}
