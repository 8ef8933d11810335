//! Drills: drops the packets of an uplink, and counts what happens. The engine has to detect the outage
//! all the same; it is told so that it puts the outage down to the drill.

// Input from outside must not stop the daemon.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use std::time::Duration;

use linkbal_common::{
    drill,
    mark::MarkMask,
    uplink::{Family, family_slot},
};
use tokio::sync::mpsc;

use super::{Daemon, warn_of};
use crate::{
    api::{
        admin::RequestError,
        drill::{DrillOutcome, DrillRequest, DrillUpdate, Updates},
    },
    engine::{
        Event, Report,
        health::{State, Transition, reason::Reasons},
        kernel::desired,
    },
    sys::{datapath::drill::BlackHole, reset::ResetSummary},
};

/// Shortest and longest duration of a drill.
const TIMES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(600)];

/// Longest time to wait until the uplink is up again.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(60);

/// A drill under way.
#[derive(Debug)]
pub(super) struct RunningDrill {
    uplink: String,
    index: u32,
    began: Duration,
    /// Time at which the black hole ends; afterwards, time at which waiting for the uplink ends.
    due: Duration,
    /// The black hole; `None` once it is over.
    hole: Option<BlackHole>,
    /// Families that were up, each with whether it is up now, and when it was found down.
    families: Vec<(Family, bool, Option<Duration>)>,
    dropped_before: u64,
    moved_before: u64,
    /// Connections of clients that were reset, and those among them whose client was silent.
    resets: (u64, u64),
    updates: mpsc::UnboundedSender<DrillUpdate>,
}

impl RunningDrill {
    fn send(&self, update: DrillUpdate) {
        // The client may have disconnected, which ends the drill anyway.
        let _ = self.updates.send(update);
    }

    fn ms(&self, now: Duration) -> u64 {
        ms(now.saturating_sub(self.began))
    }

    /// Returns the name of the uplink.
    pub(super) fn uplink(&self) -> &str {
        &self.uplink
    }

    /// Returns the name of the uplink, as long as it passes no packets.
    pub(super) fn on(&self) -> Option<&str> {
        self.hole.as_ref().map(|_| self.uplink.as_str())
    }

    /// Returns whether the drill is over, and all families are up again.
    fn is_done(&self) -> bool {
        self.hole.is_none() && self.families.iter().all(|(_, up, _)| *up)
    }

    /// Records that the uplink changed its state.
    fn changed(&mut self, family: Family, change: Transition, reason: &Reasons, now: Duration) {
        for (known, up, found_down) in &mut self.families {
            if *known == family {
                *up = change.to == State::Up;
                if change.to == State::Down && self.hole.is_some() {
                    found_down.get_or_insert(now.saturating_sub(self.began));
                }
            }
        }
        self.send(DrillUpdate::Changed {
            at_ms: self.ms(now),
            family: family.name().to_owned(),
            from: change.from,
            to: change.to,
            reason: reason.to_string(),
        });
    }
}

/// Waits until the client of the drill under way has disconnected.
pub(super) async fn abandoned(drill: Option<&RunningDrill>) {
    match drill {
        Some(drill) => drill.updates.closed().await,
        None => std::future::pending().await,
    }
}

