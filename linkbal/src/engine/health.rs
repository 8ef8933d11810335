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
pub mod latencies;
pub(in crate::engine) mod suspicion;
pub mod traffic;
pub(in crate::engine) mod verdicts;
pub mod window;

mod cause;
mod damping;
mod drill;
pub mod failure;
mod passive;
mod quality;
mod round;
#[cfg(test)]
mod simulation;
mod unsent;

use std::{collections::VecDeque, net::IpAddr, time::Duration};

use linkbal_common::uplink::Family;

use self::{
    cause::GatewayState,
    damping::{Damping, measured},
    drill::Drill,
    failure::Failure,
    passive::Passive,
    quality::Quality,
    round::{End, Outcome, REMEMBER, Round, TargetState, Verdict},
    window::Window,
};
pub use self::{
    cause::{Cause, KnownOutage},
    failure::FailureKind,
    passive::Answers,
};
use crate::config::{Probe, Target};

/// Reason of an uplink that is down since it was disabled before.
const ENABLED: &str = "enabled by the administrator, to be proved good";

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
    /// Returns whether the uplink is usable.
    pub const fn is_up(self) -> bool {
        matches!(self, State::Up)
    }

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

/// The reason for which no target could answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// The uplink has lost its address for a moment.
    NoAddress,
    /// Something that linkbal set up is undone, or an address has just gone. Rounds that failed before
    /// that was known do not count.
    Drift,
}

