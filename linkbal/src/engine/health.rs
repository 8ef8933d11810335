//! Health of uplinks: a state machine for each uplink and family tells whether it is usable.
//!
//! ```text
//!            one good round                  failure_count bad rounds, or not ready
//!   Init ---------------------------> Up ---------------------------------------> Down
//!     \                                ^                                           |
//!      \-- as Up --> Down              +-- success_count good rounds and hold -----+
//! ```
//!
//! A round asks targets; it is good as soon as `quorum` of them answered in time, and bad when its
//! time is over without that; `round` has the details. "Not ready" (no interface, no carrier, no
//! address, no gateway) is known from the kernel and counts at once. An uplink that the
//! administrator disables is AdminDown from any state, until it is enabled; then it is Down, and
//! comes back like any other. Other evidence, late answers and its traffic, can excuse a bad round
//! or speed the verdict up; `passive` has the details.

pub mod evidence;

mod damping;
mod passive;
mod quality;
mod round;
#[cfg(test)]
mod simulation;
mod unsent;

use std::{collections::VecDeque, fmt::Write as _, time::Duration};

use linkbal_common::uplink::Family;

pub use self::passive::Answers;
use self::{
    damping::Damping,
    passive::Passive,
    quality::Quality,
    round::{Asked, End, Outcome, REMEMBER, Round, Verdict},
};
use super::window::Window;
use crate::config::{Probe, Target};

/// The state of an uplink in one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No verdict yet.
    Init,
    /// The uplink is usable.
    Up,
    /// The uplink is not usable.
    Down,
    /// The uplink is disabled by the administrator, and not probed.
    AdminDown,
}

impl State {
    /// Returns the name, as in `status`, logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            State::Init => "init",
            State::Up => "up",
            State::Down => "down",
            State::AdminDown => "admin-down",
        }
    }
}

/// The evidence that a verdict rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Evidence {
    /// Targets that answer.
    Targets,
    /// The verdict on the other family, which has targets while this one has none.
    OtherFamily,
    /// Interface, carrier and gateway alone: no targets at all.
    Carrier,
}

/// A change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The former state.
    pub from: State,
    /// The new state.
    pub to: State,
    /// Time for which the former state lasted.
    pub lasted: Duration,
}

/// Probes to send now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoundStart {
    /// Number of the round; answers must name it.
    pub round: u64,
    /// The targets to probe.
    pub targets: Vec<Target>,
    /// Time after which no answer is waited for.
    pub timeout: Duration,
}

/// The health of one uplink in one family. Times are monotonic, from an epoch of the caller's.
#[derive(Clone, Debug)]
pub struct Health {
    probe: Probe,
    /// The targets of the family.
    targets: Vec<Asked>,
    state: State,
    since: Duration,
    reason: String,
    ready: bool,
    rounds: VecDeque<Round>,
    next_round: u64,
    next_round_at: Duration,
    /// Time before which no target is asked.
    paused_until: Duration,
    bad_rounds: u32,
    good_rounds: u32,
    good_since: Option<Duration>,
    window: Window,
    passive: Passive,
    quality: Quality,
    damping: Damping,
    /// Set if it has not failed since it was last up, or ever: it need not prove anything.
    fresh: bool,
    /// Set if another gateway has its address.
    standing_by: bool,
}

impl Health {
    /// Creates a state machine for one family: it asks the targets of that family only. It starts
    /// Up if the uplink is known to be usable, as after a restart of the daemon.
    pub fn new(probe: Probe, family: Family, usable: bool, now: Duration) -> Health {
        let targets = probe.targets.iter().filter(|target| target.judges(family));
        Health {
            targets: targets.cloned().map(Asked::new).collect(),
            probe,
            state: if usable { State::Up } else { State::Init },
            since: now,
            reason: if usable { "found usable at start" } else { "no answer yet" }.into(),
            ready: false,
            rounds: VecDeque::new(),
            next_round: 0,
            next_round_at: now,
            paused_until: Duration::ZERO,
            bad_rounds: 0,
            good_rounds: 0,
            good_since: None,
            window: Window::default(),
            passive: Passive::default(),
            quality: Quality::default(),
            damping: Damping::default(),
            fresh: !usable,
            standing_by: false,
        }
    }

