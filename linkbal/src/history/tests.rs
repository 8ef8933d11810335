use std::slice::from_ref;

use proptest::prelude::*;

use super::{
    line::outage,
    outages::Outage,
    pages::{HistoryQuestion, Pages},
    record::Record,
    series::{HOUR, RESOLUTIONS},
    *,
};
use crate::engine::health::reason::Reason;

/// A time of 2026, at the begin of an hour.
const START: u64 = 1_795_928_400;

fn down(cause: &'static str) -> LineState {
    let reason = Reason::TargetFailed { target: cause.into(), failure: "silent".into() };
    LineState::Down(Down { cause, reason: reason.into() })
}

/// Returns a sample of an uplink that has IPv4 alone, after so many units of everything.
fn sample(uplink: &str, units: u64, verdict: LineState, since: u64) -> Sample {
    let probes = Probes {
        answered: 10 * units,
        lost: units,
        latencies: 10 * units,
        latency_sum: Duration::from_millis(80) * u32::try_from(units).expect("few"),
    };
    let ipv4 = FamilySample { probes, jitter: Some(Duration::from_millis(2)), verdict, since };
    Sample {
        uplink: uplink.into(),
        index: 0,
        counters: Counters { bytes_up: 100 * units, bytes_down: 1000 * units, flows: units },
        families: PerFamily { ipv4: Some(ipv4), ipv6: None },
    }
}

/// Records an uplink that is up for some seconds from a time on.
fn record_up(history: &mut History, from: u64, seconds: u64) {
    for second in 0..=seconds {
        let at = from + second;
        let up = sample("a", second, LineState::Up, START);
        history.record(at, Duration::from_secs(at), &[up]);
    }
}

fn answer(history: &History, question: &HistoryQuestion) -> Vec<Record> {
    let mut pages = Pages::new(question.clone());
    std::iter::from_fn(|| pages.next(history)).flatten().collect()
}

fn total(history: &History, since: u64) -> record::Point {
    let question = HistoryQuestion { since: Some(since), ..HistoryQuestion::default() };
    let records = answer(history, &question).into_iter();
    let mut totals = records.filter_map(|record| match record {
        Record::Total(point) => Some(point),
        _ => None,
    });
    totals.next().expect("an uplink")
}

fn outages(history: &History, name: &str) -> Vec<Outage> {
    history.uplink(name).map(|uplink| uplink.outages.iter().cloned().collect()).unwrap_or_default()
}

/// Returns the history that another daemon has of the lines.
fn reread(lines: &str) -> History {
    let (history, unread) = History::read(lines.as_bytes());
    assert_eq!(unread, 0);
    history
}

#[test]
fn an_hour_is_told_in_points_and_in_total() {
    let mut history = History::default();
    record_up(&mut history, START, 100);
    let total = total(&history, START);
    assert_eq!((total.seconds, total.bytes_up, total.bytes_down), (100, 10_000, 100_000));
    assert_eq!((total.flows, total.share), (100, Some(1.0)));
    let line = total.ipv4.expect("IPv4");
    assert_eq!((line.up_s, line.down_s, line.probes, line.lost), (100, 0, 1100, 100));
    assert_eq!((line.latency_ms, line.latency_max_ms), (Some(8.0), Some(8.0)));
    assert_eq!((line.jitter_ms, total.ipv6), (Some(2.0), None));
    let records = answer(&history, &HistoryQuestion::default());
    let points = records.iter().filter(|record| matches!(record, Record::Point(_)));
    assert_eq!((records.len(), points.count()), (12, 10));
}

#[test]
fn shares_are_of_the_flows_of_all_uplinks_in_a_step() {
    let mut history = History::default();
    for second in 0..=20 {
        let named = [("a", 0), ("b", 1), ("c", 2)];
        let samples = named.map(|(name, flows)| sample(name, second * flows, LineState::Up, START));
        history.record(START + second, Duration::from_secs(second), &samples);
    }
    let shares =
        answer(&history, &HistoryQuestion::default()).into_iter().filter_map(
            |record| match record {
                Record::Point(point) => point.share,
                _ => None,
            },
        );
    assert_eq!(Vec::from_iter(shares), [0.0, 0.0, 0.333, 0.333, 0.667, 0.667]);
}

