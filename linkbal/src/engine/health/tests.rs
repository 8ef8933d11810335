//! The state machine, round by round.

use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::*;
use crate::config::Target;

const A: Target = target(1);
const B: Target = target(2);

const fn target(host: u8) -> Target {
    Target::Echo(IpAddr::V4(Ipv4Addr::new(192, 0, 2, host)))
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn no_carrier() -> Unready {
    Unready::NoCarrier("wan-a".into())
}

fn probe() -> Probe {
    Probe {
        targets: vec![A, B],
        interval: ms(200),
        timeout: Some(ms(200)),
        failure_count: 3,
        success_count: 5,
        quorum: 1,
        hold: ms(5000),
        ..Probe::default()
    }
}

/// Runs the machine from `from` to `to`; `answers` says which targets answer a round at once.
fn run(
    health: &mut Health,
    from: Duration,
    to: Duration,
    answers: impl Fn(Duration) -> Vec<Target>,
) -> Vec<(Duration, State)> {
    let mut changes = Vec::new();
    let mut now = from;
    while now <= to {
        changes.extend(health.expire(now).map(|change| (now, change.to)));
        if let Some(start) = health.start_round(now) {
            for target in answers(now) {
                let change = health.answer(&target, start.round, now + ms(1));
                changes.extend(change.map(|change| (now, change.to)));
            }
        }
        now = health.deadline().expect("a ready machine has a deadline").max(now + ms(1));
    }
    changes
}

fn up_at_zero() -> Health {
    let mut health = Health::new(probe(), Family::Ipv4, false, ms(0));
    assert_eq!(health.handle(&HealthEvent::Ready, ms(0)), None);
    assert_eq!(run(&mut health, ms(0), ms(1000), |_| vec![A, B]), [(ms(0), State::Up)]);
    health
}

#[test]
fn first_answer_brings_it_up() {
    assert_eq!(up_at_zero().state(), State::Up);
}

#[test]
fn three_silent_rounds_bring_it_down_in_time() {
    let mut health = up_at_zero();
    let changes = run(&mut health, ms(1001), ms(5000), |_| vec![]);
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].1, State::Down);
    assert!(changes[0].0 <= ms(1000 + 3 * 200 + 200), "{changes:?}");
}

#[test]
fn the_evidence_of_a_verdict_names_who_answered_in_the_rounds_that_made_it() {
    let mut health = Health::new(Probe { quorum: 2, ..probe() }, Family::Ipv4, true, ms(0));
    health.handle(&HealthEvent::Ready, ms(0));
    run(&mut health, ms(0), ms(900), |_| vec![A, B]);
    let changes = run(&mut health, ms(901), ms(1600), |_| vec![B]);
    assert_eq!(changes.iter().map(|change| change.1).collect::<Vec<_>>(), [State::Down]);
    let evidence = health.seen();
    let counts = evidence.targets.iter().map(|of| (of.target.as_str(), of.answered, of.asked));
    assert_eq!(counts.collect::<Vec<_>>(), [("192.0.2.1", 0, 3), ("192.0.2.2", 3, 3)]);
    assert!(evidence.loss > 0.0 && evidence.latency_ms == Some(1.0), "{evidence:?}");
}

#[test]
fn evidence_counts_no_answer_as_missing_that_may_still_come() {
    let mut health = Health::new(probe(), Family::Ipv4, false, ms(0));
    health.handle(&HealthEvent::Ready, ms(0));
    let start = health.start_round(ms(0)).expect("due");
    assert_eq!(health.answer(&B, start.round, ms(3)).map(|change| change.to), Some(State::Up));
    let targets = health.seen().targets;
    assert_eq!(targets.len(), 1, "{targets:?}");
    assert_eq!((targets[0].target.as_str(), targets[0].answered), ("192.0.2.2", 1));
}

#[test]
fn one_target_of_two_is_enough_and_counts_as_half_the_loss() {
    let mut health = up_at_zero();
    assert_eq!(run(&mut health, ms(1001), ms(60_000), |_| vec![B]), []);
    assert_eq!(health.window().loss(), 0.5);
}

#[test]
fn a_quorum_of_two_needs_both() {
    let mut health = Health::new(Probe { quorum: 2, ..probe() }, Family::Ipv4, true, ms(0));
    health.handle(&HealthEvent::Ready, ms(0));
    let changes = run(&mut health, ms(0), ms(2000), |_| vec![A]);
    assert_eq!(changes.iter().map(|change| change.1).collect::<Vec<_>>(), [State::Down]);
}

#[test]
fn recovery_waits_for_the_hold_time_and_starts_over_after_a_bad_round() {
    let mut health = up_at_zero();
    run(&mut health, ms(1001), ms(3000), |_| vec![]);
    assert_eq!(health.state(), State::Down);
    let silent = |now: Duration| now >= ms(6000) && now < ms(6300);
    let answers = |now| if silent(now) { vec![] } else { vec![A] };
    let changes = run(&mut health, ms(3001), ms(20_000), answers);
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].1, State::Up);
    assert!(changes[0].0 >= ms(6300 + 5000) && changes[0].0 <= ms(6300 + 5600), "{changes:?}");
}

