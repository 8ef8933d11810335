//! Lost probes beside traffic that is answered, in simulated time.

use proptest::prelude::*;

use super::{
    super::simulation::{Random, Simulation, ms, probe},
    *,
};
use crate::config::Probe;

/// Time between two looks of the daemon at the traffic.
const POLL_INTERVAL: Duration = ms(100);

/// Runs until `end`, while few networks answer whenever `answers` says so.
fn run_with_few(
    run: &mut Simulation,
    end: Duration,
    line: &mut dyn FnMut(Duration, &mut Random) -> Option<Duration>,
    mut answers: impl FnMut(Duration) -> bool,
) {
    while run.now < end {
        let next = (run.now + POLL_INTERVAL).min(end);
        run.run_until(next, line);
        if answers(next) {
            run.health.passive.traffic_answered(Answers::Few, next);
        }
    }
}

fn with_targets(count: usize) -> Probe {
    let mut probe = probe();
    probe.targets.truncate(count);
    probe
}

/// Simulates a single download by a line that is full: no other network answers.
#[test]
fn a_line_that_loses_three_of_four_packets_is_not_dead() {
    for (seed, targets, latency) in [(1, 3, 20.0), (7, 2, 20.0), (9, 2, 700.0), (11, 1, 40.0)] {
        let mut run = Simulation::new(seed, with_targets(targets));
        let mut line = |_, random: &mut Random| {
            let jitter = random.share() * latency / 2.0;
            let time = Duration::from_secs_f64((latency + jitter) / 1000.0);
            (random.share() >= 0.75).then_some(time)
        };
        run_with_few(&mut run, ms(600_000), &mut line, |_| true);
        assert_eq!(run.changes, [], "{targets} targets, {latency} ms");
        assert!(run.health.window().loss() > 0.5);
    }
}

/// Simulates one download with a queue of up to two seconds, in two of three seconds.
#[test]
fn a_queue_of_two_seconds_is_no_failure_while_traffic_is_answered() {
    for start in (0..1000).step_by(111) {
        let mut run = Simulation::new(start | 1, probe());
        let mut line = |now: Duration, random: &mut Random| {
            let into = (now + ms(start)).as_secs_f64() % 12.0;
            let queue = match into {
                ..4.0 => 0.0,
                ..6.0 => into - 4.0,
                ..10.0 => 2.0,
                _ => 12.0 - into,
            };
            let time = Duration::from_secs_f64(0.04 + queue);
            (random.share() >= 0.3).then_some(time)
        };
        run_with_few(&mut run, ms(240_000), &mut line, |_| true);
        assert_eq!(run.changes, [], "shifted by {start} ms");
    }
}

#[test]
fn few_answers_never_speed_a_verdict_up() {
    let probe = Probe { interval: ms(2000), failure_count: 4, ..probe() };
    let down_at = |few: bool| {
        let mut run = Simulation::new(3, probe.clone());
        let cut = ms(20_100);
        let mut line = |now: Duration, _: &mut Random| (now < cut).then_some(ms(20));
        // Answers that come now and then have it asked more often.
        run_with_few(&mut run, ms(60_000), &mut line, |now| {
            few && now.as_millis().is_multiple_of(4000)
        });
        assert_eq!(run.changes.len(), 1, "{:?}", run.changes);
        run.changes[0].0
    };
    assert!(down_at(true) >= down_at(false), "{:?}, {:?}", down_at(true), down_at(false));
}

/// Checks that a target near the provider's customers is not enough for a quorum of two.
#[test]
fn a_target_of_the_provider_itself_is_no_quorum() {
    let mut run = Simulation::new(5, Probe { quorum: 2, ..probe() });
    let cut = ms(10_000);
    let mut turn = 0;
    // They are asked in turn.
    let mut line = |now: Duration, _: &mut Random| {
        turn += 1;
        (now < cut || turn % 3 == 0).then_some(ms(5))
    };
    run_with_few(&mut run, ms(12_000), &mut line, |_| true);
    assert_eq!(run.changes.iter().map(|change| change.1).collect::<Vec<_>>(), [State::Down]);
}

#[test]
fn a_doubtful_uplink_is_asked_often_and_the_reason_says_why_it_is_down() {
    let mut run = Simulation::new(5, with_targets(2));
    let cut = ms(10_000);
    let mut line = |now: Duration, _: &mut Random| (now < cut).then_some(ms(5));
    run_with_few(&mut run, ms(10_900), &mut line, |_| true);
    assert_eq!(run.health.reason().to_string(), "probes are lost, but answers arrive");
    let often = run.rounds.iter().filter(|at| **at >= ms(10_500)).count();
    assert!((18..=22).contains(&often), "{often} rounds in 400 ms");
    while run.changes.is_empty() {
        let next = run.now + ms(1);
        run_with_few(&mut run, next, &mut line, |_| true);
    }
    let reason = run.health.reason().to_string();
    let end = ": none of 2 targets answered (1 needed); answers arrive, but of few networks";
    assert!(reason.ends_with(end), "{reason}");
    run_with_few(&mut run, ms(15_000), &mut line, |_| true);
    let often = run.rounds.iter().filter(|at| **at >= ms(12_000)).count();
    assert!((15..=16).contains(&often), "down, it is asked as ever");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Checks that a dead line is down in time, whatever near hosts answer, and whenever.
    #[test]
    fn a_dead_line_is_down_within_two_seconds(
        seed: u64,
        cut in 5000u64..5400,
        latency in 1u64..60,
        targets in 1usize..=3,
        pauses in proptest::collection::vec(1u64..40, 1..20),
        quorum in 1u32..=2,
    ) {
        let probe = Probe { quorum, ..with_targets(targets) };
        let mut run = Simulation::new(seed, probe);
        let cut = ms(cut);
        let mut line = |now: Duration, random: &mut Random| {
            let jitter = (random.share() * latency as f64) as u64 / 4;
            (now + ms(latency) < cut).then_some(ms(latency + jitter))
        };
        let (mut next, mut pauses) = (0, pauses.iter().cycle());
        let answers = |now: Duration| {
            let look = now.as_millis() as u64 / 100;
            let due = look >= next;
            if due {
                next = look + pauses.next().expect("a cycle");
            }
            due
        };
        run_with_few(&mut run, cut + ms(3000), &mut line, answers);
        prop_assert_eq!(run.changes.len(), 1);
        prop_assert!(run.changes[0].0 <= cut + ms(2000), "{:?}", run.changes[0].0 - cut);
    }
}
