//! The effect of traffic on verdicts.

use super::*;
use crate::engine::health::{
    reason::Reason,
    traffic::{POLL_INTERVAL, Traffic},
};

/// The answers between two looks, by family.
#[derive(Clone, Copy, Default)]
struct Back {
    answers: PerFamily<u64>,
    networks: PerFamily<u32>,
    connected: u64,
}

const NOTHING: Back = Back {
    answers: PerFamily { ipv4: 0, ipv6: 0 },
    networks: PerFamily { ipv4: 0, ipv6: 0 },
    connected: 0,
};
/// Answers of the internet.
const ALL: Back = Back {
    answers: PerFamily { ipv4: 50, ipv6: 50 },
    networks: PerFamily { ipv4: 0x00ff_ff00, ipv6: 0x00ff_ff00 },
    connected: 0,
};
/// Answers of one network in each family: as many, and in settled flows.
const NEAR: Back = Back { networks: PerFamily { ipv4: 0x80, ipv6: 0x80 }, ..ALL };

/// Carries traffic of 1000 packets a second on both uplinks until `end`; `back` returns the
/// answers. Looks as often as the daemon.
fn carry(
    world: &mut World,
    end: Duration,
    back: impl Fn(u32, Duration) -> Back,
) -> Vec<(Duration, Command)> {
    let connects = |_| 0;
    carry_with(world, &mut Default::default(), end, connects, back)
}

