//! The outages of an uplink.

use std::collections::VecDeque;

use linkbal_common::uplink::Family;
use serde::{Deserialize, Serialize};

use crate::{
    coded::CodedText,
    engine::{health::reason::Reasons, kernel::network::family},
};

/// Most outages that are kept of an uplink: the newest ones.
pub const KEPT: usize = 250;

/// Longest reason that is kept, in bytes.
const MAX_REASON: usize = 160;

/// Longest JSON of the parts of a reason.
const MAX_CODED: usize = 8 * MAX_REASON;

/// Longest name of a cause.
const MAX_CAUSE: usize = 32;

/// An outage of an uplink in one family. Times are seconds since 1970, UTC.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Outage {
    /// The family.
    #[serde(with = "family")]
    pub family: Family,
    /// Time at which the uplink went down.
    pub begin: u64,
    /// Time at which it was up again, or no longer watched; `None` while it is down.
    pub end: Option<u64>,
    /// Set if it was no longer watched at the end: the daemon ended, or the uplink was disabled or no
    /// longer configured.
    pub interrupted: bool,
    /// Name of the cause, as in [`Down`].
    pub cause: String,
    /// The cause in words.
    pub reason: String,
    /// The parts of that reason which are told whole, with their codes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub coded: Vec<CodedText>,
    /// Time since which the line answers without a break while the outage is not over: the hold time.
    #[serde(skip)]
    pub answers_since: Option<u64>,
}

/// Knowledge of an outage while it lasts.
#[derive(Clone, Debug, PartialEq)]
pub struct Down {
    /// Name of the cause: one of [`crate::engine::health::Cause`], `not-ready` if the kernel knows
    /// that the line cannot work (no carrier, no address), or `no-answer` if no more is known.
    pub cause: &'static str,
    /// The cause.
    pub reason: Reasons,
}

/// The outages of an uplink, in the order in which they began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outages(VecDeque<Outage>);