#[test]
fn an_outage_has_a_begin_an_end_and_a_cause() {
    let mut history = History::default();
    record_up(&mut history, START, 10);
    let mut at = |second: u64, verdict, since: u64| {
        let sample = sample("a", second, verdict, START + since);
        history.record(START + second, Duration::from_secs(second), &[sample]);
    };
    at(12, down("no-answer"), 11);
    at(13, down("internet"), 11);
    at(19, down("internet"), 11);
    at(20, LineState::Up, 20);
    at(21, LineState::Up, 20);
    let [outage] = &*outages(&history, "a") else { panic!("one outage") };
    assert_eq!((outage.begin, outage.end), (START + 11, Some(START + 20)));
    assert_eq!((&*outage.cause, outage.interrupted), ("internet", false));
    let line = total(&history, START).ipv4.expect("IPv4");
    assert_eq!((line.up_s, line.down_s), (12, 9));
    assert_eq!(history.take_outage_lines().lines().count(), 3, "begin, cause, end");
    assert_eq!(history.take_outage_lines(), "");
}

#[test]
fn an_outage_over_a_gap_or_a_step_of_the_clock_counts_as_far_as_it_was_seen() {
    let mut history = History::default();
    let mut at = |second: u64, passed: u64| {
        let sample = sample("a", second, down("internet"), START + 5);
        history.record(START + second, Duration::from_secs(passed), &[sample]);
    };
    (5..=10).for_each(|second| at(second, second));
    // NTP sets the clock.
    at(10_000, 11);
    at(10_001, 12);
    let lines = history.take_lines();
    for history in [&history, &reread(&lines)] {
        let [seen, again] = &outages(history, "a")[..] else { panic!("two parts") };
        let end = (seen.begin, seen.end, seen.interrupted);
        assert_eq!(end, (START + 5, Some(START + 10), true));
        assert_eq!(again.begin, START + 10_000);
    }
}

#[test]
fn an_outage_is_not_watched_any_more_without_its_family() {
    let mut history = History::default();
    record_up(&mut history, START, 10);
    let broken = sample("a", 11, down("internet"), START + 11);
    history.record(START + 11, Duration::from_secs(START + 11), from_ref(&broken));
    let without = Sample { families: PerFamily::default(), ..broken };
    history.record(START + 15, Duration::from_secs(START + 15), &[without]);
    let [outage] = &*outages(&history, "a") else { panic!("one outage") };
    assert_eq!((outage.end, outage.interrupted), (Some(START + 15), true));
}

#[test]
fn a_longer_span_has_longer_steps() {
    let mut history = History::default();
    record_up(&mut history, START, 2 * HOUR);
    for (back, step_s, steps) in [(HOUR, 10, 360), (2 * HOUR, 60, 120), (100 * HOUR, HOUR, 2)] {
        let question =
            HistoryQuestion { since: Some(START + 2 * HOUR - back), ..HistoryQuestion::default() };
        let records = answer(&history, &question);
        let Some(Record::Span(span)) = records.first() else { panic!("a span") };
        let points = records.iter().filter(|record| matches!(record, Record::Point(_)));
        assert_eq!((span.step_s, points.count()), (step_s, steps));
        assert_eq!(span.to, "2026-11-29T07:00:00Z");
    }
    let other = HistoryQuestion { uplink: Some("b".into()), ..HistoryQuestion::default() };
    assert_eq!(answer(&history, &other).len(), 1, "the span alone");
    assert!(answer(&History::default(), &other).is_empty());
}

#[test]
fn what_is_not_sampled_is_unknown() {
    let mut history = History::default();
    record_up(&mut history, START, 10);
    // The process was stopped for a while; the counters went on.
    let later = sample("a", 500, LineState::Up, START);
    history.record(START + 300, Duration::from_secs(300), from_ref(&later));
    assert_eq!((total(&history, START).seconds, total(&history, START).bytes_up), (10, 1000));
    history.record(START + 301, Duration::from_secs(301), &[later]);
    assert_eq!(total(&history, START).seconds, 11);
}