/// Carries traffic like [`carry`] on top of `counters`; `connects` returns the TCP connections
/// between two looks.
fn carry_with(
    world: &mut World,
    counters: &mut BTreeMap<u32, Traffic>,
    end: Duration,
    connects: impl Fn(Duration) -> u64,
    back: impl Fn(u32, Duration) -> Back,
) -> Vec<(Duration, Command)> {
    let mut heard = Vec::new();
    while world.now < end {
        let now = world.now + POLL_INTERVAL;
        let mut networks = BTreeMap::new();
        for uplink in [A, B] {
            let (counted, back) = (counters.entry(uplink).or_default(), back(uplink, now));
            counted.packets += 100;
            counted.answers += back.answers.values().sum::<u64>();
            counted.answers_ipv6 += back.answers.ipv6;
            counted.connects += connects(now);
            counted.connects_answered += back.connected;
            networks.insert(uplink, back.networks);
        }
        world.run_until(now);
        heard.append(&mut world.heard);
        let event = Event::DatapathTraffic { counters: counters.clone(), networks };
        world.engine.handle_event(event, now);
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
    all_masks(heard).first().copied()
}

#[test]
fn a_black_hole_under_load_is_noticed_within_400_ms() {
    for offset in (0..200).step_by(10) {
        let mut world = world(CONFIG);
        let start = world.now + ms(offset);
        carry(&mut world, start, |_, _| ALL);
        carry(&mut world, start + ms(1000), |_, _| ALL);
        let cut = world.now;
        world.answers[A as usize] = NONE_ANSWERS;
        let heard =
            carry(&mut world, cut + ms(1000), |uplink, _| if uplink == A { NOTHING } else { ALL });
        let (at, _) = first_mask(&heard).expect("noticed");
        assert!(at - cut <= ms(400), "after {:?}", at - cut);
        let reports = heard.into_iter().map(|(_, command)| command).collect::<Vec<_>>();
        assert!(super::reports(&reports).iter().all(|(name, ..)| name == "a"));
    }
}

#[test]
fn suspicion_without_cause_is_settled_by_the_first_answers() {
    let mut world = world(CONFIG);
    let heard = carry(&mut world, ms(60_000), |_, _| NOTHING);
    assert_eq!(first_mask(&heard), None);
    assert!(world.engine.uplinks().iter().all(|uplink| !uplink.health.ipv4.is_suspected()));
}

#[test]
fn a_saturated_uplink_whose_probes_are_lost_stays_up_and_says_so() {
    let mut world = world(CONFIG);
    carry(&mut world, ms(2000), |_, _| ALL);
    world.answers[A as usize] = NONE_ANSWERS;
    let heard = carry(&mut world, ms(22_000), |_, _| ALL);
    assert_eq!(first_mask(&heard), None);
    let health = &world.engine.uplinks()[A as usize].health.ipv4;
    assert_eq!(health.reason().to_string(), "probes are lost, but answers arrive");
    assert!(health.window().loss() > 0.9);
    world.answers[A as usize] = ALL_ANSWER;
    carry(&mut world, ms(25_000), |_, _| ALL);
    let reason = world.engine.uplinks()[A as usize].health.ipv4.reason();
    assert!(reason.is(&Reason::TargetsAnswer), "{reason}");
}

#[test]
fn answers_of_one_family_do_not_keep_the_other_alive() {
    let mut world = world(CONFIG);
    carry(&mut world, ms(2000), |_, _| ALL);
    world.answers[A as usize] = PerFamily { ipv4: true, ipv6: false };
    let heard = carry(&mut world, ms(4000), |_, _| only(Family::Ipv4, ALL));
    let (at, mask) = first_mask(&heard).expect("noticed");
    assert!(mask == 0x0002_0003 && at <= ms(2800), "{mask:#x} at {at:?}");
}

/// Leaves the answers of one family.
fn only(family: Family, mut back: Back) -> Back {
    let dead = other(family);
    (back.answers[dead], back.networks[dead]) = (0, 0);
    back
}

/// Checks two families that both lose probes, so that the answers of either may tell of a full
/// line; but one of them is heard now and then.
#[test]
fn answers_of_a_full_family_keep_the_other_alive_for_two_seconds_at_most() {
    for (dead, expected) in Family::ALL.into_iter().zip([0x0003_0002, 0x0002_0003]) {
        let mut world = world(CONFIG);
        let mut counters = BTreeMap::new();
        let none = |_| 0;
        carry_with(&mut world, &mut counters, ms(2000), none, |_, _| ALL);
        let mut heard = Vec::new();
        while world.now < ms(6000) {
            let now_and_then = world.now.as_millis().is_multiple_of(500);
            world.answers[A as usize] = NONE_ANSWERS;
            world.answers[A as usize][other(dead)] = now_and_then;
            let end = world.now + POLL_INTERVAL;
            let back = |uplink, _| if uplink == A { only(other(dead), ALL) } else { ALL };
            heard.extend(carry_with(&mut world, &mut counters, end, none, back));
        }
        let masks = all_masks(&heard);
        assert!(masks.len() == 1 && masks[0].1 == expected, "{masks:x?}");
        assert!(masks[0].0 > ms(2900) && masks[0].0 <= ms(4000), "{masks:x?}");
    }
}

fn all_masks(heard: &[(Duration, Command)]) -> Vec<(Duration, u32)> {
    let masks = heard.iter().filter_map(|(at, command)| match command {
        Command::SetUpMask(mask) => Some((*at, mask.0)),
        _ => None,
    });
    masks.collect()
}

/// Returns the time from the cut until uplink A was given up in both families; `connects` returns
/// the connections that are tried, and `back` the answers by it after the cut.
fn given_up_after(
    offset: u64,
    limit: Duration,
    connects: impl Fn(Duration) -> u64 + Copy,
    back: impl Fn(Duration) -> Back,
) -> Duration {
    let mut world = world(CONFIG);
    let mut counters = BTreeMap::new();
    let cut = ms(4000 + offset);
    carry_with(&mut world, &mut counters, cut, connects, |_, now| Back {
        connected: connects(now),
        ..ALL
    });
    world.answers[A as usize] = NONE_ANSWERS;
    let heard = carry_with(&mut world, &mut counters, cut + limit, connects, |uplink, now| {
        if uplink == A { back(now) } else { Back { connected: connects(now), ..ALL } }
    });
    let masks = all_masks(&heard);
    assert_eq!(masks.last().map(|(_, mask)| *mask), Some(0x0002_0002), "{masks:x?}");
    masks[masks.len() - 1].0 - cut
}

/// Returns a function for `count` events in each second, evenly spread.
const fn each_second(count: u64) -> impl Fn(Duration) -> u64 + Copy {
    move |now: Duration| {
        let before = now.as_millis() as u64 - POLL_INTERVAL.as_millis() as u64;
        now.as_millis() as u64 * count / 1000 - before * count / 1000
    }
}

fn every(pause: u64, now: Duration) -> bool {
    now.as_millis() as u64 % pause < POLL_INTERVAL.as_millis() as u64
}

#[test]
fn an_uplink_whose_provider_alone_answers_is_down_within_two_seconds() {
    for offset in (0..400).step_by(37) {
        for connects in [0, 1, 5, 40] {
            for pause in [100, 200, 500, 700, 1000, 3000] {
                let near = |now| if every(pause, now) { NEAR } else { NOTHING };
                let after = given_up_after(offset, ms(3000), each_second(connects), near);
                let what = format!("{connects} connections a second, answers every {pause} ms");
                assert!(after <= ms(2000), "{what}: {after:?}");
            }
        }
    }
}

/// Checks a portal that accepts, or refuses, connections in the name of whomever they were to.
#[test]
fn a_portal_that_answers_everybody_is_not_the_internet() {
    for offset in (0..400).step_by(37) {
        for connects in [1, 5, 40] {
            let connects = each_second(connects);
            let portal = |now| Back {
                connected: connects(now),
                networks: PerFamily { ipv4: 0, ipv6: 0 },
                ..ALL
            };
            let after = given_up_after(offset, ms(3000), connects, portal);
            assert!(after <= ms(2000), "{after:?}");
        }
    }
}

/// Checks a forger at the provider's line, who sends the answers of the whole internet.
#[test]
fn forged_answers_of_many_networks_keep_a_dead_uplink_up_for_a_minute_at_most() {
    let after = given_up_after(0, ms(90_000), |_| 0, |_| ALL);
    assert!(after > ms(59_000) && after <= ms(62_000), "{after:?}");
    // They cease.
    let forged = |now| if now < ms(20_000) { ALL } else { NEAR };
    let after = given_up_after(0, ms(90_000), |_| 0, forged);
    assert!(after > ms(16_000) && after <= ms(20_000), "{after:?}");
}

#[test]
fn a_full_line_may_answer_of_fewer_networks_for_a_moment() {
    let mut world = world(CONFIG);
    carry(&mut world, ms(2000), |_, _| ALL);
    world.answers[A as usize] = NONE_ANSWERS;
    let heard =
        carry(
            &mut world,
            ms(40_000),
            |_, now| {
                if now.as_millis() % 5000 < 2500 { NEAR } else { ALL }
            },
        );
    assert_eq!(first_mask(&heard), None);
}

#[test]
fn a_probe_that_found_something_wrong_is_not_outweighed_by_answers() {
    let mut world = world(CONFIG);
    carry(&mut world, ms(2000), |_, _| ALL);
    world.answers[A as usize] = NONE_ANSWERS;
    world.failure = Some("captive portal");
    let heard = carry(&mut world, ms(4000), |_, _| ALL);
    assert!(first_mask(&heard).is_some());
}

/// Tells the engine that the kernel does not find a gateway, of either uplink.
fn gateway_fails(world: &mut World, address: &str) -> Vec<(Duration, Command)> {
    let address = address.parse().expect("an address");
    for ifindex in IFINDEX {
        let event = NetworkEvent::NeighbourFailed { ifindex, address };
        world.engine.handle_event(Event::Network(event), world.now);
    }
    world.run_until(world.now);
    mem::take(&mut world.heard)
}

#[test]
fn a_gateway_that_is_not_found_is_a_verdict_once_a_round_is_lost() {
    let mut world = world(&(CONFIG.to_owned() + "interval = \"10s\"\n"));
    world.run_until(ms(9000)).heard();
    world.answers[A as usize] = NONE_ANSWERS;
    world.run_until(ms(10_500)).heard();
    let heard = gateway_fails(&mut world, "203.0.113.1");
    assert_eq!(first_mask(&heard), Some((world.now, 0x0003_0002)), "at once, and IPv4 alone");
    let reason = heard.iter().find_map(|(_, command)| match command {
        Command::Report(Report::Uplink { reason, .. }) => Some(reason.to_string()),
        _ => None,
    });
    let told = "the gateway 203.0.113.1 is not found on the link, and probes are lost";
    assert_eq!(reason.as_deref(), Some(told));
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
    world.answers[A as usize] = NONE_ANSWERS;
    let since = world.now;
    gateway_fails(&mut world, "203.0.113.1");
    world.run_until(since + ms(1000));
    let (at, mask) = first_mask(&world.heard).expect("long before the next round");
    assert!(mask == 0x0003_0002 && at - since < ms(600), "{mask:#x} after {:?}", at - since);
}