impl Outages {
    /// Returns the outages in the order in which they began.
    pub fn iter(&self) -> impl Iterator<Item = &Outage> {
        self.0.iter()
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn open(&mut self, family: Family) -> Option<&mut Outage> {
        self.0.iter_mut().rev().find(|outage| outage.family == family && outage.end.is_none())
    }

    /// Notes that it is down since a time; returns the outage if that is news.
    pub fn went_down(&mut self, family: Family, since: u64, down: &Down) -> Option<&Outage> {
        let reason = shorten(&down.reason.to_string(), MAX_REASON);
        let coded = whole_parts(&down.reason);
        if self.open(family).is_none() {
            let cause = down.cause.to_owned();
            let outage = Outage {
                family,
                begin: since,
                end: None,
                interrupted: false,
                cause,
                reason,
                coded,
                answers_since: None,
            };
            self.insert(outage);
            return self.open(family).map(|outage| &*outage);
        }
        let outage = self.open(family)?;
        outage.answers_since = None;
        // What brought it down is told by the kernel at once, and by targets bit by bit.
        let refined = !matches!(down.cause, "not-ready" | "no-answer")
            && outage.cause != "not-ready"
            && outage.cause != down.cause;
        if !refined {
            return None;
        }
        outage.cause = down.cause.to_owned();
        outage.reason = reason;
        outage.coded = coded;
        Some(outage)
    }

    /// Notes that the line of an outage answers since a time: that is its end, unless it falls silent
    /// before it is used again.
    pub fn answers(&mut self, family: Family, since: u64) {
        if let Some(outage) = self.open(family) {
            outage.answers_since.get_or_insert(since);
        }
    }

    /// Ends the outage of a family, if there is one, when it began to answer, or else at a time; returns
    /// it. `interrupted` is set if it may go on, but is not watched.
    pub fn end(&mut self, family: Family, at: u64, interrupted: bool) -> Option<&Outage> {
        let outage = self.open(family)?;
        let at = outage.answers_since.take().unwrap_or(at);
        outage.end = Some(at.max(outage.begin));
        outage.interrupted = interrupted;
        Some(outage)
    }

    /// Stores an outage as the file has it, in place of what was known of it before.
    pub fn set(&mut self, mut outage: Outage) {
        outage.reason = shorten(&outage.reason, MAX_REASON);
        if serde_json::to_vec(&outage.coded).map_or(true, |json| json.len() > MAX_CODED) {
            outage.coded.clear();
        }
        outage.cause = shorten(&outage.cause, MAX_CAUSE);
        outage.end = outage.end.map(|end| end.max(outage.begin));
        let same = |kept: &&mut Outage| (kept.family, kept.begin) == (outage.family, outage.begin);
        match self.0.iter_mut().find(same) {
            Some(kept) => *kept = outage,
            None => self.insert(outage),
        }
    }

    fn insert(&mut self, outage: Outage) {
        let place = self.0.partition_point(|kept| kept.begin <= outage.begin);
        self.0.insert(place, outage);
        if self.0.len() > KEPT {
            self.0.pop_front();
        }
    }

    /// Removes the part of the outages that is dated later than a time.
    pub fn truncate(&mut self, end: u64) {
        self.0.retain(|outage| outage.begin < end);
        for outage in &mut self.0 {
            outage.end = outage.end.map(|at| at.min(end));
            outage.answers_since = outage.answers_since.map(|at| at.min(end));
        }
    }

    /// Removes those that ended before a time.
    pub fn expire(&mut self, before: u64) {
        self.0.retain(|outage| outage.end.is_none_or(|end| end >= before));
    }
}

/// Returns the first parts of a reason, as many as fit into what is kept of its words.
fn whole_parts(reason: &Reasons) -> Vec<CodedText> {
    let mut length = 0_usize;
    let parts = reason.iter().take_while(|part| {
        length = length.saturating_add(part.to_string().len()).saturating_add("; ".len());
        length <= MAX_REASON
    });
    parts.map(CodedText::from).collect()
}

/// Returns the beginning of a text, with at most `length` bytes: whole pieces of it, if that is possible.
fn shorten(text: &str, length: usize) -> String {
    let (kept, rest) = text.split_at(text.floor_char_boundary(length));
    let end = kept.rfind("; ").or_else(|| kept.rfind(": ")).filter(|_| !rest.is_empty());
    kept[..end.unwrap_or(kept.len())].to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::health::reason::Reason;

    const V4: Family = Family::Ipv4;

    fn because(of: impl Into<String>) -> Reasons {
        Reason::TargetFailed { target: "a".into(), failure: of.into() }.into()
    }

    fn down(cause: &'static str) -> Down {
        Down { cause, reason: because(cause) }
    }

    #[test]
    fn the_cause_is_refined_while_targets_are_silent() {
        let mut outages = Outages::default();
        assert!(outages.went_down(V4, 100, &down("no-answer")).is_some());
        assert!(outages.went_down(V4, 101, &down("no-answer")).is_none());
        let refined = outages.went_down(V4, 102, &down("internet")).expect("news");
        assert_eq!((refined.begin, &*refined.reason), (100, "a: internet"));
        assert!(outages.end(Family::Ipv6, 105, false).is_none());
        assert_eq!(outages.end(V4, 160, false).map(|outage| outage.end), Some(Some(160)));
        assert!(outages.went_down(V4, 200, &down("not-ready")).is_some());
        assert!(outages.went_down(V4, 201, &down("gateway-silent")).is_none(), "the cable is it");
        assert_eq!(outages.end(V4, 150, true).map(|outage| outage.end), Some(Some(200)));
        assert_eq!(outages.iter().count(), 2);
    }

    #[test]
    fn the_hold_time_is_no_part_of_an_outage() {
        let mut outages = Outages::default();
        outages.answers(V4, 90);
        outages.went_down(V4, 100, &down("internet"));
        outages.answers(V4, 105);
        assert!(outages.went_down(V4, 106, &down("internet")).is_none(), "it goes on");
        outages.answers(V4, 110);
        outages.answers(V4, 111);
        assert_eq!(outages.end(V4, 115, false).map(|outage| outage.end), Some(Some(110)));
    }

    #[test]
    fn texts_are_cut_between_pieces_or_else_characters() {
        let mut reason = because("ä".repeat(70));
        reason.more = vec![Reason::FewNetworks; 2];
        let mut outages = Outages::default();
        outages.went_down(V4, 1, &Down { cause: "no-answer", reason });
        let kept = outages.iter().next().expect("one");
        assert_eq!(kept.reason, format!("a: {}", "ä".repeat(70)));
        assert_eq!(kept.coded.len(), 1, "only what is told whole");
        assert_eq!(shorten(&"ä".repeat(150), MAX_REASON), "ä".repeat(80));
        assert_eq!(shorten("a line: with advice; and more", 25), "a line: with advice");
        assert_eq!(shorten("a line: with advice", 12), "a line");
        assert_eq!(shorten("a line: with", 12), "a line: with");
    }

    proptest! {
        #[test]
        fn outages_are_few_and_in_order(begins in prop::collection::vec(0u64..2000, 0..700)) {
            let mut outages = Outages::default();
            for begin in begins {
                let outage = Outage {
                    family: V4,
                    begin,
                    end: begin.checked_sub(5),
                    interrupted: false,
                    cause: "internet".into(),
                    reason: "r".into(),
                    coded: Vec::new(),
                    answers_since: None,
                };
                outages.set(outage);
            }
            let begins: Vec<u64> = outages.iter().map(|outage| outage.begin).collect();
            prop_assert!(begins.len() <= KEPT && begins.is_sorted_by(|one, next| one < next));
            prop_assert!(outages.iter().all(|each| each.end.is_none_or(|end| end >= each.begin)));
        }
    }
}