impl Daemon {
    /// Begins a drill.
    pub(super) fn begin_drill(&mut self, request: DrillRequest) -> Result<Updates, RequestError> {
        if self.is_reloading() {
            return Err(RequestError::NotPossible("a reload is under way".to_owned()));
        }
        let families = self.check_drill(&request)?;
        let known = self.uplink_by_name(&request.uplink)?;
        let (indexed, snapshot) = (known.indexed(), self.engine.snapshot());
        let link = snapshot.and_then(|snapshot| snapshot.link(&indexed.config.interface)).cloned();
        let link =
            link.ok_or_else(|| RequestError::NotPossible("its interface is gone".to_owned()))?;
        let all = self.engine.uplinks().indexed();
        let mask = MarkMask(self.config.kernel.fwmark_mask);
        let address = |family| {
            self.datapath
                .uplink_address(family_slot(indexed.index, family))
                .map_err(RequestError::Failed)
        };
        let selection = drill::Drill {
            shared: u32::from(desired::shares_interface(&all, &indexed)),
            fwmark_mask: mask.number(),
            fwmark: mask.encode(indexed.index),
            ipv4: address(Family::Ipv4)?,
            ipv6: address(Family::Ipv6)?,
            ..drill::Drill::default()
        };
        let (updates, receiver) = mpsc::unbounded_channel();
        let now = self.now();
        let mut drill = RunningDrill {
            index: indexed.index,
            began: now,
            due: now.saturating_add(request.time),
            hole: None,
            families: families.iter().map(|family| (*family, true, None)).collect(),
            dropped_before: self.datapath.drilled().map_err(RequestError::Failed)?,
            moved_before: self.moved_from(indexed.index).map_err(RequestError::Failed)?,
            resets: (0, 0),
            uplink: request.uplink,
            updates,
        };
        let hole = self
            .datapath
            .install_black_hole(&link, selection, request.time)
            .map_err(RequestError::Failed)?;
        drill.hole = Some(hole);
        self.handle(Event::Drill { uplink: drill.index, on: true });
        drill.send(DrillUpdate::Began {
            time_ms: ms(request.time),
            families: families.iter().map(|family| family.name().to_owned()).collect(),
        });
        let time = humantime::format_duration(request.time);
        let reason = format!("nothing passes it for {time}, the administrator wants it so");
        self.report(&Report::Drill { uplink: drill.uplink.clone(), on: true, reason });
        self.drill = Some(drill);
        Ok(receiver)
    }

    /// Returns the families in which the uplink is up, unless the drill would do harm or show
    /// nothing.
    fn check_drill(&self, request: &DrillRequest) -> Result<Vec<Family>, RequestError> {
        let not_possible = |reason: String| Err(RequestError::NotPossible(reason));
        let index = self.uplink_by_name(&request.uplink)?.index;
        let [shortest, longest] = TIMES;
        if !(shortest..=longest).contains(&request.time) {
            return Err(RequestError::Invalid {
                at: "query time_ms".into(),
                what: "a drill takes from 1s to 10m".into(),
                help: "choose a time between these".into(),
            });
        }
        if let Some(drill) = &self.drill {
            return not_possible(format!("there is a drill of {} already", drill.uplink));
        }
        let up = self.engine.up();
        let is_up = |family: &Family| up.contains(index, *family);
        let families: Vec<_> = Family::ALL.into_iter().filter(is_up).collect();
        if families.is_empty() {
            return not_possible(format!(
                "{} is not up: a drill would show nothing",
                request.uplink
            ));
        }
        if let Some(missing) = self.missing_in_drill(index, &families).filter(|_| !request.force) {
            return not_possible(missing);
        }
        let alone = |family: &&Family| up.family(**family) == 1 << index;
        let alone: Vec<_> = families.iter().filter(alone).map(|family| family.name()).collect();
        if !alone.is_empty() && !request.force {
            return not_possible(format!(
                "no other uplink is up for {}: users would have none during the drill; \
                 `--force` does it all the same",
                alone.join(" and ")
            ));
        }
        Ok(families)
    }

    /// Returns why a drill would not show all families that an uplink has, if so.
    fn missing_in_drill(&self, index: u32, up: &[Family]) -> Option<String> {
        let uplink = self.engine.uplinks().by_index(index)?;
        let family = Family::ALL
            .into_iter()
            .find(|family| uplink.family(*family).is_some() && !up.contains(family))?;
        let reason = uplink.family(family)?.explain(self.now());
        let name = &uplink.config.name;
        let shown: Vec<&str> = up.iter().map(|family| family.name()).collect();
        Some(format!(
            "{name} is not up for {}, so that a drill would show {} alone: {reason}; try again when it \
             is up, or `--force` does it all the same",
            family.name(),
            shown.join(" and ")
        ))
    }