#[test]
fn losing_the_carrier_counts_at_once_and_says_why() {
    let mut health = up_at_zero();
    let change = health.handle(&HealthEvent::NotReady(&no_carrier()), ms(1001));
    let lasted = ms(1000);
    assert_eq!(change, Some(Transition { from: State::Up, to: State::Down, lasted }));
    assert!(health.reason().is(&Reason::NotReady(no_carrier())), "{}", health.reason());
    assert_eq!(health.deadline(), None);
    assert_eq!(health.start_round(ms(2000)), None);
}

#[test]
fn our_own_lateness_is_no_evidence() {
    let mut health = up_at_zero();
    let start = health.start_round(ms(1200)).expect("due");
    // Ten seconds without a turn of ours, with the answer waiting in the socket.
    health.answer(&A, start.round, ms(11_200));
    assert_eq!(health.expire(ms(11_200)), None);
    assert_eq!(health.state(), State::Up);
    assert_eq!(run(&mut health, ms(11_200), ms(15_000), |_| vec![A]), []);
}

#[test]
fn strangers_and_repeated_answers_count_nothing() {
    let mut health = Health::new(Probe { quorum: 2, ..probe() }, Family::Ipv4, false, ms(0));
    health.handle(&HealthEvent::Ready, ms(0));
    let start = health.start_round(ms(0)).expect("due");
    let stranger = target(99);
    assert_eq!(health.answer(&stranger, start.round, ms(1)), None);
    assert_eq!(health.answer(&A, start.round + 1, ms(1)), None);
    assert_eq!(health.answer(&A, start.round, ms(1)), None);
    assert_eq!(health.answer(&A, start.round, ms(2)), None);
    assert_eq!(health.state(), State::Init);
    assert_eq!(health.answer(&B, start.round, ms(3)).map(|change| change.to), Some(State::Up));
}

#[test]
fn a_failed_probe_ends_its_round_at_once_and_says_why() {
    let mut health = up_at_zero();
    let mut fail = |now| {
        let round = health.start_round(now).expect("due").round;
        assert_eq!(health.fail(&A, round, "refused".into(), now), None);
        assert_eq!(health.fail(&A, round, "repeated".into(), now), None);
        health.fail(&B, round, "no route".into(), now).map(|change| change.to)
    };
    assert_eq!([ms(1200), ms(1400), ms(1600)].map(&mut fail), [None, None, Some(State::Down)]);
    let reason = "3 rounds of probes failed: none of 2 targets answered (1 needed); \
                  192.0.2.1: refused; 192.0.2.2: no route";
    assert_eq!(health.reason().to_string(), reason);
    assert_eq!(health.expire(ms(1700)), None);
    let round = health.start_round(ms(1800)).expect("due").round;
    for target in [&A, &B] {
        assert_eq!(health.fail(target, round, "captive portal".into(), ms(1800)), None);
    }
    assert!(
        health.reason().to_string().ends_with("192.0.2.2: captive portal"),
        "{}",
        health.reason()
    );
}

#[test]
fn without_targets_the_carrier_decides_and_the_hold_time_still_counts() {
    let mut health = Health::new(Probe { targets: vec![], ..probe() }, Family::Ipv6, false, ms(0));
    assert_eq!(health.handle(&HealthEvent::Ready, ms(0)).map(|change| change.to), Some(State::Up));
    health.handle(&HealthEvent::NotReady(&no_carrier()), ms(10));
    assert_eq!(health.handle(&HealthEvent::Ready, ms(20)), None);
    assert_eq!(health.deadline(), Some(ms(5020)));
    assert_eq!(health.expire(ms(5019)), None);
    assert_eq!(health.expire(ms(5020)).map(|change| change.to), Some(State::Up));
}

#[test]
fn a_family_without_targets_follows_the_other() {
    let mut health = Health::new(probe(), Family::Ipv6, false, ms(0));
    health.handle(&HealthEvent::Ready, ms(0));
    assert_eq!(health.deadline(), None);
    assert_eq!(health.follow(Some(State::Up), ms(1)).map(|change| change.to), Some(State::Up));
    assert_eq!(health.follow(Some(State::Down), ms(2)).map(|change| change.to), Some(State::Down));
    assert_eq!(health.follow(None, ms(3)).map(|change| change.to), Some(State::Up));
}

proptest! {
    /// Checks that a line that answers every time within its timeout is never condemned,
    /// however late our own turns come.
    #[test]
    fn no_verdict_from_lateness(turns in proptest::collection::vec(0u64..5000, 1..60)) {
        let mut health = up_at_zero();
        let mut now = ms(1001);
        for turn in turns {
            now += ms(turn);
            prop_assert_eq!(health.expire(now), None);
            if let Some(start) = health.start_round(now) {
                health.answer(&A, start.round, now + ms(100));
                now += ms(100);
            }
        }
        prop_assert_eq!(health.state(), State::Up);
    }
}
