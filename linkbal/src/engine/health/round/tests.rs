use std::net::{IpAddr, Ipv4Addr};

use linkbal_common::uplink::Family;
use proptest::prelude::*;

use super::super::{Health, HealthEvent, State};
use crate::config::{Host, HttpTarget, Probe, Target};

use super::*;

const ECHO: Target = Target::Echo(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));
const ROUND: Duration = ms(200);

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn http() -> Target {
    Target::Http(HttpTarget {
        secure: false,
        host: Host::Name("portal.example".into()),
        port: 80,
        path: "/".into(),
        status: None,
        body: None,
    })
}

fn probe(targets: Vec<Target>, quorum: u32) -> Probe {
    Probe { targets, quorum, interval: ROUND, hold: ms(0), ..Probe::default() }
}

/// A machine that runs until its end, with the outcomes of its targets.
struct Line {
    health: Health,
    now: Duration,
    /// Times at which HTTP probes were sent.
    asked: Vec<Duration>,
}

impl Line {
    fn new(targets: Vec<Target>, quorum: u32, usable: bool) -> Line {
        let mut health = Health::new(probe(targets, quorum), Family::Ipv4, usable, ms(0));
        health.handle(&HealthEvent::Ready, ms(0));
        Line { health, now: ms(0), asked: Vec::new() }
    }

    /// Runs until the next HTTP probe is over, answered after `latency` if it succeeds; echoes are
    /// answered as `echo` says.
    fn until_next(&mut self, succeeds: bool, latency: Duration, echo: bool) {
        let mut over = None;
        loop {
            if let Some((round, at)) = over.filter(|(_, at)| *at <= self.now) {
                if succeeds {
                    self.health.answer(&http(), round, at);
                } else {
                    self.health.fail(&http(), round, "captive portal".into(), at);
                }
                return;
            }
            self.health.expire(self.now);
            if let Some(start) = self.health.start_round(self.now) {
                if start.targets.contains(&http()) {
                    self.asked.push(self.now);
                    assert_eq!(over, None, "two HTTP probes at a time");
                    over = Some((start.round, self.now + latency));
                }
                if start.targets.contains(&ECHO) && echo {
                    self.health.answer(&ECHO, start.round, self.now);
                }
            }
            let deadline = self.health.deadline().expect("a ready machine has a deadline");
            let over = over.map_or(deadline, |(_, at)| at);
            self.now = deadline.min(over).max(self.now);
        }
    }
}

proptest! {
    /// Checks that the verdict on an HTTP target takes as many of its own failures and answers as
    /// one on an echo target, however many echoes are answered in between, and that it is not asked
    /// too often.
    #[test]
    fn a_target_that_is_asked_seldom_counts_each_outcome_once(
        outcomes in proptest::collection::vec((any::<bool>(), 0u64..2900), 1..40),
    ) {
        let mut line = Line::new(vec![ECHO, http()], 2, true);
        let failure_count = Probe::default().failure_count as usize;
        let mut failures = 0;
        let mut up = true;
        for (succeeds, latency) in outcomes {
            line.until_next(succeeds, ms(latency), true);
            failures = if succeeds { 0 } else { failures + 1 };
            up &= failures < failure_count;
            if !up {
                break;
            }
            prop_assert_eq!(line.health.state(), State::Up);
        }
        prop_assert_eq!(line.health.state() == State::Up, up);
        for pair in line.asked.windows(2) {
            prop_assert!(pair[1] - pair[0] >= ms(1000), "{:?}", line.asked);
        }
    }

    /// Checks that with a quorum of one, a living target is enough, whichever it is and however
    /// seldom asked.
    #[test]
    fn one_living_target_is_enough(
        latencies in proptest::collection::vec(0u64..2900, 1..40), http_lives: bool,
    ) {
        let mut line = Line::new(vec![ECHO, http()], 1, true);
        for latency in latencies {
            line.until_next(http_lives, ms(latency), !http_lives);
            prop_assert_eq!(line.health.state(), State::Up);
        }
    }
}

#[test]
fn with_every_target_silent_the_quick_one_tells_it() {
    let mut line = Line::new(vec![ECHO, http()], 1, true);
    line.until_next(true, ms(5), true);
    line.until_next(false, ms(5), false);
    let failed = line.now;
    while line.health.state() == State::Up {
        line.now = line.health.deadline().expect("a deadline").max(line.now);
        line.health.expire(line.now);
        line.health.start_round(line.now);
    }
    assert!(line.now - failed <= 3 * ROUND + ms(1000), "{:?}", line.now - failed);
    assert!(
        line.health.reason().to_string().contains("captive portal"),
        "{}",
        line.health.reason()
    );
}

#[test]
fn only_http_targets_make_rounds_of_a_second() {
    let mut line = Line::new(vec![http()], 1, true);
    (0..2).for_each(|_| line.until_next(false, ms(5), false));
    assert_eq!(line.health.state(), State::Up);
    line.until_next(false, ms(5), false);
    assert_eq!(line.health.state(), State::Down);
    assert_eq!(line.asked, [ms(0), ms(1000), ms(2000)]);
}

#[test]
fn a_name_without_an_address_does_not_count() {
    let mut line = Line::new(vec![ECHO, http()], 2, false);
    let start = line.health.start_round(ms(0)).expect("due");
    assert_eq!(line.health.answer(&ECHO, start.round, ms(1)), None);
    let change = line.health.skip(&http(), start.round, ms(2)).expect("the quorum is one");
    assert_eq!(change.to, State::Up);
}

#[test]
fn with_nothing_to_ask_the_other_family_decides() {
    let mut line = Line::new(vec![http()], 1, false);
    let start = line.health.start_round(ms(0)).expect("due");
    assert_eq!(line.health.follow(Some(State::Up), ms(1)), None);
    assert_eq!(line.health.skip(&http(), start.round, ms(2)), None);
    let change = line.health.follow(Some(State::Up), ms(3)).expect("it follows");
    assert_eq!(change.to, State::Up);
    assert!(line.health.start_round(ms(1000)).is_some(), "it may get an address");
}