#[test]
fn drills_and_disabled_uplinks_say_nothing_of_the_line() {
    let mut history = History::default();
    record_up(&mut history, START, 10);
    for second in 11..=20 {
        let drilled = sample("a", second, LineState::Unmeasured, START + 10);
        history.record(START + second, Duration::from_secs(second), &[drilled]);
    }
    let total = total(&history, START);
    let line = total.ipv4.expect("IPv4");
    assert_eq!((line.up_s, line.down_s, line.lost, total.seconds), (10, 0, 10, 20));
    assert!(outages(&history, "a").is_empty());
}

#[test]
fn a_crash_costs_what_was_not_saved_and_ends_outages_as_unknown() {
    let mut history = History::default();
    record_up(&mut history, START, 60);
    let mut file = history.take_lines();
    let broken = sample("a", 61, down("internet"), START + 60);
    history.record(START + 61, Duration::from_secs(61), from_ref(&broken));
    history.record(START + 70, Duration::from_secs(70), &[broken]);
    file.push_str(&history.take_outage_lines());
    let mut next = reread(&file);
    assert_eq!(next.newest(), Some(START + 60));
    let [outage] = &*outages(&next, "a") else { panic!("one outage") };
    assert_eq!((outage.end, outage.interrupted), (Some(START + 60), true));
    let up = sample("a", 90, LineState::Up, START + 90);
    next.record(START + 90, Duration::from_secs(1), from_ref(&up));
    next.record(START + 91, Duration::from_secs(2), &[up]);
    let line = total(&next, START).ipv4.expect("IPv4");
    assert_eq!((line.up_s, line.down_s), (61, 0), "what came between is unknown");
}

#[test]
fn lines_that_come_twice_or_are_torn_change_nothing() {
    let mut history = History::default();
    record_up(&mut history, START, 200);
    let once = history.take_lines();
    record_up(&mut history, START + 201, 100);
    let lines = format!("{once}{}{}", history.lines(), history.take_lines());
    let torn = format!("{{}}\n\u{0}\n{lines}{}", &once[..once.len() / 2]);
    let (again, unread) = History::read(torn.as_bytes());
    assert_eq!((again.lines(), unread), (history.lines(), 3));
    assert_eq!(again.newest(), history.newest());
}

#[test]
fn a_clock_that_goes_back_for_good_takes_the_future_along() {
    let mut history = History::default();
    record_up(&mut history, START, 60);
    record_up(&mut history, START + 1800, 60);
    drop(history.take_lines());
    assert!(!history.take_stale());
    for second in 0..=700 {
        let up = sample("a", second, LineState::Up, START);
        history.record(START + 100 + second, Duration::from_secs(START + 8000 + second), &[up]);
    }
    assert_eq!(history.newest(), Some(START + 800));
    assert!(history.take_stale());
    assert_eq!(total(&history, START).seconds, 160, "ten minutes are in doubt");
    assert!(total(&reread(&history.lines()), START).seconds == 160);
}

#[test]
fn a_former_uplink_is_kept_until_its_data_is_old() {
    let mut history = History::default();
    record_up(&mut history, START, 60);
    let broken = sample("a", 60, down("internet"), START + 60);
    history.record(START + 61, Duration::from_secs(START + 61), &[broken]);
    let other = |at: u64| sample("b", 0, LineState::Up, at);
    history.record(START + 62, Duration::from_secs(START + 62), &[other(START)]);
    let [outage] = &*outages(&history, "a") else { panic!("one outage") };
    assert_eq!((outage.end, outage.interrupted), (Some(START + 62), true));
    history.take_lines();
    assert_eq!(Vec::from_iter(history.names()), ["a", "b"]);
    let year = START + 400 * DAY;
    for at in [year, year + 700] {
        history.record(at, Duration::from_secs(at), &[other(at)]);
    }
    history.take_lines();
    assert_eq!(Vec::from_iter(history.names()), ["b"]);
}

