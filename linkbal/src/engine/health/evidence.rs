//! The evidence when a verdict fell, for people who ask afterwards.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Health,
    round::{Outcome, Round},
};

/// The evidence for one uplink and family.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, ToSchema)]
#[serde(default)]
pub struct Evidence {
    /// The targets, in the order of the configuration; none if nothing was asked.
    pub targets: Vec<TargetEvidence>,
    /// Share of the last probes that were lost, 0 to 1.
    pub loss: f64,
    /// Smoothed latency of the answers in milliseconds; null before the first one.
    pub latency_ms: Option<f64>,
}

/// The evidence for one target in the rounds that made the verdict, as far as they are remembered
/// (5 s). An answer that may still come in time is not missing.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, ToSchema)]
pub struct TargetEvidence {
    /// The target.
    pub target: String,
    /// Number of probes that were answered or missed.
    pub asked: usize,
    /// Number of probes that were answered in time.
    pub answered: usize,
    /// Reason for the last failure, if more is known than silence.
    pub failure: Option<String>,
}

impl Health {
    /// Returns the evidence up to now; the rounds are those in a row that were all good or all bad.
    pub fn seen(&self) -> Evidence {
        let in_a_row = self.streak.bad.max(self.streak.good) as usize;
        let judged = self.schedule.rounds.iter().rev().filter(|round| round.is_judged());
        let rounds: Vec<&Round> = judged.take(in_a_row).collect();
        let targets = self.targets.iter().enumerate().map(|(at, asked)| {
            let outcomes = rounds.iter().filter_map(|round| round.outcome(at));
            let answered = outcomes.clone().filter(|outcome| *outcome == Outcome::Answered).count();
            let missed = outcomes
                .filter(|outcome| {
                    matches!(outcome, Outcome::Failed | Outcome::Expired | Outcome::Late)
                })
                .count();
            TargetEvidence {
                target: asked.target.to_string(),
                asked: answered + missed,
                answered,
                failure: asked.failure.as_ref().map(|failure| failure.reason.clone()),
            }
        });
        Evidence {
            targets: targets.filter(|target| target.asked > 0).collect(),
            loss: self.window.loss(),
            latency_ms: self.window.latency().map(|latency| latency.as_secs_f64() * 1000.0),
        }
    }
}
