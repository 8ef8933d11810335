//! Measures of an uplink in one step of time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::per_family::PerFamily;

/// Measures of an uplink in one step: 136 bytes, whatever happened in it. Nothing is known of the
/// seconds that are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// Traffic of both families: the datapath does not count them apart.
    pub traffic: Traffic,
    /// Probes and verdicts of each family: one may fail while the other works.
    pub families: PerFamily<FamilyMeasures>,
}

/// Traffic of the LAN by an uplink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(from = "(u64, u64, u32, u32)", into = "(u64, u64, u32, u32)")]
pub struct Traffic {
    /// Bytes from the LAN.
    pub bytes_up: u64,
    /// Bytes to the LAN.
    pub bytes_down: u64,
    /// Flows that began.
    pub flows: u32,
    /// Seconds in which this was counted.
    pub seconds: u32,
}

/// Measures of an uplink in one family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(from = "Numbers", into = "Numbers")]
pub struct FamilyMeasures {
    /// Probes that were answered in time.
    pub answered: u32,
    /// Probes that were lost.
    pub lost: u32,
    /// Latencies, of late answers, too.
    pub latency: Mean,
    /// Lowest and highest mean latency of a second, in microseconds.
    pub latency_min_us: u32,
    /// See `latency_min_us`.
    pub latency_max_us: u32,
    /// Jitter, taken once a second.
    pub jitter: Mean,
    /// Seconds for which it was up.
    pub up_s: u32,
    /// Seconds for which it was down. Those for which it was neither are unknown, or say nothing of
    /// the line: it was disabled, or in a drill.
    pub down_s: u32,
}

/// A mean of times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mean {
    /// Sum, in microseconds.
    pub sum_us: u64,
    /// Number of values.
    pub number: u32,
}

/// Seconds up and down, by family: what is kept of an hour for the longest time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Seconds up, and seconds down.
    pub families: PerFamily<(u16, u16)>,
}

/// The numbers of a [`FamilyMeasures`] in the file: answered and lost probes, number and sum of latencies, the
/// lowest and the highest one, number and sum of jitters, seconds up and down.
type Numbers = (u32, u32, u32, u64, u32, u32, u32, u64, u32, u32);

impl Mean {
    /// Adds values.
    pub const fn add(&mut self, other: Mean) {
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
        self.number = self.number.saturating_add(other.number);
    }

    /// Returns the mean in milliseconds; `None` without values.
    pub fn millis(self) -> Option<f64> {
        (self.number > 0).then(|| self.sum_us as f64 / f64::from(self.number) / 1000.0)
    }
}

impl FamilyMeasures {
    /// Notes latencies of one second.
    pub fn note_latency(&mut self, sum: Duration, number: u32) {
        let sum_us = u64::try_from(sum.as_micros()).unwrap_or(u64::MAX);
        let Some(mean) = sum_us.checked_div(number.into()) else { return };
        let mean = u32::try_from(mean).unwrap_or(u32::MAX);
        let of_second = FamilyMeasures {
            latency: Mean { sum_us, number },
            latency_min_us: mean,
            latency_max_us: mean,
            ..FamilyMeasures::default()
        };
        self.add(&of_second);
    }

    /// Adds the measures of another time.
    pub fn add(&mut self, other: &FamilyMeasures) {
        if other.latency.number > 0 {
            let first = self.latency.number == 0;
            let lowest = self.latency_min_us.min(other.latency_min_us);
            self.latency_min_us = if first { other.latency_min_us } else { lowest };
            self.latency_max_us = self.latency_max_us.max(other.latency_max_us);
        }
        self.answered = self.answered.saturating_add(other.answered);
        self.lost = self.lost.saturating_add(other.lost);
        self.latency.add(other.latency);
        self.jitter.add(other.jitter);
        self.up_s = self.up_s.saturating_add(other.up_s);
        self.down_s = self.down_s.saturating_add(other.down_s);
    }
}

impl Bucket {
    /// Adds the measures of another time.
    pub fn add(&mut self, other: &Bucket) {
        let (traffic, added) = (&mut self.traffic, &other.traffic);
        traffic.bytes_up = traffic.bytes_up.saturating_add(added.bytes_up);
        traffic.bytes_down = traffic.bytes_down.saturating_add(added.bytes_down);
        traffic.flows = traffic.flows.saturating_add(added.flows);
        traffic.seconds = traffic.seconds.saturating_add(added.seconds);
        for (family, line) in self.families.iter_mut() {
            line.add(&other.families[family]);
        }
    }

    /// Returns whether it can be of a step of so many seconds.
    pub fn fits(&self, step: u64) -> bool {
        let lines = self.families.values();
        let mut seconds = lines.map(|line| u64::from(line.up_s).saturating_add(line.down_s.into()));
        u64::from(self.traffic.seconds) <= step && seconds.all(|seconds| seconds <= step)
    }

    /// Returns the seconds up and down.
    pub fn tally(&self) -> Tally {
        let seconds = |all: u32| u16::try_from(all).unwrap_or(u16::MAX);
        let of = |line: &FamilyMeasures| (seconds(line.up_s), seconds(line.down_s));
        Tally { families: PerFamily::from_fn(|family| of(&self.families[family])) }
    }
}

impl From<(u64, u64, u32, u32)> for Traffic {
    fn from((bytes_up, bytes_down, flows, seconds): (u64, u64, u32, u32)) -> Traffic {
        Traffic { bytes_up, bytes_down, flows, seconds }
    }
}

impl From<Traffic> for (u64, u64, u32, u32) {
    fn from(of: Traffic) -> (u64, u64, u32, u32) {
        (of.bytes_up, of.bytes_down, of.flows, of.seconds)
    }
}

impl From<Numbers> for FamilyMeasures {
    fn from(numbers: Numbers) -> FamilyMeasures {
        let (answered, lost, latencies, latency_us, min, max, jitters, jitter_us, up_s, down_s) =
            numbers;
        FamilyMeasures {
            answered,
            lost,
            latency: Mean { sum_us: latency_us, number: latencies },
            latency_min_us: min,
            latency_max_us: max,
            jitter: Mean { sum_us: jitter_us, number: jitters },
            up_s,
            down_s,
        }
    }
}

impl From<FamilyMeasures> for Numbers {
    fn from(of: FamilyMeasures) -> Numbers {
        let (latency, jitter) = (of.latency, of.jitter);
        let (min, max) = (of.latency_min_us, of.latency_max_us);
        let probes = (of.answered, of.lost);
        (
            probes.0,
            probes.1,
            latency.number,
            latency.sum_us,
            min,
            max,
            jitter.number,
            jitter.sum_us,
            of.up_s,
            of.down_s,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_has_a_small_fixed_size() {
        assert_eq!((size_of::<Bucket>(), size_of::<Tally>()), (136, 8));
    }

    #[test]
    fn latencies_have_a_mean_and_bounds() {
        let mut line = FamilyMeasures::default();
        line.note_latency(Duration::ZERO, 0);
        assert_eq!((line, line.latency.millis()), (FamilyMeasures::default(), None));
        line.note_latency(Duration::from_millis(30), 3);
        line.note_latency(Duration::from_millis(6), 1);
        assert_eq!((line.latency_min_us, line.latency_max_us), (6_000, 10_000));
        assert_eq!(line.latency.millis(), Some(9.0));
        let text = serde_json::to_string(&line).expect("JSON");
        assert_eq!(text, "[0,0,4,36000,6000,10000,0,0,0,0]");
        assert_eq!(serde_json::from_str::<FamilyMeasures>(&text).expect("a line"), line);
    }
}