#[test]
fn no_more_uplinks_are_kept_than_there_is_room_for() {
    let mut history = History::default();
    for number in 0..100u64 {
        let name = format!("u{number:03}");
        let at = START + number;
        history.record(at, Duration::from_secs(number), &[sample(&name, 0, LineState::Up, START)]);
    }
    assert_eq!(history.uplinks.len(), MAX_NAMES);
    assert_eq!(history.names().next().map(String::as_str), Some("u076"));
    let long = outage(&"x".repeat(1000), &outages_of_one());
    assert_eq!(History::read(long.as_bytes()).1, 1);
}

fn outages_of_one() -> Outage {
    let (family, cause) = (Family::Ipv6, "internet".to_owned());
    Outage {
        family,
        begin: 1,
        end: None,
        interrupted: false,
        reason: cause.clone(),
        coded: Vec::new(),
        cause,
        answers_since: None,
    }
}

#[test]
fn a_file_of_an_earlier_version_is_read() {
    let history = reread(concat!(
        r#"{"day":{"uplink":"a","at":1795910400,"hours":[[3,3000,600,0,0]]}}"#,
        "\n",
        r#"{"outage":{"uplink":"a","outage":{"family":"ipv4","begin":1795929010,"end":null,"interrupted":false,"cause":"internet","reason":"nothing behind it"}}}"#,
        "\n",
        r#"{"bucket":{"uplink":"a","step_s":3600,"at":1795928400,"traffic":[1200,34000,7,60],"ipv4":[300,2,301,2408000,7000,90000,60,18000,50,10]}}"#,
        "\n",
        r#"{"bucket":{"uplink":"a","step_s":10,"at":1795929020,"traffic":[9,9,9,10]}}"#,
        "\n",
    ));
    assert_eq!(history.newest(), Some(START + 630));
    let [outage] = &*outages(&history, "a") else { panic!("one outage") };
    assert_eq!((outage.begin, outage.end), (START + 610, Some(START + 630)));
    let total = total(&history, START - 100 * HOUR);
    assert_eq!((total.bytes_up, total.bytes_down, total.flows), (1200, 34_000, 7));
    let line = total.ipv4.expect("IPv4");
    assert_eq!((line.probes, line.lost, line.up_s, line.down_s), (302, 2, 50, 10));
    assert_eq!((line.latency_ms, line.jitter_ms), (Some(8.0), Some(0.3)));
    let hours = HistoryQuestion { hours: true, ..HistoryQuestion::default() };
    let of_hours = answer(&history, &hours).into_iter().filter_map(|record| match record {
        Record::Hour(hour) => hour.ipv4.map(|uptime| (hour.time, uptime.up_s)),
        _ => None,
    });
    let expected = [("2026-11-29T03:00:00Z".to_owned(), 3000), ("2026-11-29T05:00:00Z".into(), 50)];
    assert_eq!(Vec::from_iter(of_hours), expected);
}

#[test]
fn memory_is_bounded() {
    let buckets: usize = RESOLUTIONS.iter().map(|(_, length)| length).sum();
    let tallies = usize::try_from(DAYS * 24).expect("some thousand");
    let rings = buckets * size_of::<Bucket>() + tallies * size_of::<bucket::Tally>();
    // Each has two texts.
    let outages =
        (outages::KEPT + 1).next_power_of_two() * size_of::<Outage>() + outages::KEPT * 208;
    assert!(rings < 420 << 10 && rings + outages < 512 << 10, "{rings} and {outages}");
}

