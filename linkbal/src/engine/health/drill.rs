//! Drills: what a block on purpose brings about is no outage and no flap, and no line is to blame.
//!
//! Verdicts do not depend on it. A family is of the drill from its block until it is up again; one that
//! stayed up, until a probe that was sent after the block is answered. One that is still not answered
//! [`GRACE`] after the block has a trouble of its own, which counts from then on.

use std::time::Duration;

use super::{
    Health,
    reason::{Reason, Reasons},
    state::State,
};

/// Time after a drill in which an uplink may be silent: addresses and sessions come back.
const GRACE: Duration = Duration::from_secs(60);

/// Part that a drill has in the state of a family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct DrillState {
    phase: Phase,
    /// Time before which nothing counts as an outage.
    counts_from: Duration,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// Nothing.
    #[default]
    None,
    /// The drill blocks it.
    Blocked,
    /// The drill is over since a time, and it has yet to come back; `late` is set after [`GRACE`].
    Over { since: Duration, late: bool },
}

impl DrillState {
    /// Returns the time at which [`Self::end_grace`] has something to do.
    pub(super) fn deadline(self) -> Option<Duration> {
        match self.phase {
            Phase::Over { since, late: false } => Some(since.saturating_add(GRACE)),
            _ => None,
        }
    }

    /// Returns whether it is blocked now.
    pub(super) fn blocks(self) -> bool {
        self.phase == Phase::Blocked
    }

    /// Returns the time from which on an outage counts that began at a time.
    pub(super) fn counted(self, since: Duration) -> Duration {
        since.max(self.counts_from)
    }

    /// Returns a reason with what the drill has to do with it.
    pub(super) fn explain(self, mut reasons: Reasons) -> Reasons {
        reasons.more.extend(match self.phase {
            Phase::None => None,
            Phase::Blocked => Some(Reason::DrillBlocks),
            Phase::Over { .. } => Some(Reason::DrillBlocked),
        });
        reasons
    }

    /// Notes that the family entered a state.
    pub(super) const fn entered(&mut self, state: State, now: Duration) {
        let back = matches!(state, State::Up | State::AdminDown);
        if back && matches!(self.phase, Phase::Over { .. }) {
            self.leave(now);
        }
    }

    /// Notes a good round of a family that is up, whose probes were sent at a time.
    pub(super) fn heard(&mut self, sent_at: Duration, now: Duration) {
        if let Phase::Over { since, .. } = self.phase
            && sent_at >= since
        {
            self.leave(now);
        }
    }

    /// Ends the time in which silence is put down to the drill.
    pub(super) fn end_grace(&mut self, is_silent: bool, now: Duration) {
        let Phase::Over { since, .. } = self.phase else { return };
        if now < since.saturating_add(GRACE) {
            return;
        }
        self.phase = Phase::Over { since, late: true };
        if is_silent {
            self.leave(now);
        }
    }

    const fn leave(&mut self, now: Duration) {
        *self = DrillState { phase: Phase::None, counts_from: now };
    }
}

impl Health {
    /// Returns whether what happens to it is of a drill: it is blocked, or was and has yet to come back.
    pub fn is_drilled(&self) -> bool {
        self.drill.phase != Phase::None
    }

