//! Tests of what becomes a message, and when.

use std::time::Duration;

use linkbal_common::uplink::Family;
use proptest::prelude::*;

use super::{
    digest::{Digest, EventLine},
    outage::{Change, Outage, OutageCause, OutageNews, Seen, Sighting, Tracker},
    outbox::{Outbox, OutboxSettings, SendOutcome, Turn},
    text::{Message, Surroundings, message},
};

const GATHER: Duration = Duration::from_secs(10);

const fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn settings(events: &[&str], limit: u32) -> OutboxSettings {
    let events = events.iter().map(|word| (*word).to_owned()).collect();
    OutboxSettings { events, gather: GATHER, limit }
}

fn down() -> Seen {
    Seen::Down(OutageCause { brief: "no carrier on eth0".into(), advice: String::new() })
}

/// A gateway with a receiver whose messages arrive, and the time.
struct Bed {
    tracker: Tracker,
    outbox: Outbox,
    now: Duration,
    /// Since when each uplink has its state.
    states: Vec<(String, Seen, Duration)>,
}

impl Bed {
    fn new(uplinks: &[&str]) -> Bed {
        let up = |name: &&str| ((*name).to_owned(), Seen::Up, Duration::ZERO);
        let outbox = Outbox::new(settings(&["uplink", "trouble"], 100));
        let states = uplinks.iter().map(up).collect();
        Bed { tracker: Tracker::default(), outbox, now: at(0), states }
    }

    fn set(&mut self, uplink: &str, seen: Seen) {
        let now = self.now;
        let state = self.states.iter_mut().find(|(name, ..)| name == uplink).expect("an uplink");
        (state.1, state.2) = (seen, now);
    }

    /// Observes the uplinks.
    fn observe(&mut self) {
        let each = self.states.iter().flat_map(|(uplink, seen, since)| {
            Family::ALL.map(|family| Sighting {
                uplink: uplink.clone(),
                family,
                only: false,
                seen: seen.clone(),
                since: *since,
            })
        });
        for news in self.tracker.observe(self.now, &each.collect::<Vec<_>>()) {
            self.outbox.add_outage(self.now, &news);
        }
    }

    fn message(&mut self) -> Option<Message> {
        let up = self.states.iter().filter(|(_, seen, _)| *seen == Seen::Up);
        let up = up.map(|(name, ..)| name.as_str()).collect();
        let clock = |at: Duration| format!("t{}", at.as_secs());
        let around = Surroundings { gateway: "gw", now: self.now, clock: &clock, up };
        Some(message(self.outbox.take(self.now)?, &around))
    }

    /// Passes so many seconds; returns the titles of the messages, all of which arrive if there is a
    /// way.
    fn pass(&mut self, seconds: u64, way: bool) -> Vec<String> {
        let mut titles = Vec::new();
        for _ in 0..seconds {
            self.observe();
            if let Some(message) = self.message() {
                let outcome = if way { SendOutcome::Sent } else { SendOutcome::NoWay };
                self.outbox.done(self.now, outcome);
                titles.extend(way.then_some(message.title));
            }
            self.now += at(1);
        }
        titles
    }
}

#[test]
fn an_outage_is_told_when_it_begins_and_with_its_length_and_cause_when_it_ends() {
    let mut bed = Bed::new(&["fiber", "lte"]);
    assert!(bed.pass(5, true).is_empty());
    bed.set("fiber", down());
    assert_eq!(bed.pass(230, true), ["fiber is down: no carrier on eth0"]);
    bed.set("fiber", Seen::Up);
    assert_eq!(bed.pass(30, true), ["fiber was down 3 min 50 s: no carrier on eth0"]);
    assert!(bed.pass(3600, true).is_empty());
}

#[test]
fn a_short_outage_is_one_message() {
    let mut bed = Bed::new(&["fiber", "lte"]);
    bed.set("fiber", down());
    assert!(bed.pass(4, true).is_empty());
    bed.set("fiber", Seen::Up);
    assert_eq!(bed.pass(30, true), ["fiber was down 4 s: no carrier on eth0"]);
}

#[test]
fn several_uplinks_are_one_message() {
    let mut bed = Bed::new(&["fiber", "lte", "sat"]);
    bed.set("fiber", down());
    bed.pass(3, true);
    bed.set("lte", down());
    assert_eq!(bed.pass(30, true), ["fiber is down, lte is down"]);
}

