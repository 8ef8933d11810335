use std::net::IpAddr;

use proptest::prelude::*;

use super::*;

const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Creates a schedule with a single name, whose lookup is under way since zero.
fn asked() -> Domains {
    let mut names = Domains::new(["bank.com".to_owned()], s(0));
    assert_eq!(names.start(s(0)).as_deref(), Some("bank.com"));
    assert_eq!((names.start(s(9)), names.deadline()), (None, None));
    names
}

#[test]
fn a_name_is_resolved_again_before_its_first_address_expires() {
    let mut names = asked();
    let known = names.store("bank.com", &[(A, s(400)), (B, s(200))], s(1)).expect("was asked");
    assert_eq!(known, Known { addresses: vec![(A, s(400)), (B, s(200))], recovered: false });
    assert_eq!(names.deadline(), Some(s(151)));
    assert_eq!(names.start(s(150)), None);
    assert!(names.states()["bank.com"].is_resolved(s(200)));
    assert!(!names.states()["bank.com"].is_resolved(s(201)));
    assert_eq!(names.start(s(151)).as_deref(), Some("bank.com"));
}

#[test]
fn short_lifetimes_are_lengthened() {
    let mut names = asked();
    let known = names.store("bank.com", &[(A, s(0)), (B, s(70))], s(1)).expect("was asked");
    assert_eq!(known.addresses, [(A, s(60)), (B, s(70))]);
    assert_eq!(names.deadline(), Some(s(46)));
}

#[test]
fn long_lifetimes_end_when_the_datapath_forgets() {
    let mut names = asked();
    let week = s(7 * 24 * 3600);
    let known = names.store("bank.com", &[(A, week)], s(0)).expect("was asked");
    assert_eq!(known.addresses, [(A, MAX_TTL)]);
    assert_eq!(names.deadline(), Some(s(18 * 3600)));
}

#[test]
fn a_name_without_addresses_is_neither_resolved_nor_failing() {
    let mut names = asked();
    let known = names.store("bank.com", &[], s(1)).expect("was asked");
    assert_eq!(known, Known { addresses: vec![], recovered: false });
    let state = &names.states()["bank.com"];
    assert!(!state.is_resolved(s(1)) && state.failure().is_none());
    assert_eq!(names.deadline(), Some(s(301)));
}

#[test]
fn failures_are_news_once_and_tried_again_ever_more_seldom() {
    let mut names = asked();
    let mut now = s(0);
    let mut delays = Vec::new();
    for attempt in 0..9 {
        assert_eq!(names.store_failure("bank.com", "no answer".into(), now), attempt == 0);
        let due = names.deadline().expect("a deadline");
        delays.push((due - now).as_secs());
        now = due;
        assert!(names.start(now).is_some());
    }
    assert_eq!(delays, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
    assert_eq!(names.states()["bank.com"].failure(), Some("no answer"));
    let known = names.store("bank.com", &[(A, s(60))], now).expect("was asked");
    assert!(known.recovered);
    assert_eq!(names.states()["bank.com"].failure(), None);
    now = names.deadline().expect("a deadline");
    names.start(now);
    assert!(names.store_failure("bank.com", "no answer".into(), now));
    assert_eq!(names.deadline(), Some(now + s(5)));
}

#[test]
fn what_failed_for_want_of_a_way_is_no_news() {
    let mut names = asked();
    names.store_unsent("bank.com", s(2));
    assert_eq!(names.deadline(), Some(s(7)));
    assert_eq!(names.states()["bank.com"].failure(), None);
}

#[test]
fn answers_that_nobody_asked_for_count_nothing() {
    let mut names = asked();
    assert_eq!(names.store("other.com", &[(A, s(60))], s(1)), None);
    names.store("bank.com", &[(A, s(60))], s(1));
    assert_eq!(names.store("bank.com", &[(B, s(600))], s(2)), None);
    assert!(!names.store_failure("bank.com", "late".into(), s(3)));
    names.store_unsent("bank.com", s(3));
    assert_eq!(names.deadline(), Some(s(46)));
}

/// A server's answer to one lookup: the time that it takes, and the TTL, or `None` for a failure.
type Answer = (Duration, Option<Duration>);

fn answer() -> impl Strategy<Value = Answer> {
    let outcome = prop_oneof![4 => (0u64..4000).prop_map(|ttl| Some(s(ttl))), 1 => Just(None)];
    ((0u64..190).prop_map(Duration::from_millis), outcome)
}

/// One lookup of a run.
struct Lookup {
    name: String,
    began: Duration,
    /// Time since the lookup before was answered, and the answer to that.
    before: Option<(Duration, Answer)>,
}

/// Resolves a number of names for ten minutes; the answers come in turns.
fn run(count: usize, answers: &[Answer]) -> Vec<Lookup> {
    let mut names = Domains::new((0..count).map(|number| format!("n{number}.com")), s(0));
    let mut pending = BTreeMap::new();
    let mut answered = BTreeMap::new();
    let mut lookups: Vec<Lookup> = Vec::new();
    loop {
        let next_answer = pending.keys().next().map(|(at, _): &(Duration, usize)| *at);
        let Some(now) = [names.deadline(), next_answer].into_iter().flatten().min() else { break };
        if now > s(600) {
            break;
        }
        if next_answer == Some(now) {
            let (_, (name, answer)): (_, (String, Answer)) =
                pending.pop_first().expect("an answer");
            match answer.1 {
                Some(ttl) => drop(names.store(&name, &[(A, ttl)], now).expect("was asked")),
                None => drop(names.store_failure(&name, "no answer".into(), now)),
            }
            answered.insert(name, (now, answer));
        } else {
            let name = names.start(now).expect("it was due");
            let answer = answers[lookups.len() % answers.len()];
            pending.insert((now + answer.0, lookups.len()), (name.clone(), answer));
            assert!(pending.len() <= MAX_PENDING);
            let before = answered.get(&name).map(|(at, answer)| (now - *at, *answer));
            lookups.push(Lookup { name, began: now, before });
        }
    }
    lookups
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, ..ProptestConfig::default() })]

    #[test]
    fn lookups_are_spread_and_in_time(
        count in prop_oneof![1usize..30, 1000usize..=1024],
        answers in proptest::collection::vec(answer(), 1..50),
    ) {
        let lookups = run(count, &answers);
        let different: BTreeSet<_> = lookups.iter().map(|lookup| &lookup.name).collect();
        prop_assert_eq!(different.len(), count);
        for pair in lookups.windows(2) {
            prop_assert!(pair[1].began - pair[0].began >= PACE);
        }
        for (since, (_, ttl)) in lookups.iter().filter_map(|lookup| lookup.before) {
            match ttl.map(|ttl| ttl.max(MIN_TTL)) {
                Some(ttl) => prop_assert!(since >= s(45) && since >= ttl * 3 / 4 && since < ttl),
                None => prop_assert!(since >= RETRY),
            }
        }
    }
}
