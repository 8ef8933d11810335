//! Positions in the journal: where a reader goes on that comes back.
//!
//! A sequence number alone does not say which event it is. After a crash, the last ones may not be in the
//! file, and if the file is lost, numbers begin anew: then one number stands for two events. With the run
//! of the daemon that made the event, it is unambiguous.

use std::{fmt, str::FromStr};

use super::Event;

/// Most digits of a run.
const RUN_LENGTH: usize = 16;

/// An event as a reader names it that has seen all events up to there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Sequence number of the event; 0 before the first one.
    pub sequence: u64,
    /// Run of the daemon that made it; empty if the reader does not say, and for events of older versions.
    pub run: String,
}

impl Position {
    /// Returns the position behind an event.
    pub fn of(event: &Event) -> Position {
        Position { sequence: event.sequence, run: event.run.clone() }
    }
}

/// Formats a position as `SEQUENCE-RUN`, or `SEQUENCE` without a run.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.run[..] {
            "" => write!(f, "{}", self.sequence),
            run => write!(f, "{}-{run}", self.sequence),
        }
    }
}

/// Reads `SEQUENCE` or `SEQUENCE-RUN`.
impl FromStr for Position {
    type Err = String;

    fn from_str(text: &str) -> Result<Position, String> {
        let (sequence, run) = text.split_once('-').unwrap_or((text, ""));
        let is_run = run.len() <= RUN_LENGTH && run.bytes().all(|byte| byte.is_ascii_hexdigit());
        let sequence = sequence.parse().ok().filter(|_| is_run);
        let sequence = sequence
            .ok_or_else(|| "no position: write the sequence or the id of an event".to_owned())?;
        Ok(Position { sequence, run: run.to_owned() })
    }
}

/// The place at which a reader goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Resumed {
    /// Sequence number behind which it goes on.
    pub(super) behind: u64,
    /// Set if events may be missing there, whatever the next number is.
    pub(super) gap: bool,
}