    /// Returns the state.
    pub const fn state(&self) -> State {
        self.state
    }

    /// Returns the time at which the state was entered.
    pub const fn since(&self) -> Duration {
        self.since
    }

    /// Returns the reason for which the state was entered, or is kept.
    pub fn reason(&self) -> &str {
        if self.is_excused() { "probes are lost, but answers arrive" } else { &self.reason }
    }

    /// Returns loss, latency and jitter.
    pub const fn window(&self) -> &Window {
        &self.window
    }

    /// Returns whether interface, carrier, address and gateway are there.
    pub const fn is_ready(&self) -> bool {
        self.ready
    }

    /// Returns whether it has targets of its own.
    pub const fn is_asked(&self) -> bool {
        !self.targets.is_empty()
    }

    /// Returns the time between two rounds.
    pub const fn interval(&self) -> Duration {
        self.probe.interval
    }

    /// Disables it, or lets it prove itself; [`Self::set_ready`] must then be called again.
    pub fn set_disabled(&mut self, disabled: bool, now: Duration) -> Option<Transition> {
        if disabled == (self.state == State::AdminDown) {
            return None;
        }
        self.ready = false;
        self.fresh = false;
        self.rounds.clear();
        self.targets.iter_mut().for_each(Asked::forget);
        self.restart_count();
        let (state, reason) = match disabled {
            true => (State::AdminDown, "disabled by the administrator"),
            false => (State::Down, "enabled by the administrator, to be proved good"),
        };
        self.enter(state, reason.into(), now)
    }

    /// Replaces the probe settings. The state stays; with other targets, [`Self::set_ready`] must
    /// be called again, and rounds begin anew.
    pub fn set_probe(&mut self, probe: &Probe, family: Family, now: Duration) {
        let targets = probe.targets.iter().filter(|target| target.judges(family));
        let targets: Vec<Asked> = targets.cloned().map(Asked::new).collect();
        let same = |(old, new): (&Asked, &Asked)| old.target == new.target;
        let all_same =
            targets.len() == self.targets.len() && self.targets.iter().zip(&targets).all(same);
        if !all_same || probe.targets.is_empty() != self.probe.targets.is_empty() {
            self.targets = targets;
            self.rounds.clear();
            self.restart_count();
            self.ready = false;
        }
        self.next_round_at = self.next_round_at.min(now + probe.interval);
        self.probe.clone_from(probe);
    }

    /// Sets whether interface, carrier, address and gateway are there, and if not why.
    pub fn set_ready(&mut self, ready: Result<(), &str>, now: Duration) -> Option<Transition> {
        if self.state == State::AdminDown {
            return None;
        }
        match ready {
            Err(reason) => {
                self.ready = false;
                self.standing_by = false;
                self.rounds.clear();
                self.targets.iter_mut().for_each(Asked::forget);
                self.restart_count();
                let transition = self.enter(State::Down, reason.into(), now);
                self.reason = reason.into();
                transition
            }
            Ok(()) if self.ready => None,
            Ok(()) => {
                self.ready = true;
                self.next_round_at = now;
                self.good_since = (self.evidence() == Evidence::Carrier).then_some(now);
                if std::mem::take(&mut self.standing_by) && self.fresh {
                    return self.enter(State::Up, "the virtual address is here".into(), now);
                }
                self.trust_carrier(now)
            }
        }
    }

