//! A machine that probes targets over a line with a latency, in simulated time.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    net::{IpAddr, Ipv4Addr},
};

use super::*;
use crate::config::Target;

/// The line: the latency of a probe sent at a time, or none if it is lost.
type Line<'a> = &'a mut dyn FnMut(Duration, &mut Random) -> Option<Duration>;

/// A small random generator (xorshift, Marsaglia 2003): every run is the same.
pub(super) struct Random(u64);

impl Random {
    /// Returns numbers evenly distributed from 0 to 1.
    pub(super) fn share(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Returns numbers about normally distributed around 0, with the deviation 1: the sum of twelve
    /// even ones.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.share()).sum::<f64>() - 6.0
    }
}

pub(super) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Returns the default probe settings, with three targets.
pub(super) fn probe() -> Probe {
    let targets = (1..=3).map(|host| Target::Echo(IpAddr::V4(Ipv4Addr::new(192, 0, 2, host))));
    Probe { targets: targets.collect(), ..Probe::default() }
}

/// A simulation: the answers on their way back, and the time.
pub(super) struct Simulation {
    pub(super) health: Health,
    pub(super) now: Duration,
    random: Random,
    returning: BinaryHeap<Reverse<(Duration, u64, usize)>>,
    /// States that it entered, with the time.
    pub(super) changes: Vec<(Duration, State)>,
    /// Times at which rounds were sent.
    pub(super) rounds: Vec<Duration>,
}

impl Simulation {
    pub(super) fn new(seed: u64, probe: Probe) -> Simulation {
        let mut health = Health::new(probe, Family::Ipv4, true, ms(0));
        health.handle(&HealthEvent::Ready, ms(0));
        Simulation {
            health,
            now: ms(0),
            random: Random(seed | 1),
            returning: BinaryHeap::new(),
            changes: Vec::new(),
            rounds: Vec::new(),
        }
    }

    /// Runs until `end`.
    pub(super) fn run_until(&mut self, end: Duration, line: Line<'_>) -> &mut Simulation {
        loop {
            let answer = self.returning.peek().map(|Reverse((at, ..))| *at);
            let next = answer.into_iter().chain(self.health.deadline()).min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            if answer == Some(next) {
                self.hear();
            } else {
                let change = self.health.expire(self.now);
                self.note(change);
                self.send(line);
            }
        }
        self.now = end;
        self
    }

    fn hear(&mut self) {
        let Some(Reverse((at, round, target))) = self.returning.pop() else { return };
        let target = self.health.probe.targets[target].clone();
        let change = self.health.answer(&target, round, at.max(self.now));
        self.note(change);
    }

    fn send(&mut self, line: Line<'_>) {
        let Some(start) = self.health.start_round(self.now) else { return };
        self.rounds.push(self.now);
        for target in start.targets {
            let mut all = self.health.probe.targets.iter();
            let at = all.position(|known| *known == target).expect("a known target");
            if let Some(latency) = line(self.now, &mut self.random) {
                self.returning.push(Reverse((self.now + latency, start.round, at)));
            }
        }
    }

    fn note(&mut self, change: Option<Transition>) {
        self.changes.extend(change.map(|change| (self.now, change.to)));
    }
}

const HOUR: Duration = Duration::from_secs(3600);

fn satellite(_: Duration, random: &mut Random) -> Option<Duration> {
    let lost = random.share() < 0.01;
    let latency = 700.0 + 150.0 * random.normal();
    (!lost).then(|| Duration::from_secs_f64(latency.max(0.0) / 1000.0))
}

#[test]
fn a_satellite_line_is_never_down_in_an_hour() {
    for seed in [1, 7, 1963] {
        let mut run = Simulation::new(seed, probe());
        run.run_until(HOUR, &mut satellite);
        assert_eq!(run.changes, []);
        let window = run.health.window();
        assert!(window.latency().is_some_and(|latency| latency > ms(500) && latency < ms(900)));
        assert!(window.loss() < 0.06, "{}", window.loss());
    }
}

/// Returns a latency of 40 ms, with a queue every ten seconds that fills within a second to 1.5 s,
/// stays for two seconds and empties within another one.
fn bloated(now: Duration) -> Duration {
    let into = now.as_secs_f64() % 10.0;
    let fill = match into {
        ..5.0 => 0.0,
        ..6.0 => into - 5.0,
        ..8.0 => 1.0,
        ..9.0 => 9.0 - into,
        _ => 0.0,
    };
    Duration::from_secs_f64(0.04 + 1.46 * fill)
}

#[test]
fn a_queue_that_fills_within_a_second_is_no_failure() {
    for start in (0..1000).step_by(37) {
        let mut run = Simulation::new(start | 1, probe());
        run.run_until(ms(120_000), &mut |now, random| {
            let jitter = Duration::from_secs_f64(random.share() * 0.01);
            Some(bloated(now + ms(start)) + jitter)
        });
        assert_eq!(run.changes, [], "shifted by {start} ms");
    }
}

#[test]
fn a_line_that_falls_silent_is_down_within_a_second() {
    for start in (0..200).step_by(7) {
        let cut = ms(30_000 + start);
        let mut run = Simulation::new(start | 1, probe());
        run.run_until(ms(40_000), &mut |now, _| (now + ms(20) < cut).then_some(ms(40)));
        assert_eq!(run.changes.len(), 1);
        let (at, state) = run.changes[0];
        assert_eq!(state, State::Down);
        assert!(at <= cut + ms(1000), "noticed after {:?}", at - cut);
    }
}

#[test]
fn with_a_timeout_of_ones_own_late_answers_are_worth_nothing() {
    let mut run = Simulation::new(1, Probe { timeout: Some(ms(100)), ..probe() });
    run.run_until(ms(5000), &mut |now, _| Some(ms(if now < ms(2000) { 40 } else { 150 })));
    assert_eq!(run.changes.iter().map(|change| change.1).collect::<Vec<_>>(), [State::Down]);
}

proptest::proptest! {
    /// Checks that neither a daemon that gets no turn for seconds, nor a clock that jumps while the
    /// machine sleeps, takes a line down that answers.
    #[test]
    fn a_starved_prober_and_a_jump_of_the_clock_are_no_evidence(
        naps in proptest::collection::vec((0u64..400, 2000u64..36_000_000), 1..20)
    ) {
        let mut run = Simulation::new(1, probe());
        for (awake, asleep) in naps {
            let end = run.now + ms(awake);
            run.run_until(end, &mut |_, _| Some(ms(40)));
            // All that came back in the meantime is read after it, before or after the deadlines.
            run.now = end + ms(asleep);
            if awake % 2 == 0 {
                let change = run.health.expire(run.now);
                run.note(change);
            }
        }
        let end = run.now + ms(5000);
        run.run_until(end, &mut |_, _| Some(ms(40)));
        proptest::prop_assert_eq!(&run.changes, &[]);
    }
}

#[test]
fn what_the_machine_slept_through_does_not_count_as_lost() {
    let mut run = Simulation::new(1, probe());
    run.run_until(ms(10_010), &mut |_, _| Some(ms(40)));
    run.now = ms(3_600_000);
    run.run_until(ms(3_605_000), &mut |_, _| Some(ms(40)));
    assert_eq!((run.changes.clone(), run.health.window().loss()), (vec![], 0.0));
}