    /// Notes that a drill blocks it, or no longer does.
    pub(super) fn set_blocked(&mut self, blocked: bool, now: Duration) {
        if blocked {
            // An outage that is there already is none of the drill's.
            if self.outage().is_none() {
                self.drill.phase = Phase::Blocked;
            }
        } else if self.drill.blocks() {
            let over = Some(&Reason::DrillBlocked);
            self.reason = self.reason.clone().replace(&Reason::DrillBlocks, over);
            self.drill.phase = Phase::Over { since: now, late: false };
            if self.state == State::AdminDown {
                self.drill.leave(now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            HealthEvent,
            simulation::{Simulation, ms, probe},
        },
        *,
    };
    use crate::engine::kernel::unready::Unready;

    /// Returns an uplink that is up, at 10 s.
    fn up() -> Simulation {
        let mut run = Simulation::new(3, probe());
        run.run_until(ms(10_000), &mut |_, _| Some(ms(10)));
        assert_eq!(run.health.state(), State::Up);
        run
    }

    /// Blocks it for a time, with a line that answers if nothing blocks it.
    fn drill(run: &mut Simulation, time: Duration) {
        run.health.handle(&HealthEvent::Blocked(true), run.now);
        assert!(run.health.is_drilled());
        let end = run.now + time;
        run.run_until(end, &mut |_, _| None);
        run.health.handle(&HealthEvent::Blocked(false), run.now);
    }

    fn run_on(run: &mut Simulation, time: Duration, answers: bool) {
        let end = run.now + time;
        run.run_until(end, &mut |_, _| answers.then_some(ms(10)));
    }

    #[test]
    fn a_drill_is_neither_an_outage_nor_a_flap() {
        let mut run = up();
        drill(&mut run, ms(4000));
        assert_eq!((run.health.state(), run.health.outage()), (State::Down, None));
        let explained = run.health.explain(run.now);
        let has = |reason| explained.more.contains(&reason);
        assert!(has(Reason::DrillBlocked) && !has(Reason::DrillBlocks), "{explained}");
        run_on(&mut run, ms(2000), true);
        assert!(run.health.is_drilled() && run.health.outage().is_none(), "it is held back");
        run_on(&mut run, ms(5000), true);
        assert!(run.health.state() == State::Up && !run.health.is_drilled());
        assert_eq!(run.health.window().lost_in_all(), 0, "the line lost nothing");
        // The next outage is the first one that counts.
        let fell = run.now;
        run_on(&mut run, ms(4000), false);
        let outage = run.health.outage().expect("an outage");
        assert!(outage.since >= fell, "{outage:?}");
        let explained = run.health.explain(run.now);
        let explained = explained.to_string();
        assert!(!explained.contains("times in 10 minutes"), "{explained}");
        assert!(!explained.contains("drill"), "{explained}");
        assert_eq!(run.health.hold(), probe().hold);
    }

    #[test]
    fn the_line_is_not_blamed_for_a_drill() {
        let mut run = up();
        run.health.handle(&HealthEvent::Blocked(true), run.now);
        run_on(&mut run, ms(5000), false);
        assert_eq!(run.health.reason().more.last(), Some(&Reason::DrillBlocks));
        assert!(!run.health.ask_gateway(run.now), "it would not answer either");
        assert_eq!(run.health.gateway_asked(false), None);
        assert_eq!(run.health.reason().more.last(), Some(&Reason::DrillBlocks));
    }

    #[test]
    fn a_drill_that_was_not_found_out_ends_with_the_next_answer() {
        let mut run = up();
        drill(&mut run, ms(300));
        assert_eq!(run.health.state(), State::Up);
        run_on(&mut run, ms(2500), true);
        assert!(!run.health.is_drilled());
        run_on(&mut run, ms(5000), false);
        assert!(run.health.outage().is_some());
    }

    #[test]
    fn a_line_that_does_not_come_back_has_an_outage_after_a_while() {
        let mut run = up();
        drill(&mut run, ms(4000));
        let over = run.now;
        run_on(&mut run, GRACE - ms(1000), false);
        assert_eq!(run.health.outage(), None);
        assert_eq!(run.health.reason().more.last(), Some(&Reason::DrillBlocked));
        assert!(!run.health.ask_gateway(run.now), "nobody is blamed yet");
        run_on(&mut run, ms(2000), false);
        let outage = run.health.outage().expect("an outage");
        assert_eq!(outage.since, over + GRACE);
        let reason = run.health.reason().to_string();
        assert!(!reason.contains("drill"), "{reason}");
        assert!(run.health.ask_gateway(run.now));
        // It stays one until the line is up again.
        run_on(&mut run, ms(2000), true);
        assert!(run.health.state() == State::Down && run.health.outage().is_some());
    }

    #[test]
    fn a_line_that_answers_is_of_the_drill_for_all_its_hold_time() {
        let hold = GRACE * 3;
        let mut run = Simulation::new(3, crate::config::Probe { hold, hold_max: hold, ..probe() });
        run.run_until(ms(10_000), &mut |_, _| Some(ms(10)));
        drill(&mut run, ms(4000));
        run_on(&mut run, GRACE * 2, true);
        assert!(run.health.is_drilled() && run.health.outage().is_none());
        assert_eq!(run.health.drill.deadline(), None, "nothing is due");
        run_on(&mut run, ms(5000), false);
        assert!(run.health.outage().is_some(), "it broke down meanwhile");
    }

    #[test]
    fn an_outage_before_a_drill_goes_on() {
        let mut run = up();
        run_on(&mut run, ms(5000), false);
        let before = run.health.outage().expect("an outage").since;
        run.health.handle(&HealthEvent::Blocked(true), run.now);
        run_on(&mut run, ms(5000), false);
        assert_eq!(run.health.outage().map(|outage| outage.since), Some(before));
        run.health.handle(&HealthEvent::Blocked(false), run.now);
        assert!(!run.health.is_drilled());
    }

    #[test]
    fn without_a_cable_the_while_after_a_drill_ends_all_the_same() {
        let mut run = up();
        drill(&mut run, ms(4000));
        run.health.handle(&HealthEvent::NotReady(&Unready::NoCarrier("a".into())), run.now);
        assert_eq!(run.health.outage(), None);
        let due = run.health.deadline().expect("the end of that time");
        run.health.handle(&HealthEvent::Tick, due);
        assert!(run.health.outage().is_some() && run.health.deadline().is_none());
    }
}