    /// Notes that another gateway has its address: it is not ready, but has not failed, and comes
    /// back at once.
    pub fn stand_by(&mut self, reason: &str, now: Duration) -> Option<Transition> {
        let damping = self.damping.clone();
        let fresh = self.fresh || self.state == State::Up;
        let transition = self.set_ready(Err(&format!("standby: {reason}")), now);
        self.damping = damping;
        self.fresh = fresh;
        self.standing_by = self.state == State::Down;
        transition
    }

    /// Returns whether it will come up as soon as its address is here: nothing speaks against it.
    pub const fn is_promised(&self) -> bool {
        self.standing_by && self.fresh
    }

    /// Pauses probes until `until`: no target could answer, which says nothing. Pending probes are
    /// void.
    pub fn pause(&mut self, until: Duration) {
        self.paused_until = until;
        self.trust();
        self.rounds.clear();
        self.targets.iter_mut().for_each(Asked::forget);
    }

    /// Ends a pause.
    pub const fn resume(&mut self) {
        self.paused_until = Duration::ZERO;
    }

    fn next_at(&self) -> Duration {
        self.next_round_at.max(self.paused_until)
    }

    /// Takes over the verdict on the other family, if this one has no targets of its own. `None`:
    /// the uplink does not have the other family.
    pub fn follow(&mut self, other: Option<State>, now: Duration) -> Option<Transition> {
        if self.evidence() != Evidence::OtherFamily || !self.ready {
            return None;
        }
        match other {
            Some(state) => self.enter(state, format!("as the other family: {}", state.name()), now),
            None => self.enter(State::Up, "ready; no targets of this family".into(), now),
        }
    }

    /// Starts a round, and returns the probes that are due.
    pub fn start_round(&mut self, now: Duration) -> Option<RoundStart> {
        if !self.ready || self.targets.is_empty() || now < self.next_at() {
            return None;
        }
        // Missed rounds are not made up for: a burst of probes would prove nothing.
        let interval = self.pace();
        let missed = self.next_round_at + interval <= now;
        let planned = if missed { now } else { self.next_round_at };
        self.next_round_at = planned + interval;
        let number = self.next_round;
        let pending = |at| self.rounds.iter().any(|round| round.waits_for(at));
        let timeout = self.patience();
        let round = Round::start(number, planned, now, timeout, &mut self.targets, pending)?;
        self.next_round += 1;
        let targets = round.asks().map(|at| self.targets[at].target.clone()).collect();
        let start = RoundStart { round: number, targets, timeout: round.timeout() };
        self.rounds.push_back(round);
        Some(start)
    }

    /// Takes in an answer of a target. Unknown rounds and targets and repeated answers do not
    /// count.
    pub fn answer(&mut self, target: &Target, number: u64, now: Duration) -> Option<Transition> {
        let (at, round) = self.find(target, number)?;
        let outcome = self.rounds[round].answer(&mut self.targets, at, now)?;
        let latency = now.saturating_sub(self.rounds[round].sent_at);
        if self.tells_latency(target) {
            self.window.measure(latency);
        }
        if outcome == Outcome::Answered || self.may_be_late(latency) {
            self.targets[at].heard_at = Some(now);
        }
        if outcome != Outcome::Void {
            self.window.settle(outcome == Outcome::Answered);
        }
        self.judge(round, now)
    }

    /// Takes in that a probe failed before its time was over.
    pub fn fail(
        &mut self,
        target: &Target,
        number: u64,
        reason: String,
        now: Duration,
    ) -> Option<Transition> {
        let (at, round) = self.find(target, number)?;
        if !self.rounds[round].end(&mut self.targets, at, End::Failed(reason)) {
            return None;
        }
        self.window.settle(false);
        self.judge(round, now)
    }

    /// Notes that there is nothing to ask for a target in this family: it does not count.
    pub fn skip(&mut self, target: &Target, number: u64, now: Duration) -> Option<Transition> {
        let (at, round) = self.find(target, number)?;
        self.rounds[round].end(&mut self.targets, at, End::NothingToAsk);
        self.judge(round, now)
    }

