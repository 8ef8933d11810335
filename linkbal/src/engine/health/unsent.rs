//! Probes that this machine could not send: its table of descriptors is full, memory is short, its
//! own firewall does not let them pass.
//!
//! They are void, since they say nothing about the uplink: it keeps its state, however long that
//! lasts. The targets that are not probed are reported, with the time since when and the reason.

use std::time::Duration;

use super::{Health, Transition, reason::Unprobed, round::End};
use crate::config::Target;

/// Time before which a failure to send is no news: the next probe may well be sent.
const LASTING: Duration = Duration::from_secs(1);

impl Health {
    /// Notes that this machine could not send a probe.
    pub(super) fn unsent(
        &mut self,
        target: &Target,
        number: u64,
        reason: String,
        now: Duration,
    ) -> Option<Transition> {
        let (at, round) = self.find(target, number)?;
        self.schedule.rounds[round].end(&mut self.targets, at, End::Unsent(now, reason));
        self.judge(round, now)
    }

    /// Returns the targets that this machine has not been able to probe for long enough to tell
    /// people, and why.
    pub fn unsent_probes(&self, now: Duration) -> Option<UnsentProbes> {
        let lasting = |since: &Duration| now.saturating_sub(*since) >= LASTING;
        let unsent = self.targets.iter().filter_map(|asked| {
            let (since, reason) = asked.unsent.as_ref()?;
            lasting(since).then_some((*since, &asked.target, reason))
        });
        let count = unsent.clone().count();
        let (since, target, failure) = unsent.min_by_key(|(since, ..)| *since)?;
        let all = self.targets.iter().filter(|asked| !asked.absent).count();
        let (target, failure) = (target.to_string(), failure.clone());
        Some(UnsentProbes { since, probes: Unprobed { target, failure, count, all } })
    }
}

/// Targets that are not probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsentProbes {
    /// Time since which one of them is not probed.
    pub since: Duration,
    /// The targets, and why.
    pub probes: Unprobed,
}

#[cfg(test)]
mod tests {
    use linkbal_common::uplink::Family;
    use proptest::prelude::*;

    use super::{
        super::{
            HealthEvent, State,
            simulation::{ms, probe},
        },
        *,
    };

    /// The outcome of a probe.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Fate {
        Answered,
        Unsent,
        Silent,
    }

    /// Creates the health of an uplink that was found up, with the targets of the simulation.
    fn up() -> Health {
        let mut health = Health::new(probe(), Family::Ipv4, true, ms(0));
        assert_eq!(health.handle(&HealthEvent::Ready, ms(0)), None);
        assert_eq!(health.state(), State::Up);
        health
    }

    /// Plays rounds for a time, in which `fate` decides each probe.
    fn play(
        health: &mut Health,
        from: u64,
        to: u64,
        mut fate: impl FnMut(usize) -> Fate,
    ) -> Vec<Transition> {
        let mut changes = Vec::new();
        for now in (from..to).step_by(10).map(ms) {
            changes.extend(health.expire(now));
            let Some(start) = health.start_round(now) else { continue };
            for (at, target) in start.targets.iter().enumerate() {
                changes.extend(match fate(at) {
                    Fate::Answered => health.answer(target, start.round, now),
                    Fate::Unsent => health.unsent(target, start.round, "no descriptor".into(), now),
                    Fate::Silent => None,
                });
            }
        }
        changes
    }

    #[test]
    fn a_machine_that_cannot_ask_blames_nobody_however_long_it_lasts() {
        let mut health = up();
        play(&mut health, 0, 5000, |_| Fate::Answered);
        assert!(health.unsent_probes(ms(5000)).is_none());
        assert_eq!(play(&mut health, 5000, 3_600_000, |_| Fate::Unsent), []);
        let text = health.explain(ms(3_600_000)).to_string();
        assert!(text.contains("; for 59 min: not probed (it keeps"), "{text}");
        assert!(text.ends_with("no descriptor"), "{text}");
        // What the line does counts again at once.
        let changes = play(&mut health, 3_600_000, 3_610_000, |_| Fate::Silent);
        assert_eq!(changes.iter().map(|change| change.to).collect::<Vec<_>>(), [State::Down]);
        assert!(health.unsent_probes(ms(3_610_000)).is_none());
        // Nor does it prove that all is well.
        assert_eq!(play(&mut health, 3_610_000, 3_700_000, |_| Fate::Unsent), []);
        assert_eq!(health.state(), State::Down);
    }

    #[test]
    fn a_moment_is_no_news() {
        let mut health = up();
        play(&mut health, 0, 900, |_| Fate::Unsent);
        assert!(health.unsent_probes(ms(900)).is_none());
        play(&mut health, 900, 1500, |at| if at == 0 { Fate::Answered } else { Fate::Unsent });
        let unasked = health.unsent_probes(ms(1500)).expect("two are not asked").probes;
        let unasked = unasked.to_string();
        assert!(unasked.contains("(2 of 3 targets)"), "{unasked}");
    }

    proptest! {
        /// Checks that any mixture of answers and probes that were not sent brings no verdict.
        #[test]
        fn without_silence_there_is_no_fall(fates: Vec<bool>) {
            let mut health = up();
            let mut next = fates.iter().cycle();
            let changes = play(&mut health, 0, 20_000, |_| match next.next() {
                Some(true) => Fate::Answered,
                _ => Fate::Unsent,
            });
            prop_assert_eq!(changes, []);
            prop_assert_eq!(health.state(), State::Up);
        }
    }
}
