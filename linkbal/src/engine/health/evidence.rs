//! What was seen when a verdict fell, for people who ask afterwards.

use serde::{Deserialize, Serialize};

use super::{Health, Round};

/// What was seen of one uplink and family.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Evidence {
    /// The targets, in the order of the configuration; none if nothing was asked.
    pub targets: Vec<TargetEvidence>,
    /// Share of the last probes that were lost, 0 to 1.
    pub loss: f64,
    /// Smoothed latency of the answers in milliseconds; null before the first one.
    pub latency_ms: Option<f64>,
}

/// What was heard of one target in the rounds that made the verdict, as far as they are remembered
/// (5 s).
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct TargetEvidence {
    /// The target.
    pub target: String,
    /// How often it was asked.
    pub asked: usize,
    /// How often it answered.
    pub answered: usize,
}

impl Health {
    /// What is known now; the rounds are those in a row that were all good or all bad.
    pub fn evidence(&self) -> Evidence {
        let in_a_row = self.bad_rounds.max(self.good_rounds) as usize;
        let over = self.rounds.iter().rev().filter(|round| round.settled || round.good);
        let rounds: Vec<&Round> = over.take(in_a_row).collect();
        let targets = self.probe.targets.iter().enumerate().map(|(at, target)| {
            // An answer that may still come in time is not missing.
            let asked = rounds.iter().filter(|round| round.settled || round.answered[at]);
            let answered = asked.clone().filter(|round| round.answered[at]).count();
            TargetEvidence { target: target.to_string(), asked: asked.count(), answered }
        });
        Evidence {
            targets: targets.filter(|target| target.asked > 0).collect(),
            loss: self.window.loss(),
            latency_ms: self.window.latency().map(|latency| latency.as_secs_f64() * 1000.0),
        }
    }
}