/// An event that may change the health of an uplink in one family.
#[derive(Clone, Debug, PartialEq)]
pub enum HealthEvent<'a> {
    /// Interface, carrier, address and gateway are there.
    Ready,
    /// One of them is missing, with the reason.
    NotReady(&'a str),
    /// Another gateway has its address, with the reason: it is not ready, but has not failed, and
    /// comes back at once.
    Standby(&'a str),
    /// The administrator disables it, or not. Once it is enabled again, it must be told anew
    /// whether it is ready.
    Disabled(bool),
    /// The administrator wants it up with its first good round, or at once if the last was good.
    Admitted,
    /// A drill blocks it, or no longer does.
    Blocked(bool),
    /// A target answered the probe of a round. Unknown rounds and targets and repeated answers do
    /// not count.
    ProbeAnswered(&'a Target, u64),
    /// The probe of a round failed before its time was over, with the reason, and its kind if the
    /// target answered.
    ProbeFailed(&'a Target, u64, &'a str, Option<FailureKind>),
    /// The probe of a round could not be sent by this machine, with the reason.
    ProbeUnsent(&'a Target, u64, &'a str),
    /// The target of a round has no address in this family: it does not count.
    ProbeSkipped(&'a Target, u64),
    /// The kernel does not find the link-layer address of its gateway.
    GatewayFailed(IpAddr),
    /// The state in the other family, which decides if this one has no targets of its own; `None`:
    /// the uplink does not have the other family.
    OtherFamily(Option<State>),
    /// The traffic of the uplink is answered.
    TrafficAnswered(Answers),
    /// The traffic of the uplink is not answered, though it should be by now.
    Suspected,
    /// No target could answer until a time, which says nothing. Pending probes are void.
    Paused(Pause, Duration),
    /// Targets can answer again.
    Resumed(Pause),
    /// Time has passed.
    Tick,
}

/// The health of one uplink in one family. Times are monotonic, from an epoch of the caller's.
#[derive(Clone, Debug)]
pub struct Health {
    probe: Probe,
    /// The targets of the family.
    targets: Vec<TargetState>,
    state: State,
    since: Duration,
    reason: String,
    ready: bool,
    rounds: VecDeque<Round>,
    next_round: u64,
    next_round_at: Duration,
    /// Times before which no target is asked, by [`Pause`].
    paused_until: [Duration; 2],
    bad_rounds: u32,
    good_rounds: u32,
    good_since: Option<Duration>,
    window: Window,
    passive: Passive,
    quality: Quality,
    damping: Damping,
    gateway: GatewayState,
    drill: Drill,
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
            targets: targets.cloned().map(TargetState::new).collect(),
            probe,
            state: if usable { State::Up } else { State::Init },
            since: now,
            reason: if usable { "found usable at start" } else { "no answer yet" }.into(),
            ready: false,
            rounds: VecDeque::new(),
            next_round: 0,
            next_round_at: now,
            paused_until: [Duration::ZERO; 2],
            bad_rounds: 0,
            good_rounds: 0,
            good_since: None,
            window: Window::default(),
            passive: Passive::default(),
            quality: Quality::default(),
            damping: Damping::default(),
            gateway: GatewayState::default(),
            drill: Drill::default(),
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

    /// Returns the time since which an uplink that is down answers well, or is ready if it has no targets:
    /// it is up again once that lasted for the hold time.
    pub fn answers_since(&self) -> Option<Duration> {
        self.good_since.filter(|_| self.state == State::Down)
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
    pub const fn has_targets(&self) -> bool {
        !self.targets.is_empty()
    }

    /// Returns the time between two rounds.
    pub const fn interval(&self) -> Duration {
        self.probe.interval
    }

    /// Handles an event; returns the change of state that follows.
    pub fn handle(&mut self, event: &HealthEvent<'_>, now: Duration) -> Option<Transition> {
        match *event {
            HealthEvent::Ready => return self.set_ready(Ok(()), now),
            HealthEvent::NotReady(reason) => return self.set_ready(Err(reason), now),
            HealthEvent::Standby(reason) => return self.stand_by(reason, now),
            HealthEvent::Disabled(disabled) => return self.set_disabled(disabled, now),
            HealthEvent::Admitted => return self.admit(now),
            HealthEvent::ProbeAnswered(target, round) => return self.answer(target, round, now),
            HealthEvent::ProbeFailed(target, round, reason, kind) => {
                return self.fail(target, round, Failure { reason: reason.into(), kind }, now);
            }
            HealthEvent::ProbeUnsent(target, round, reason) => {
                return self.unsent(target, round, reason.into(), now);
            }
            HealthEvent::ProbeSkipped(target, round) => return self.skip(target, round, now),
            HealthEvent::GatewayFailed(gateway) => return self.gateway_failed(gateway, now),
            HealthEvent::OtherFamily(other) => return self.follow(other, now),
            HealthEvent::Tick => return self.expire(now),
            HealthEvent::TrafficAnswered(answers) => self.traffic_answered(answers, now),
            HealthEvent::Blocked(blocked) => self.set_blocked(blocked, now),
            HealthEvent::Suspected => self.suspect(now),
            HealthEvent::Paused(pause, until) => self.pause(pause, until),
            HealthEvent::Resumed(pause) => self.resume(pause),
        }
        None
    }

    /// Disables it, or lets it prove itself; [`Self::set_ready`] must then be called again.
    fn set_disabled(&mut self, disabled: bool, now: Duration) -> Option<Transition> {
        if disabled == (self.state == State::AdminDown) {
            return None;
        }
        self.ready = false;
        self.fresh = false;
        self.rounds.clear();
        self.targets.iter_mut().for_each(TargetState::forget);
        self.restart_count();
        let (state, reason) = match disabled {
            true => (State::AdminDown, "disabled by the administrator"),
            false => (State::Down, ENABLED),
        };
        self.enter(state, reason.into(), now)
    }

    /// Lets it come up without the time and the rounds to prove itself.
    fn admit(&mut self, now: Duration) -> Option<Transition> {
        if self.state != State::Down {
            return None;
        }
        self.fresh = true;
        if self.ready && self.good_rounds > 0 {
            let reason = "targets answer, and it was enabled without the hold time";
            return self.enter(State::Up, reason.into(), now);
        }
        self.trust_carrier(now)
    }

    /// Replaces the probe settings. The state stays; with other targets, it must be told again
    /// whether it is ready, and rounds begin anew.
    pub fn set_probe(&mut self, probe: &Probe, family: Family, now: Duration) {
        let targets = probe.targets.iter().filter(|target| target.judges(family));
        let targets: Vec<TargetState> = targets.cloned().map(TargetState::new).collect();
        let same = |(old, new): (&TargetState, &TargetState)| old.target == new.target;
        let all_same =
            targets.len() == self.targets.len() && self.targets.iter().zip(&targets).all(same);
        if !all_same || probe.targets.is_empty() != self.probe.targets.is_empty() {
            self.targets = targets;
            self.rounds.clear();
            self.restart_count();
            self.ready = false;
        }
        self.next_round_at = self.next_round_at.min(now + probe.interval);
        if probe.limits != self.probe.limits {
            self.quality = Quality::new(&self.window);
        }
        self.probe.clone_from(probe);
    }

    /// Sets whether interface, carrier, address and gateway are there, and if not why.
    fn set_ready(&mut self, ready: Result<(), &str>, now: Duration) -> Option<Transition> {
        if self.state == State::AdminDown {
            return None;
        }
        match ready {
            Err(reason) => {
                self.ready = false;
                self.standing_by = false;
                self.rounds.clear();
                self.targets.iter_mut().for_each(TargetState::forget);
                self.restart_count();
                let transition = self.enter(State::Down, reason.into(), now);
                self.reason = self.drill.explain(reason.into());
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
    fn stand_by(&mut self, reason: &str, now: Duration) -> Option<Transition> {
        let damping = self.damping.clone();
        let fresh = self.fresh || self.state == State::Up;
        let transition = self.set_ready(Err(&format!("standby: {reason}")), now);
        self.damping = damping;
        self.fresh = fresh;
        self.standing_by = self.state == State::Down;
        transition
    }

    /// Returns whether another gateway has its address.
    pub const fn stands_by(&self) -> bool {
        self.standing_by
    }

    /// Returns whether it will come up as soon as its address is here: nothing speaks against it.
    pub const fn is_promised(&self) -> bool {
        self.standing_by && self.fresh
    }

    /// Pauses probes until `until`: no target could answer, which says nothing. Pending probes are
    /// void.
    fn pause(&mut self, pause: Pause, until: Duration) {
        self.paused_until[pause as usize] = until;
        if pause == Pause::Drift {
            self.bad_rounds = 0;
        }
        self.trust();
        self.rounds.clear();
        self.targets.iter_mut().for_each(TargetState::forget);
    }

    /// Ends a pause.
    const fn resume(&mut self, pause: Pause) {
        self.paused_until[pause as usize] = Duration::ZERO;
    }

    fn next_at(&self) -> Duration {
        self.paused_until.into_iter().fold(self.next_round_at, Duration::max)
    }

    /// Takes over the verdict on the other family, if this one has no targets of its own. `None`:
    /// the uplink does not have the other family.
    fn follow(&mut self, other: Option<State>, now: Duration) -> Option<Transition> {
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
        let timeout = self.timeout_for();
        let round = Round::start(number, planned, now, timeout, &mut self.targets, pending)?;
        self.next_round += 1;
        let targets = round.asks().map(|at| self.targets[at].target.clone()).collect();
        let start = RoundStart { round: number, targets, timeout: round.timeout() };
        self.rounds.push_back(round);
        Some(start)
    }

    /// Lets a round that is due pass, since nothing can be sent.
    pub(in crate::engine) fn skip_round(&mut self, now: Duration) {
        if self.next_round_at <= now {
            self.next_round_at = now + self.pace();
        }
    }

    /// Takes in an answer of a target. Unknown rounds and targets and repeated answers do not
    /// count.
    fn answer(&mut self, target: &Target, number: u64, now: Duration) -> Option<Transition> {
        let (at, round) = self.find(target, number)?;
        let outcome = self.rounds[round].answer(&mut self.targets, at, now)?;
        let latency = now.saturating_sub(self.rounds[round].sent_at);
        if self.tells_latency(target) {
            self.window.measure(latency);
        }
        if outcome == Outcome::Answered || self.may_be_late(latency) {
            self.targets[at].last_reply = Some(now);
        }
        if outcome != Outcome::Void {
            self.settle(outcome == Outcome::Answered);
        }
        self.judge(round, now)
    }

    /// Takes in that a probe failed before its time was over.
    fn fail(
        &mut self,
        target: &Target,
        number: u64,
        failure: Failure,
        now: Duration,
    ) -> Option<Transition> {
        let (at, round) = self.find(target, number)?;
        if !self.rounds[round].end(&mut self.targets, at, End::Failed(failure)) {
            return None;
        }
        self.settle(false);
        self.judge(round, now)
    }

    /// Notes that there is nothing to ask for a target in this family: it does not count.
    fn skip(&mut self, target: &Target, number: u64, now: Duration) -> Option<Transition> {
        let (at, round) = self.find(target, number)?;
        self.rounds[round].end(&mut self.targets, at, End::NothingToAsk);
        self.judge(round, now)
    }

    /// Ends the probes whose time is over.
    fn expire(&mut self, now: Duration) -> Option<Transition> {
        let mut transition = None;
        for at in 0..self.rounds.len() {
            for _ in 0..self.rounds[at].expire(&mut self.targets, now) {
                self.settle(false);
            }
            transition = self.judge(at, now).or(transition);
        }
        self.rounds.retain(|round| round.deadline().is_some() || round.sent_at + REMEMBER > now);
        let transition = self.trust_carrier(now).or(transition);
        self.end_grace(now);
        transition
    }

    /// Returns the places of a target and of a round.
    fn find(&self, target: &Target, number: u64) -> Option<(usize, usize)> {
        let at = self.targets.iter().position(|asked| asked.target == *target)?;
        let round = self.rounds.iter().position(|round| round.number == number)?;
        Some((at, round))
    }

    fn judge(&mut self, round: usize, now: Duration) -> Option<Transition> {
        let transition = match self.rounds[round].judge(&self.targets, self.probe.quorum)? {
            Verdict::Good => {
                self.heard_after_drill(self.rounds[round].sent_at, now);
                self.good_round(now)
            }
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

    /// Returns the time at which [`Self::start_round`] or [`HealthEvent::Tick`] has something to do.
    pub fn deadline(&self) -> Option<Duration> {
        let drill = self.drill.deadline();
        if !self.ready {
            return drill;
        }
        if !self.targets.is_empty() {
            let pending = self.rounds.iter().filter_map(Round::deadline);
            return pending.chain([self.next_at()]).chain(drill).min();
        }
        let waiting = self.evidence() == Evidence::Carrier && self.state == State::Down;
        let held = self.good_since.filter(|_| waiting).map(|since| since + self.hold());
        held.into_iter().chain(drill).min()
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
                let reason = format!("{} good rounds in {}", self.good_rounds, measured(held));
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
        let reason = self.describe_outage();
        self.fresh = false;
        if self.state == State::Down {
            // What keeps it down may be something else than what brought it down.
            self.reason = self.drill.explain(reason);
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
        if (self.state, state) == (State::Up, State::Down) && !self.is_drilled() {
            self.damping.went_down(now);
        }
        // Not being ready says nothing about a line that was never probed.
        self.fresh &= state == State::Down && !self.ready;
        let lasted = now.saturating_sub(self.since);
        let transition = Transition { from: self.state, to: state, lasted };
        self.state = state;
        self.since = now;
        self.reason = if state == State::Down { self.drill.explain(reason) } else { reason };
        self.follow_drill(now);
        Some(transition)
    }
}

#[cfg(test)]
mod tests;