#[test]
fn full_rings_fit_the_file() {
    let mut line = sample("a-name-of-some-length", 0, LineState::Up, START);
    let mut uplink = UplinkHistory::default();
    for step in 0..2600u64 {
        let at = START + step * HOUR;
        line.counters.bytes_down += 1_000_000_000_000;
        let traffic =
            Traffic { bytes_up: 1 << 40, bytes_down: 1 << 40, flows: 99_999, seconds: 10 };
        let mut bucket = Bucket { traffic, ..Bucket::default() };
        bucket.families.ipv4.add(&FamilyMeasures {
            answered: 54_000,
            latency: Mean { sum_us: 1 << 38, number: 54_000 },
            latency_min_us: 10_000,
            latency_max_us: 1_000_000,
            jitter: Mean { sum_us: 1 << 32, number: 3600 },
            up_s: 10,
            ..FamilyMeasures::default()
        });
        bucket.families.ipv6 = bucket.families.ipv4;
        for (step_s, length) in RESOLUTIONS {
            if step < length as u64 {
                uplink.series.set(step_s, START + step * step_s, bucket);
            }
        }
        uplink.series.set_tally(at, bucket.tally());
    }
    let size = uplink.lines("a-name-of-some-length").concat().len();
    assert!(size < 900_000, "{size}");
}

proptest! {
    #[test]
    fn no_file_and_no_clock_breaks_anything(
        text in prop::collection::vec(prop_oneof![
            Just(r#"{"bucket":{"uplink":"a","step_s":10,"at":18446744073709551615,"traffic":[1,2,3,4]}}"#.to_owned()),
            Just(r#"{"bucket":{"uplink":"a","step_s":3600,"at":1795928400,"traffic":[1,2,3,4],"ipv4":[1,2,3,4,5,6,7,8,9,10]}}"#.to_owned()),
            Just(r#"{"day":{"uplink":"b","at":1795910400,"hours":[[23,3600,0,0,3600],[255,0,0,0,0]]}}"#.to_owned()),
            Just(r#"{"day":{"uplink":"b","at":1795910400,"hours":[[23,3600,0,0,3600]]}}"#.to_owned()),
            (any::<u64>(), any::<Option<u64>>()).prop_map(|(begin, end)| {
                outage("a", &Outage { begin, end, ..outages_of_one() }).trim_end().to_owned()
            }),
            (any::<u64>(), 0u32..20).prop_map(|(at, seconds)| format!(
                r#"{{"bucket":{{"uplink":"c","step_s":60,"at":{at},"traffic":[9,9,9,{seconds}]}}}}"#
            )),
            ".{0,40}",
        ], 0..20),
        walls in prop::collection::vec((any::<u64>(), 0u64..1000), 0..20),
    ) {
        let (mut history, _) = History::read(text.join("\n").as_bytes());
        // What was written can be read, and is the same.
        let lines = history.lines();
        let (again, unread) = History::read(lines.as_bytes());
        prop_assert_eq!((again.lines(), unread), (lines, 0));
        let mut now = Duration::ZERO;
        for (wall, passed) in walls {
            now += Duration::from_secs(passed);
            history.record(wall, now, &[sample("a", 1, LineState::Up, wall)]);
            history.take_lines();
        }
        for hours in [false, true] {
            for record in answer(&history, &HistoryQuestion { hours, since: Some(0), uplink: None }) {
                serde_json::to_string(&record).expect("JSON");
            }
        }
    }

    #[test]
    fn seconds_add_up_whatever_the_pace_of_samples(
        steps in prop::collection::vec((1u64..14, any::<bool>()), 1..80),
    ) {
        let (mut history, mut at, mut known) = (History::default(), START, 0);
        history.record(at, Duration::from_secs(at), &[sample("a", 0, LineState::Up, at)]);
        for (step, up) in steps {
            at += step;
            known += if step <= MAX_GAP { step } else { 0 };
            let verdict = if up { LineState::Up } else { down("internet") };
            history.record(at, Duration::from_secs(at), &[sample("a", 0, verdict, at)]);
        }
        let total = total(&history, START);
        let line = total.ipv4.map_or(0, |line| u64::from(line.up_s + line.down_s));
        prop_assert_eq!((u64::from(total.seconds), line), (known, known));
        let again = reread(&history.take_lines());
        prop_assert_eq!(again.lines(), reread(&history.lines()).lines());
    }
}