#[test]
fn what_could_not_be_sent_is_one_message_afterwards() {
    let mut bed = Bed::new(&["fiber", "lte"]);
    bed.set("fiber", down());
    bed.set("lte", down());
    assert!(bed.pass(500, false).is_empty());
    bed.set("lte", Seen::Up);
    bed.outbox.retry(bed.now);
    let titles = bed.pass(30, true);
    assert_eq!(titles, ["fiber is down, lte was down 8 min 20 s"]);
    bed.set("fiber", Seen::Up);
    assert_eq!(bed.pass(30, true), ["fiber was down 8 min 50 s: no carrier on eth0"]);
}

#[test]
fn an_uplink_that_flaps_is_told_of_when_it_is_calm() {
    let mut bed = Bed::new(&["fiber", "lte"]);
    let mut titles = Vec::new();
    for _ in 0..20 {
        bed.set("fiber", down());
        titles.extend(bed.pass(20, true));
        bed.set("fiber", Seen::Up);
        titles.extend(bed.pass(20, true));
    }
    titles.extend(bed.pass(3600, true));
    assert_eq!(titles.len(), 5, "{titles:#?}");
    assert!(titles[4].contains("was down 18 times, 6 min in all"), "{titles:#?}");
}

#[test]
fn a_disabled_uplink_is_not_said_to_be_up() {
    let mut bed = Bed::new(&["fiber"]);
    bed.set("fiber", down());
    bed.pass(30, true);
    bed.set("fiber", Seen::Unwatched);
    bed.pass(5, true);
    bed.now += GATHER;
    let text = bed.message().expect("a message").text;
    assert!(text.contains("it is not watched any longer"), "{text}");
}

#[test]
fn a_better_known_cause_is_told_once() {
    let mut bed = Bed::new(&["fiber"]);
    bed.set("fiber", down());
    bed.pass(2, true);
    let known = OutageCause { brief: "no answer behind the gateway".into(), advice: "call".into() };
    bed.states[0].1 = Seen::Down(known);
    assert_eq!(bed.pass(60, true), ["fiber is down: no answer behind the gateway"]);
}

#[test]
fn the_limit_holds_and_nothing_is_lost_by_it() {
    let mut bed = Bed::new(&["fiber"]);
    bed.outbox.set(settings(&["trouble"], 2));
    let mut titles = Vec::new();
    for number in 0..10 {
        let text = format!("trouble {number}");
        bed.outbox.add_line("trouble", EventLine { at: bed.now, text, is_warning: true });
        titles.extend(bed.pass(60, true));
    }
    assert_eq!(titles, ["trouble 0", "trouble 1"]);
    assert_eq!(bed.pass(3600, true), ["8 events"]);
}

#[test]
fn a_failure_is_tried_again_and_given_up_in_the_end() {
    let mut outbox = Outbox::new(settings(&["all"], 10));
    let line = EventLine { at: at(0), text: "trouble".into(), is_warning: true };
    outbox.add_line("trouble", line.clone());
    let mut attempts = Vec::new();
    let mut turns = Vec::new();
    for second in 0..20_000 {
        if outbox.take(at(second)).is_some() {
            attempts.push(second);
            turns.extend(outbox.done(at(second), SendOutcome::Failed("refused".into())));
        }
    }
    assert_eq!(attempts, [10, 40, 100, 220, 460, 940, 1900, 3700]);
    assert_eq!(turns, [Turn::Failing("refused".into())]);
    assert_eq!((outbox.counts().failed, outbox.counts().dropped), (8, 1));
    outbox.add_line("trouble", EventLine { at: at(20_000), ..line });
    assert_eq!(outbox.take(at(20_010)).map(Digest::lost), Some(1));
    assert_eq!(outbox.done(at(20_011), SendOutcome::Sent), Some(Turn::Working));
    assert_eq!(outbox.failing(), None);
}