/// Returns where a reader goes on that has seen the events up to `after`. `kept` are the sequences and
/// runs of the events that are kept, in ascending order.
pub(super) fn resume<'a>(
    kept: impl Iterator<Item = (u64, &'a str)> + Clone,
    after: &Position,
) -> Resumed {
    let whole = Resumed { behind: after.sequence, gap: false };
    let Some((oldest, first_run)) = kept.clone().next() else {
        return Resumed { behind: 0, gap: after.sequence > 0 };
    };
    let before = kept.clone().take_while(|(sequence, _)| *sequence <= after.sequence);
    if after.run.is_empty() {
        let last = kept.last().map_or(0, |(sequence, _)| sequence);
        // A number that is yet to come is not of this journal.
        return if after.sequence > last { Resumed { behind: 0, gap: true } } else { whole };
    }
    let of_run = before.filter(|(_, run)| *run == after.run).last();
    match of_run {
        Some((last, _)) if last == after.sequence => whole,
        Some((last, _)) => {
            let next = kept.clone().find(|(sequence, _)| *sequence > last);
            match next {
                // Between two of its run: only the event itself is not there.
                Some((_, run)) if run == after.run => whole,
                // The end of its run is lost, and others have its numbers.
                _ => Resumed { behind: last, gap: true },
            }
        }
        // All that are kept of its run are later.
        None if first_run == after.run => whole,
        None => Resumed { behind: oldest.saturating_sub(1), gap: true },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn position(sequence: u64, run: &str) -> Position {
        Position { sequence, run: run.into() }
    }

    fn at(kept: &[(u64, &str)], sequence: u64, run: &str) -> (u64, bool) {
        let Resumed { behind, gap } = resume(kept.iter().copied(), &position(sequence, run));
        (behind, gap)
    }

    #[test]
    fn a_position_is_a_sequence_and_a_run() {
        for text in ["7-3f2a91c0", "0", "18446744073709551615"] {
            let read: Position = text.parse().expect("a position");
            assert_eq!(read.to_string(), text);
        }
        for text in ["", "-1", "7-xyz", "7-3f2a91c03f2a91c03", "7 ", "18446744073709551616"] {
            assert!(text.parse::<Position>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_reader_goes_on_behind_the_event_that_it_names() {
        let kept = [(8, "a"), (9, "a"), (10, "b"), (11, "b")];
        assert_eq!(at(&kept, 9, "a"), (9, false));
        assert_eq!(at(&kept, 11, "b"), (11, false));
        assert_eq!(at(&kept, 9, ""), (9, false));
        // The reader sees that 8 does not follow 5.
        assert_eq!(at(&kept, 5, "a"), (5, false));
        assert_eq!(at(&kept, 5, ""), (5, false));
    }

    #[test]
    fn numbers_that_came_twice_are_told_apart() {
        // The former run had events up to 12; those from 10 on were not in the file after a crash.
        let kept = [(8, "a"), (9, "a"), (10, "b"), (11, "b")];
        assert_eq!(at(&kept, 12, "a"), (9, true));
        assert_eq!(at(&kept, 10, "a"), (9, true));
        // The file was lost as a whole.
        assert_eq!(at(&[(1, "c"), (2, "c")], 2, "a"), (0, true));
        assert_eq!(at(&[(5, "c"), (6, "c")], 2, "a"), (4, true));
        assert_eq!(at(&[(1, "c")], 7, ""), (0, true));
        assert_eq!(at(&[], 7, "a"), (0, true));
        assert_eq!(at(&[], 0, ""), (0, false));
        // An event that is missing in the middle of its run.
        assert_eq!(at(&[(5, "a"), (7, "a")], 6, "a"), (6, false));
    }

    /// Sequences with their runs.
    type Numbers = Vec<(u64, String)>;

    /// Generates the events of several runs, those that are kept, and whether runs lost their last ones.
    fn journals() -> impl Strategy<Value = (Numbers, Numbers, bool)> {
        let runs = prop::collection::vec((1..6usize, 0..4usize), 1..5);
        (runs, 0..6usize).prop_map(|(runs, dropped)| {
            let (mut told, mut kept, mut ends_lost) = (Numbers::new(), Numbers::new(), false);
            let all = runs.len();
            for (at, (count, lost)) in runs.into_iter().enumerate() {
                let first = kept.last().map_or(0, |(last, _)| *last) + 1;
                let events = (first..).take(count).map(|sequence| (sequence, format!("{at}")));
                let events: Vec<_> = events.collect();
                told.extend(events.iter().cloned());
                let lost = if at + 1 == all { 0 } else { lost };
                ends_lost |= lost > 0;
                kept.extend(events[..count.saturating_sub(lost)].iter().cloned());
            }
            kept.drain(..dropped.min(kept.len()));
            (told, kept, ends_lost)
        })
    }

    proptest! {
        /// Gives whoever comes back each later event that is kept, and once if any of its run is.
        #[test]
        fn nothing_is_skipped_and_a_loss_is_told((told, kept, ends_lost) in journals(), seen: prop::sample::Index) {
            let seen = seen.index(told.len());
            let after = position(told[seen].0, &told[seen].1);
            let kept_refs = kept.iter().map(|(sequence, run)| (*sequence, run.as_str()));
            let Resumed { behind, gap } = resume(kept_refs, &after);
            let got: Vec<_> = kept.iter().filter(|(sequence, _)| *sequence > behind).collect();
            let later: Vec<_> = told[seen + 1..].iter().filter(|event| kept.contains(event)).collect();
            prop_assert!(got.ends_with(&later));
            prop_assert!(got == later || gap && kept.iter().all(|(_, run)| *run != after.run));
            let is_lost = told[seen + 1..].iter().any(|event| !kept.contains(event));
            let jumps = got.first().is_some_and(|(sequence, _)| *sequence != behind + 1);
            // A loss at the end of a run that the reader has not seen is known to nobody.
            prop_assert!(ends_lost || !is_lost || gap || jumps);
        }
    }
}
