//! The messages of one receiver: when the next one is sent, and what becomes of one that failed.

use std::{collections::VecDeque, mem, time::Duration};

use super::{
    digest::{Digest, EventLine},
    outage::OutageNews,
};

/// Time in which messages are counted for the limit.
const HOUR: Duration = Duration::from_secs(3600);

/// Pause after the first failure; it doubles with each further one, up to the maximum.
const RETRY_DELAY: Duration = Duration::from_secs(30);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(30 * 60);

/// Number of failures in a row after which the news are given up.
const MAX_FAILURES: u32 = 8;

/// Pause after an attempt for which there was no way at all.
const NO_WAY_PAUSE: Duration = Duration::from_secs(60);

/// The settings of a receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxSettings {
    /// Kinds of events that it is told of, `warning` or `all`.
    pub events: Vec<String>,
    /// Time for which news are gathered for one message.
    pub gather: Duration,
    /// Most messages within an hour, at least 1.
    pub limit: u32,
}

impl OutboxSettings {
    /// Returns whether it is told of events of a kind.
    fn wants(&self, kind: &str, is_warning: bool) -> bool {
        let has = |word: &str| self.events.iter().any(|known| known == word);
        has("all") || has(kind) || (is_warning && has("warning"))
    }
}

/// Result of an attempt to send a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendOutcome {
    /// The receiver has it.
    Sent,
    /// The message could not be sent, for this reason.
    Failed(String),
    /// No uplink works, so there was no way to send it.
    NoWay,
}

/// A change for those who look after the receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Messages fail from now on, for this reason.
    Failing(String),
    /// Messages arrive again.
    Working,
}

/// Numbers of messages since the daemon started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages that the receiver has.
    pub sent: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// News that were given up.
    pub dropped: u64,
}

/// The messages of a receiver.
#[derive(Debug)]
pub struct Outbox {
    settings: OutboxSettings,
    digest: Digest,
    /// News of the message that is under way.
    sending: Option<Digest>,
    /// Times at which the last messages were sent, at most as many as the limit.
    sent: VecDeque<Duration>,
    /// Number of failures in a row.
    failures: u32,
    not_before: Duration,
    counts: Counts,
    /// The last failure, until a message arrives.
    failing: Option<String>,
}

impl Outbox {
    /// Creates an empty one.
    pub fn new(settings: OutboxSettings) -> Outbox {
        Outbox {
            settings,
            digest: Digest::default(),
            sending: None,
            sent: VecDeque::new(),
            failures: 0,
            not_before: Duration::ZERO,
            counts: Counts::default(),
            failing: None,
        }
    }

    /// Puts other settings in force; what waits is kept, and a failure tried again at once.
    pub fn set(&mut self, settings: OutboxSettings) {
        self.settings = settings;
        self.not_before = Duration::ZERO;
    }

    /// Takes news of an outage.
    pub fn add_outage(&mut self, now: Duration, news: &OutageNews) {
        if self.settings.wants("uplink", true) {
            self.digest.add_outage(now, news);
        }
    }

    /// Takes another event.
    pub fn add_line(&mut self, kind: &str, line: EventLine) {
        if self.settings.wants(kind, line.is_warning) {
            self.digest.add_line(line);
        }
    }

    /// Tries again soon what could not be sent: something may work now. What else comes up is gathered.
    pub fn retry(&mut self, now: Duration) {
        self.not_before = self.not_before.min(now.saturating_add(self.settings.gather));
    }

    /// Returns the time at which the next message is to be sent, if there is one.
    pub fn due(&self) -> Option<Duration> {
        if self.sending.is_some() {
            return None;
        }
        let due = self.digest.due(self.settings.gather)?;
        Some(due.max(self.not_before).max(self.slot()))
    }

    /// Returns the time from which on the limit allows another message.
    fn slot(&self) -> Duration {
        let limit = usize::try_from(self.settings.limit).unwrap_or(usize::MAX).max(1);
        // The message that must be an hour old.
        let at = self.sent.len().checked_sub(limit);
        at.and_then(|at| self.sent.get(at)).map_or(Duration::ZERO, |at| at.saturating_add(HOUR))
    }

    /// Returns the news for a message, if one is due: [`Self::done`] must follow.
    pub fn take(&mut self, now: Duration) -> Option<&Digest> {
        if self.due()? > now {
            return None;
        }
        self.sending = Some(mem::take(&mut self.digest));
        self.sending.as_ref()
    }

    /// Ends an attempt to send a message.
    pub fn done(&mut self, now: Duration, outcome: SendOutcome) -> Option<Turn> {
        let sending = self.sending.take()?;
        match outcome {
            SendOutcome::Sent => self.arrived(now),
            SendOutcome::Failed(reason) => {
                self.digest.put_back(sending);
                self.failed(now, reason)
            }
            SendOutcome::NoWay => {
                self.digest.put_back(sending);
                self.not_before = now.saturating_add(NO_WAY_PAUSE);
                None
            }
        }
    }

    fn arrived(&mut self, now: Duration) -> Option<Turn> {
        self.sent.push_back(now);
        while self.sent.front().is_some_and(|at| at.saturating_add(HOUR) <= now) {
            self.sent.pop_front();
        }
        self.counts.sent = self.counts.sent.saturating_add(1);
        self.failures = 0;
        self.failing.take().map(|_| Turn::Working)
    }

    fn failed(&mut self, now: Duration, reason: String) -> Option<Turn> {
        self.counts.failed = self.counts.failed.saturating_add(1);
        let doubled = RETRY_DELAY.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(0));
        self.not_before = now.saturating_add(doubled.min(MAX_RETRY_DELAY));
        self.failures = self.failures.saturating_add(1);
        if self.failures >= MAX_FAILURES {
            self.failures = 0;
            let dropped = self.digest.give_up();
            self.counts.dropped = self.counts.dropped.saturating_add(dropped);
        }
        self.failing.replace(reason.clone()).is_none().then_some(Turn::Failing(reason))
    }

    /// Returns the numbers of messages.
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Returns the number of news that wait, with those under way.
    pub fn waiting(&self) -> u64 {
        let sending = self.sending.as_ref().map_or(0, Digest::len);
        self.digest.len().saturating_add(sending)
    }

    /// Returns the last failure, until a message arrives.
    pub fn failing(&self) -> Option<&str> {
        self.failing.as_deref()
    }
}