#[test]
fn receivers_are_told_what_they_want() {
    let told = |events: &[&str], kind: &str, is_warning| {
        let mut outbox = Outbox::new(settings(events, 10));
        outbox.add_line(kind, EventLine { at: at(0), text: "x".into(), is_warning });
        outbox.waiting() == 1
    };
    assert!(told(&["quality"], "quality", false) && !told(&["quality"], "load", true));
    assert!(told(&["warning"], "load", true) && !told(&["warning"], "load", false));
    assert!(told(&["all"], "repair", false));
}

fn outage(uplink: u8, began: u64, ended: Option<u64>) -> Outage {
    Outage {
        uplink: format!("u{uplink}"),
        family: Family::Ipv4,
        only: true,
        began: at(began),
        ended: ended.map(at),
        unwatched: false,
        cause: OutageCause::default(),
    }
}

#[derive(Clone, Debug)]
enum Step {
    Toggle(usize),
    Line,
    Pass(u64),
    Attempt(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0usize..3).prop_map(Step::Toggle),
        Just(Step::Line),
        (1u64..900).prop_map(Step::Pass),
        any::<bool>().prop_map(Step::Attempt),
    ]
}

proptest! {
    /// Checks that whatever happens, a receiver that works in the end was told of every outage, and no
    /// more often than its limit.
    #[test]
    fn everything_is_told_once(steps in prop::collection::vec(step(), 0..120)) {
        let mut outbox = Outbox::new(settings(&["uplink"], 5));
        let mut tracker = Tracker::default();
        let mut up = [true; 3];
        let (mut now, mut happened, mut told, mut sent) = (at(1), 0u32, 0u32, Vec::new());
        let sight = |up: &[bool; 3], now| -> Vec<Sighting> {
            up.iter().enumerate().map(|(number, up)| Sighting {
                uplink: format!("u{number}"),
                family: Family::Ipv4,
                only: true,
                seen: if *up { Seen::Up } else { down() },
                since: now,
            }).collect()
        };
        let mut attempt = |outbox: &mut Outbox, now: Duration, works: bool| {
            let Some(digest) = outbox.take(now) else { return };
            let number: u32 = digest.uplinks().map(|entry| entry.times).sum();
            // One that lasts is told again with its end.
            let open = digest.uplinks().filter(|entry| entry.last.ended.is_none()).count();
            if works {
                told += number - u32::try_from(open).expect("few");
                sent.push(now);
            }
            outbox.done(now, if works { SendOutcome::Sent } else { SendOutcome::NoWay });
        };
        for step in steps {
            match step {
                Step::Toggle(number) => {
                    happened += u32::from(up[number]);
                    up[number] = !up[number];
                    for news in tracker.observe(now, &sight(&up, now)) {
                        outbox.add_outage(now, &news);
                    }
                }
                Step::Line => outbox.add_line("load", EventLine { at: now, text: "x".into(), is_warning: true }),
                Step::Pass(seconds) => now += at(seconds),
                Step::Attempt(works) => attempt(&mut outbox, now, works),
            }
            now += at(1);
        }
        for news in tracker.observe(now, &sight(&[true; 3], now)) {
            outbox.add_outage(now, &news);
        }
        for _ in 0..200 {
            now += at(60);
            attempt(&mut outbox, now, true);
        }
        prop_assert_eq!(told, happened);
        prop_assert_eq!(outbox.waiting(), 0);
        for (number, time) in sent.iter().enumerate() {
            let recent = sent[..=number].iter().filter(|other| **other + at(3600) > *time).count();
            prop_assert!(recent <= 5);
        }
    }

    #[test]
    fn a_digest_is_bounded(outages in prop::collection::vec((0u8.., 0u64..1000), 0..300), lines in 0usize..200) {
        let mut digest = Digest::default();
        for (uplink, began) in outages {
            let news = OutageNews { outage: outage(uplink, began, None), change: Change::Began, flaps: false };
            digest.add_outage(at(began), &news);
        }
        for number in 0..lines {
            digest.add_line(EventLine { at: at(0), text: number.to_string(), is_warning: false });
        }
        let earlier = digest.clone();
        digest.put_back(earlier);
        prop_assert!(digest.len() <= 104);
        let clock = |at: Duration| at.as_secs().to_string();
        let around = Surroundings { gateway: "gw", now: at(0), clock: &clock, up: vec![] };
        let message = message(&digest, &around);
        prop_assert!(message.title.chars().count() <= 122, "{}", message.title);
    }
}