    /// Ends the probes whose time is over.
    pub fn expire(&mut self, now: Duration) -> Option<Transition> {
        let mut transition = None;
        for at in 0..self.rounds.len() {
            for _ in 0..self.rounds[at].expire(&mut self.targets, now) {
                self.window.settle(false);
            }
            transition = self.judge(at, now).or(transition);
        }
        self.rounds.retain(|round| round.deadline().is_some() || round.sent_at + REMEMBER > now);
        self.trust_carrier(now).or(transition)
    }

    /// Returns the places of a target and of a round.
    fn find(&self, target: &Target, number: u64) -> Option<(usize, usize)> {
        let at = self.targets.iter().position(|asked| asked.target == *target)?;
        let round = self.rounds.iter().position(|round| round.number == number)?;
        Some((at, round))
    }

    fn judge(&mut self, round: usize, now: Duration) -> Option<Transition> {
        let transition = match self.rounds[round].judge(&self.targets, self.probe.quorum)? {
            Verdict::Good => self.good_round(now),
            Verdict::Bad if self.excuses(round, now) => {
                self.bad_rounds = 0;
                None
            }
            Verdict::Bad => self.bad_round(now),
        };
        self.look_at_quality(now);
        transition
    }

    /// Returns whether a target tells the latency: echoes do, and others, which take several
    /// exchanges, only if there are no echoes.
    fn tells_latency(&self, target: &Target) -> bool {
        let is_echo = |target: &Target| matches!(target, Target::Echo(_));
        is_echo(target) || !self.targets.iter().any(|asked| is_echo(&asked.target))
    }

    /// Returns the evidence that the verdict rests on.
    fn evidence(&self) -> Evidence {
        if self.targets.iter().any(|asked| !asked.absent) {
            Evidence::Targets
        } else if self.probe.targets.is_empty() {
            Evidence::Carrier
        } else {
            Evidence::OtherFamily
        }
    }

    /// Returns the time at which [`Self::start_round`] or [`Self::expire`] has something to do.
    pub fn deadline(&self) -> Option<Duration> {
        if !self.ready {
            return None;
        }
        if !self.targets.is_empty() {
            let pending = self.rounds.iter().filter_map(Round::deadline);
            return pending.chain([self.next_at()]).min();
        }
        let waiting = self.evidence() == Evidence::Carrier && self.state == State::Down;
        self.good_since.filter(|_| waiting).map(|since| since + self.hold())
    }

    fn good_round(&mut self, now: Duration) -> Option<Transition> {
        self.trust();
        self.bad_rounds = 0;
        self.good_rounds += 1;
        let good_since = *self.good_since.get_or_insert(now);
        let held = now - good_since;
        match self.state {
            State::Up | State::AdminDown => None,
            State::Init => self.enter(State::Up, "targets answer".into(), now),
            State::Down if self.fresh => self.enter(State::Up, "targets answer".into(), now),
            State::Down => {
                if self.good_rounds < self.probe.success_count || held < self.hold() {
                    return None;
                }
                let reason =
                    format!("{} good rounds in {:.1} s", self.good_rounds, held.as_secs_f64());
                self.enter(State::Up, reason, now)
            }
        }
    }

    fn bad_round(&mut self, now: Duration) -> Option<Transition> {
        self.good_rounds = 0;
        self.good_since = None;
        self.bad_rounds += 1;
        if self.bad_rounds < self.probe.failure_count {
            return None;
        }
        let mut reason = round::missed(self.bad_rounds, &self.targets, self.probe.quorum);
        reason.push_str(self.passive.unheeded());
        for Asked { target, failure, .. } in &self.targets {
            if let Some(failure) = failure {
                let _ = write!(reason, "; {target}: {failure}");
            }
        }
        self.fresh = false;
        if self.state == State::Down {
            // What keeps it down may be something else than what brought it down.
            self.reason = reason;
            return None;
        }
        self.enter(State::Down, reason, now)
    }