    /// Returns the time at which the drill under way has something to do.
    pub(super) fn drill_due(&self) -> Option<Duration> {
        self.drill.as_ref().map(|drill| drill.due)
    }

    /// Ends the drill if its time is over, and reports its result once the uplink is back.
    pub(super) fn handle_drill_timeout(&mut self, now: Duration) {
        let Some(drill) = &mut self.drill else { return };
        if drill.hole.is_some() && drill.due <= now {
            self.end_drill("its time is over", now);
        } else if drill.is_done() || (drill.hole.is_none() && drill.due <= now) {
            self.finish_drill(now);
        }
    }

    fn end_drill(&mut self, reason: &str, now: Duration) {
        let Some(drill) = &mut self.drill else { return };
        if let Some(hole) = drill.hole.take() {
            self.datapath.remove_black_hole(hole);
        }
        drill.due = now.saturating_add(RECOVERY_TIMEOUT);
        drill.send(DrillUpdate::Over { at_ms: drill.ms(now) });
        let (index, uplink, reason) = (drill.index, drill.uplink.clone(), reason.to_owned());
        self.handle(Event::Drill { uplink: index, on: false });
        self.report(&Report::Drill { uplink, on: false, reason });
    }

    /// Ends the drill, since its client has disconnected.
    pub(super) fn abandon_drill(&mut self) {
        if self.drill.as_ref().is_some_and(|drill| drill.hole.is_some()) {
            self.end_drill("its client disconnected", self.now());
        }
        self.drill = None;
    }

    /// Ends the drill at once, without waiting for the uplink: a configuration on trial is not confirmed, and
    /// whoever ordered both may have lost the gateway.
    pub(super) fn cut_drill(&mut self) {
        let now = self.now();
        if self.drill.as_ref().is_some_and(|drill| drill.hole.is_some()) {
            self.end_drill("the trial of a configuration is over", now);
        }
        self.finish_drill(now);
    }

    fn finish_drill(&mut self, now: Duration) {
        let Some(drill) = self.drill.take() else { return };
        let dropped = self.datapath.drilled();
        let moved = self.moved_from(drill.index);
        let (connections_reset, connections_silent) = drill.resets;
        let since = |counted: anyhow::Result<u64>, before: u64| {
            counted.map_or_else(
                |error| {
                    warn_of(Err(error));
                    0
                },
                |counted| counted.saturating_sub(before),
            )
        };
        let found =
            drill.families.iter().map(|(family, _, at)| (family.name().to_owned(), at.map(ms)));
        drill.send(DrillUpdate::Done(DrillOutcome {
            found_down_ms: found.collect(),
            up_again_ms: drill.is_done().then(|| drill.ms(now)),
            packets_dropped: since(dropped, drill.dropped_before),
            flows_moved: since(moved, drill.moved_before),
            connections_reset,
            connections_silent,
        }));
    }

    /// Passes a change of an uplink's state to the drill under way.
    pub(super) fn report_to_drill(&mut self, report: &Report) {
        let now = self.now();
        if let (Some(drill), Report::Uplink { uplink, family, transition, reason, .. }) =
            (&mut self.drill, report)
            && drill.uplink == *uplink
        {
            drill.changed(*family, *transition, reason, now);
        }
    }

    /// Records the outcome of resets.
    pub(super) fn on_reset_finished(&mut self, summary: ResetSummary) {
        if let Some(drill) = &mut self.drill
            && drill.index == summary.ended.uplink
        {
            drill.resets.0 = drill.resets.0.saturating_add(summary.clients as u64);
            drill.resets.1 = drill.resets.1.saturating_add(summary.silent as u64);
        }
    }

    /// Returns the number of flows that have moved to other uplinks than this one so far.
    fn moved_from(&self, index: u32) -> anyhow::Result<u64> {
        let counters = self.datapath.uplink_counters()?;
        let others = counters.iter().enumerate().filter(|(at, _)| *at != index as usize);
        Ok(others.map(|(_, counted)| counted.flows_moved_in).sum())
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
