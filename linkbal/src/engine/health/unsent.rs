//! Probes that this machine could not send: its table of descriptors is full, memory is short, its own
//! firewall does not let them pass.
//!
//! They are void, for they say nothing of the uplink: it keeps its state, however long that lasts.
//! Nobody must believe that all is well meanwhile, so it is told who has not been asked since when.

use std::time::Duration;

use super::{Health, Transition, round::End};
use crate::config::Target;

/// What lasts less is no news: the next probe may well be sent.
const LASTING: Duration = Duration::from_secs(1);

impl Health {
    /// This machine could not send a probe.
    pub fn unsent(
        &mut self,
        target: &Target,
        number: u64,
        reason: String,
        now: Duration,
    ) -> Option<Transition> {
        let (at, round) = self.find(target, number)?;
        self.rounds[round].end(&mut self.targets, at, End::Unsent(now, reason));
        self.judge(round, now)
    }

    /// Which targets this machine cannot ask for so long that people should know, and why.
    pub fn unasked(&self, now: Duration) -> Option<Unasked<'_>> {
        let lasting = |since: &Duration| now.saturating_sub(*since) >= LASTING;
        let unsent = self.targets.iter().filter_map(|asked| {
            let (since, reason) = asked.unsent.as_ref()?;
            lasting(since).then_some((*since, &asked.target, reason))
        });
        let count = unsent.clone().count();
        let (since, target, reason) = unsent.min_by_key(|(since, ..)| *since)?;
        let all = self.targets.iter().filter(|asked| !asked.absent).count();
        Some(Unasked { since, target, reason, count, all })
    }
}

/// Targets that are not asked.
#[derive(Clone, Copy, Debug)]
pub struct Unasked<'a> {
    since: Duration,
    /// The one that is not asked for longest.
    target: &'a Target,
    reason: &'a str,
    count: usize,
    all: usize,
}

impl Unasked<'_> {
    /// Since when.
    pub const fn since(&self) -> Duration {
        self.since
    }

    /// Who is not asked, and why.
    pub fn explain(&self) -> String {
        let Unasked { target, reason, count, all, .. } = self;
        let who = match count == all {
            true => "it keeps its state".to_owned(),
            false => format!("{count} of {all} targets"),
        };
        format!("not probed ({who}), for this machine cannot: {target}: {reason}")
    }
}
