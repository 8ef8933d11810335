//! What traffic does to verdicts.

use super::*;
use crate::engine::traffic::{LOOK, Traffic};

/// Both uplinks carry traffic at 1000 packets a second from `from` to `end`; answers come while
/// `answered` says so. Looks as often as the daemon.
fn carry(
    world: &mut World,
    end: Duration,
    answered: impl Fn(u32, Duration) -> bool,
) -> Vec<(Duration, Command)> {
    let mut counters = [Traffic::default(); 2];
    let mut heard = Vec::new();
    while world.now < end {
        let now = world.now + LOOK;
        for uplink in [A, B] {
            let counted = &mut counters[uplink as usize];
            counted.packets += 100;
            counted.answers += if answered(uplink, now) { 100 } else { 0 };
        }
        world.run_until(now);
        let counters = [A, B].map(|uplink| (uplink, counters[uplink as usize])).into();
        world.engine.handle_event(Event::Traffic { counters }, now);
        heard.append(&mut world.heard);
    }
    world.run_until(end);
    heard.append(&mut world.heard);
    heard
}

fn world(text: &str) -> World {
    let mut world = World::with_config(text, machine(), UpMask::default());
    world.run_until(ms(1000)).heard();
    world
}

fn first_mask(heard: &[(Duration, Command)]) -> Option<(Duration, u32)> {
    heard.iter().find_map(|(at, command)| match command {
        Command::SetUpMask(mask) => Some((*at, mask.0)),
        _ => None,
    })
}

#[test]
fn a_black_hole_under_load_is_noticed_within_400_ms() {
    for offset in (0..200).step_by(10) {
        let mut world = world(CONFIG);
        let start = world.now + ms(offset);
        carry(&mut world, start, |_, _| true);
        carry(&mut world, start + ms(1000), |_, _| true);
        let cut = world.now;
        world.answers[A as usize] = [false; 2];
        let heard = carry(&mut world, cut + ms(1000), |uplink, _| uplink != A);
        let (at, _) = first_mask(&heard).expect("noticed");
        assert!(at - cut <= ms(400), "after {:?}", at - cut);
        let reports = heard.into_iter().map(|(_, command)| command).collect::<Vec<_>>();
        assert!(super::reports(&reports).iter().all(|(name, ..)| name == "a"));
    }
}

#[test]
fn suspicion_without_cause_is_settled_by_the_first_answers() {
    let mut world = world(CONFIG);
    let heard = carry(&mut world, ms(60_000), |_, _| false);
    assert_eq!(first_mask(&heard), None);
    assert!(world.engine.uplinks().iter().all(|uplink| !uplink.health[0].is_suspected()));
}

#[test]
fn a_saturated_uplink_whose_probes_are_lost_stays_up_and_says_so() {
    let mut world = world(CONFIG);
    carry(&mut world, ms(2000), |_, _| true);
    world.answers[A as usize] = [false; 2];
    // Both families lose; before that is known, answers could be of the other one.
    let heard = carry(&mut world, ms(22_000), |_, _| true);
    assert_eq!(first_mask(&heard), None);
    let health = &world.engine.uplinks()[A as usize].health[0];
    assert_eq!(health.reason(), "probes are lost, but answers arrive");
    assert!(health.window().loss() > 0.9);
    world.answers[A as usize] = [true; 2];
    carry(&mut world, ms(25_000), |_, _| true);
    assert_eq!(world.engine.uplinks()[A as usize].health[0].reason(), "targets answer");
}

#[test]
fn answers_of_one_family_do_not_keep_the_other_alive() {
    let mut world = world(CONFIG);
    carry(&mut world, ms(2000), |_, _| true);
    world.answers[A as usize] = [true, false];
    let heard = carry(&mut world, ms(4000), |_, _| true);
    assert_eq!(first_mask(&heard).map(|(_, mask)| mask), Some(0x0002_0003));
}

#[test]
fn a_probe_that_found_something_wrong_is_not_outweighed_by_answers() {
    let mut world = world(CONFIG);
    carry(&mut world, ms(2000), |_, _| true);
    world.answers[A as usize] = [false; 2];
    world.failure = Some("captive portal");
    let heard = carry(&mut world, ms(4000), |_, _| true);
    assert!(first_mask(&heard).is_some());
}

/// The kernel does not find the gateway of an uplink, or of both, in a family.
fn gateway_fails(world: &mut World, address: &str) -> Vec<(Duration, Command)> {
    let address = address.parse().expect("an address");
    for ifindex in IFINDEX {
        let event = NetworkEvent::NeighbourFailed { ifindex, address };
        world.engine.handle_event(Event::Network(event), world.now);
    }
    world.run_until(world.now);
    std::mem::take(&mut world.heard)
}

#[test]
fn a_gateway_that_is_not_found_is_a_verdict_once_a_round_is_lost() {
    let mut world = world(&(CONFIG.to_owned() + "interval = \"10s\"\n"));
    world.run_until(ms(9000)).heard();
    world.answers[A as usize] = [false; 2];
    world.run_until(ms(10_500)).heard();
    let heard = gateway_fails(&mut world, "203.0.113.1");
    assert_eq!(first_mask(&heard), Some((world.now, 0x0003_0002)), "at once, and IPv4 alone");
    let reason = heard.iter().find_map(|(_, command)| match command {
        Command::Report(Report::Uplink { reason, .. }) => Some(reason.as_str()),
        _ => None,
    });
    let told = "the gateway 203.0.113.1 is not found on the link, and probes are lost";
    assert_eq!(reason, Some(told));
    let heard = gateway_fails(&mut world, "fe80::1");
    assert_eq!(first_mask(&heard), Some((world.now, 0x0002_0002)), "IPv6");
}

#[test]
fn a_gateway_that_is_not_found_has_its_uplink_asked_at_once() {
    let mut world = world(&(CONFIG.to_owned() + "interval = \"10s\"\n"));
    world.run_until(ms(12_000)).heard();
    // An administrator flushed the neighbours.
    assert_eq!(first_mask(&gateway_fails(&mut world, "203.0.113.1")), None);
    world.run_until(ms(19_000));
    assert_eq!(first_mask(&world.heard), None, "it answers");
    assert_eq!(first_mask(&gateway_fails(&mut world, "198.51.100.9")), None, "no gateway");
    world.answers[A as usize] = [false; 2];
    let since = world.now;
    gateway_fails(&mut world, "203.0.113.1");
    world.run_until(since + ms(1000));
    let (at, mask) = first_mask(&world.heard).expect("long before the next round");
    assert!(mask == 0x0003_0002 && at - since < ms(600), "{mask:#x} after {:?}", at - since);
}