    /// Brings it up without targets, when being ready is all there is to know; coming back still
    /// takes the hold time.
    fn trust_carrier(&mut self, now: Duration) -> Option<Transition> {
        if self.evidence() != Evidence::Carrier || !self.ready {
            return None;
        }
        let held = self.good_since.is_some_and(|since| now >= since + self.hold());
        let usable = self.state == State::Init || self.fresh || held;
        usable.then(|| self.enter(State::Up, "ready; no targets to ask".into(), now)).flatten()
    }

    fn restart_count(&mut self) {
        self.trust();
        self.bad_rounds = 0;
        self.good_rounds = 0;
        self.good_since = None;
    }

    fn enter(&mut self, state: State, reason: String, now: Duration) -> Option<Transition> {
        if state == self.state {
            return None;
        }
        self.trust();
        self.quality = Quality::new(&self.window);
        if (self.state, state) == (State::Up, State::Down) {
            self.damping.went_down(now);
        }
        // Not being ready says nothing about a line that was never probed.
        self.fresh &= state == State::Down && !self.ready;
        let lasted = now.saturating_sub(self.since);
        let transition = Transition { from: self.state, to: state, lasted };
        self.state = state;
        self.since = now;
        self.reason = reason;
        Some(transition)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use proptest::prelude::*;

    use super::*;

    const A: Target = target(1);
    const B: Target = target(2);

    const fn target(host: u8) -> Target {
        Target::Echo(IpAddr::V4(Ipv4Addr::new(192, 0, 2, host)))
    }

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
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
        assert_eq!(health.set_ready(Ok(()), ms(0)), None);
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
        health.set_ready(Ok(()), ms(0));
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
        health.set_ready(Ok(()), ms(0));
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
        health.set_ready(Ok(()), ms(0));
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
        let change = health.set_ready(Err("no carrier"), ms(1001));
        let lasted = ms(1000);
        assert_eq!(change, Some(Transition { from: State::Up, to: State::Down, lasted }));
        assert_eq!(health.reason(), "no carrier");
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
        health.set_ready(Ok(()), ms(0));
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
        let reason = "3 rounds of probes failed: none of 2 targets answered; \
                      192.0.2.1: refused; 192.0.2.2: no route";
        assert_eq!(health.reason(), reason);
        assert_eq!(health.expire(ms(1700)), None);
        let round = health.start_round(ms(1800)).expect("due").round;
        for target in [&A, &B] {
            assert_eq!(health.fail(target, round, "captive portal".into(), ms(1800)), None);
        }
        assert!(health.reason().ends_with("192.0.2.2: captive portal"), "{}", health.reason());
    }

    #[test]
    fn without_targets_the_carrier_decides_and_the_hold_time_still_counts() {
        let mut health =
            Health::new(Probe { targets: vec![], ..probe() }, Family::Ipv6, false, ms(0));
        assert_eq!(health.set_ready(Ok(()), ms(0)).map(|change| change.to), Some(State::Up));
        health.set_ready(Err("no carrier"), ms(10));
        assert_eq!(health.set_ready(Ok(()), ms(20)), None);
        assert_eq!(health.deadline(), Some(ms(5020)));
        assert_eq!(health.expire(ms(5019)), None);
        assert_eq!(health.expire(ms(5020)).map(|change| change.to), Some(State::Up));
    }

    #[test]
    fn a_family_without_targets_follows_the_other() {
        let mut health = Health::new(probe(), Family::Ipv6, false, ms(0));
        health.set_ready(Ok(()), ms(0));
        assert_eq!(health.deadline(), None);
        assert_eq!(health.follow(Some(State::Up), ms(1)).map(|change| change.to), Some(State::Up));
        assert_eq!(
            health.follow(Some(State::Down), ms(2)).map(|change| change.to),
            Some(State::Down)
        );
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
}
