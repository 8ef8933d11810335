//! Messages to people: news from the engine and the journal go to the receivers, and each message is
//! sent by a task of its own.

mod zone;

use std::{
    cmp::Reverse,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures::future::join_all;
use jiff::Timestamp;
use linkbal_common::{mark::MarkMask, uplink::Family};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use self::zone::LocalZone;
use super::{Daemon, rfc3339, trial::Trial};
use crate::{
    api::{
        admin::RequestError,
        notify::{ReceiverStatus, TestResult},
    },
    config::{Receiver, names_help},
    engine::{
        Report,
        admin::AdminState,
        health::{Health, KnownOutage, State},
    },
    events::{self, EventKind, severity::EventSeverity},
    notify::{
        digest::EventLine,
        outage::{OutageCause, Seen, Sighting, Tracker},
        outbox::{Outbox, OutboxSettings, SendOutcome, Turn},
        text::{self, Message, Surroundings},
    },
    sys::{
        notify::{Delivery, Failure, Route, Routes, Taken, deliver, gateway_name},
        probe::{ProbePath, Resolvers},
    },
};

/// All receivers, and what is under way to them.
pub(super) struct Notifications {
    tracker: Tracker,
    slots: Vec<Slot>,
    /// Both ends of the channel for results.
    ended: (mpsc::UnboundedSender<Ended>, mpsc::UnboundedReceiver<Ended>),
    /// Uplinks and families that were up when it was last looked.
    up: Vec<(String, Family)>,
    /// Zone of the times in messages.
    zone: LocalZone,
    /// Permit of a test.
    tests: Arc<Semaphore>,
}

/// A receiver.
struct Slot {
    receiver: Receiver,
    outbox: Outbox,
    /// Time of the last message that was sent, and the uplink.
    last: Option<(SystemTime, Option<String>)>,
    /// Recipients of a mail that the server did not accept the last time, each with its words.
    refused: Vec<String>,
}

/// The end of an attempt to send a message.
pub(super) struct Ended {
    receiver: String,
    delivery: Delivery,
}

fn settings(receiver: &Receiver) -> OutboxSettings {
    let Receiver { events, gather, limit, .. } = receiver;
    OutboxSettings { events: events.clone(), gather: *gather, limit: *limit }
}

impl Notifications {
    pub(super) fn new(receivers: &[Receiver]) -> Notifications {
        let mut notifications = Notifications {
            tracker: Tracker::default(),
            slots: Vec::new(),
            ended: mpsc::unbounded_channel(),
            up: Vec::new(),
            zone: LocalZone::new(),
            tests: Arc::new(Semaphore::new(1)),
        };
        notifications.set(receivers);
        notifications
    }

    /// Puts other receivers in force. One that has the same name keeps what waits for it.
    pub(super) fn set(&mut self, receivers: &[Receiver]) {
        if !receivers.is_empty() {
            self.zone.refresh();
        }
        let mut former = std::mem::take(&mut self.slots);
        for receiver in receivers {
            let known = former.iter().position(|slot| slot.receiver.name == receiver.name);
            let slot = match known.map(|at| former.swap_remove(at)) {
                Some(mut slot) => {
                    slot.outbox.set(settings(receiver));
                    Slot { receiver: receiver.clone(), ..slot }
                }
                None => {
                    let outbox = Outbox::new(settings(receiver));
                    Slot { receiver: receiver.clone(), outbox, last: None, refused: Vec::new() }
                }
            };
            self.slots.push(slot);
        }
    }

    /// Takes an event of the journal. Outages are seen by themselves, and nobody is told by messages that
    /// messages to him fail.
    pub(super) fn add(&mut self, event: &events::Event, now: Duration) {
        if matches!(event.kind, EventKind::Uplink | EventKind::Diagnosis) {
            return;
        }
        let is_warning = event.severity == EventSeverity::Warning;
        let own = |slot: &Slot| {
            event.kind == EventKind::Notify && event.object.as_ref() == Some(&slot.receiver.name)
        };
        for slot in self.slots.iter_mut().filter(|slot| !own(slot)) {
            let line = EventLine { at: now, text: event.headline(), is_warning };
            slot.outbox.add_line(event.kind.name(), line);
        }
    }

    /// Waits for the end of an attempt.
    pub(super) async fn next(&mut self) -> Option<Ended> {
        self.ended.1.recv().await
    }

    /// Returns the state of all receivers.
    pub(super) fn status(&self) -> Vec<ReceiverStatus> {
        let each = self.slots.iter().map(|slot| {
            let counts = slot.outbox.counts();
            ReceiverStatus {
                name: slot.receiver.name.clone(),
                kind: slot.receiver.to.kind().into(),
                sent: counts.sent,
                failed: counts.failed,
                dropped: counts.dropped,
                waiting: slot.outbox.waiting(),
                failing: slot.outbox.failing().map(str::to_owned),
                last_sent: slot.last.as_ref().map(|(time, _)| rfc3339(*time)),
                refused: slot.refused.clone(),
                last_by: slot.last.as_ref().and_then(|(_, by)| by.clone()),
            }
        });
        each.collect()
    }
}

impl Daemon {
    /// Looks at the uplinks, and sends what is due.
    pub(super) fn poll_notifications(&mut self, now: Duration) {
        if self.notifications.slots.is_empty() {
            return;
        }
        let sightings = self.sightings();
        let up: Vec<_> = sightings
            .iter()
            .filter(|sighting| sighting.seen == Seen::Up)
            .map(|sighting| (sighting.uplink.clone(), sighting.family))
            .collect();
        let is_new = up.iter().any(|each| !self.notifications.up.contains(each));
        self.notifications.up = up;
        let news = self.notifications.tracker.observe(now, &sightings);
        for slot in &mut self.notifications.slots {
            news.iter().for_each(|news| slot.outbox.add_outage(now, news));
            if is_new {
                slot.outbox.retry(now);
            }
        }
        self.send_notifications(now);
    }

    fn send_notifications(&mut self, now: Duration) {
        let is_due = |slot: &Slot| slot.outbox.due().is_some_and(|due| due <= now);
        if !self.notifications.slots.iter().any(is_due) {
            return;
        }
        let (routes, gateway, clock) = (self.routes(), gateway_name(), self.wall_clock());
        let mut up: Vec<&str> =
            self.notifications.up.iter().map(|(uplink, _)| uplink.as_str()).collect();
        up.dedup();
        let around = Surroundings { gateway: &gateway, now, clock: &clock, up };
        for slot in &mut self.notifications.slots {
            let Some(digest) = slot.outbox.take(now) else { continue };
            let message = text::message(digest, &around);
            let (to, routes) = (slot.receiver.to.clone(), routes.clone());
            let (receiver, ended) =
                (slot.receiver.name.clone(), self.notifications.ended.0.clone());
            tokio::spawn(async move {
                let delivery = deliver(to, message, routes).await;
                // The receiver of this is gone when the daemon ends.
                let _ = ended.send(Ended { receiver, delivery });
            });
        }
    }

    /// Handles the end of an attempt to send a message.
    pub(super) fn on_notification_ended(&mut self, ended: Ended) {
        let now = self.now();
        let Ended { receiver, delivery } = ended;
        let slots = &mut self.notifications.slots;
        let Some(slot) = slots.iter_mut().find(|slot| slot.receiver.name == receiver) else {
            return;
        };
        let outcome = match delivery {
            Delivery::Sent { by, taken: Taken { said, refused } } => {
                let route = by.as_deref().unwrap_or("no uplink");
                tracing::info!("message sent to {receiver} by {route}: {said}");
                if !refused.is_empty() && slot.refused != refused {
                    let refused = refused.join("; ");
                    tracing::warn!("the server of {receiver} refuses some recipients: {refused}");
                }
                slot.refused = refused;
                slot.last = Some((SystemTime::now(), by));
                SendOutcome::Sent
            }
            Delivery::Failed(Failure { text, public }) => {
                tracing::info!("a message to {receiver} failed: {text}");
                SendOutcome::Failed(public)
            }
            Delivery::NoWay => SendOutcome::NoWay,
        };
        let failure = match slot.outbox.done(now, outcome) {
            None => return,
            Some(Turn::Working) => None,
            Some(Turn::Failing(reason)) => Some(reason),
        };
        self.report(&Report::Receiver { name: receiver, failure });
    }

    /// Sends a test to a receiver, or to all, and answers with what became of it.
    pub(super) fn test_receivers(
        &self,
        name: Option<&str>,
        answer: oneshot::Sender<Result<Vec<TestResult>, RequestError>>,
    ) {
        let prepared = self.tested(name).and_then(|tested| Ok((tested, self.test_permit()?)));
        let (tested, permit) = match prepared {
            Ok(prepared) => prepared,
            // The client may have disconnected.
            Err(refused) => return drop(answer.send(Err(refused))),
        };
        let (routes, gateway, clock) = (self.routes(), gateway_name(), self.wall_clock());
        let around = Surroundings { gateway: &gateway, now: self.now(), clock: &clock, up: vec![] };
        let each = tested.into_iter().map(|receiver| {
            let message = text::trial(&receiver.name, &around);
            try_receiver(receiver.clone(), message, routes.clone())
        });
        let each: Vec<_> = each.collect();
        tokio::spawn(async move {
            let _ = answer.send(Ok(join_all(each).await));
            drop(permit);
        });
    }

    fn tested(&self, name: Option<&str>) -> Result<Vec<&Receiver>, RequestError> {
        let all: Vec<&Receiver> =
            self.notifications.slots.iter().map(|slot| &slot.receiver).collect();
        let Some(name) = name else { return Ok(all) };
        let names: Vec<&str> = all.iter().map(|receiver| receiver.name.as_str()).collect();
        let help = if names.is_empty() {
            "the configuration has no [notify.NAME]".into()
        } else {
            names_help(name, "the receivers", &names)
        };
        match all.into_iter().find(|receiver| receiver.name == name) {
            Some(receiver) => Ok(vec![receiver]),
            None => Err(RequestError::Invalid {
                at: "query receiver".into(),
                what: format!("there is no receiver {name:?}"),
                help,
            }),
        }
    }

    fn test_permit(&self) -> Result<OwnedSemaphorePermit, RequestError> {
        let refused = |_| RequestError::TooMany("another test is under way: try again".into());
        Arc::clone(&self.notifications.tests).try_acquire_owned().map_err(refused)
    }

    /// Returns a function that converts times of the engine to those of the clock here. It knows the
    /// zone of the message before.
    fn wall_clock(&self) -> impl Fn(Duration) -> String + use<> {
        let (started, zone) = (self.started(), self.notifications.zone.get());
        self.notifications.zone.refresh();
        move |at| {
            let time = started.checked_add(at).and_then(|time| Timestamp::try_from(time).ok());
            let format = |time: Timestamp| {
                time.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
            };
            time.map(format).unwrap_or_default()
        }
    }
}

async fn try_receiver(receiver: Receiver, message: Message, routes: Routes) -> TestResult {
    let Receiver { name, to, .. } = receiver;
    let (sent, by, said) = match deliver(to, message, routes).await {
        Delivery::Sent { by, taken: Taken { said, refused } } => {
            let refused = refused.iter().map(|refused| format!("; refused: {refused}"));
            (true, by, said + &refused.collect::<String>())
        }
        Delivery::Failed(Failure { text, .. }) => (false, None, text),
        Delivery::NoWay => (false, None, "no uplink works".into()),
    };
    TestResult { receiver: name, sent, by, said }
}

impl Daemon {
    /// Returns the uplinks that are up, the best first, as routes for messages.
    fn routes(&self) -> Routes {
        let indexed = self.engine.uplinks().indexed();
        let resolvers = Resolvers::of(&self.config, &indexed);
        let doubtful = self.trial.as_ref().is_some_and(Trial::is_by_text);
        let mask = MarkMask(self.config.kernel.fwmark_mask);
        let mut uplinks: Vec<_> = self.engine.uplinks().iter().collect();
        uplinks.sort_by_key(|uplink| {
            let enabled = uplink.admin == AdminState::Enabled;
            (!enabled, uplink.config.tier, Reverse(uplink.config.weight))
        });
        let Some(snapshot) = self.engine.snapshot() else {
            let (routes, interfaces) = (Vec::new(), Default::default());
            return Routes { routes, interfaces, resolvers, doubtful };
        };
        let link = |interface: &str| snapshot.link(interface).map(|link| link.ifindex);
        let interfaces =
            uplinks.iter().filter_map(|uplink| link(&uplink.config.interface)).collect();
        let routes = uplinks.iter().flat_map(|uplink| {
            let ifindex = link(&uplink.config.interface);
            let up = Family::ALL.into_iter().filter(|family| {
                uplink.family(*family).is_some_and(|health| health.state() == State::Up)
            });
            let fwmark = mask.encode(uplink.index);
            up.filter_map(move |family| {
                let (index, ifindex) = (uplink.index, ifindex?);
                let (gateway, own) = (None, None);
                let path = ProbePath { uplink: index, family, ifindex, fwmark, gateway, own };
                Some(Route { uplink: uplink.config.name.clone(), path })
            })
        });
        Routes { routes: routes.collect(), interfaces, resolvers, doubtful }
    }

    /// Returns what is seen of all uplinks.
    fn sightings(&self) -> Vec<Sighting> {
        let each = self.engine.uplinks().iter().flat_map(|uplink| {
            let name = &uplink.config.name;
            let known = Family::ALL.map(|family| Some((family, uplink.family(family)?)));
            let only = known.iter().flatten().count() == 1;
            known.into_iter().flatten().map(move |(family, health)| Sighting {
                uplink: name.clone(),
                family,
                only,
                seen: seen(health),
                since: health.outage().map_or(health.since(), |outage| outage.since),
            })
        });
        each.collect()
    }
}

fn seen(health: &Health) -> Seen {
    match (health.state(), health.outage()) {
        // What is blocked on purpose is no news.
        _ if health.is_drilled() => Seen::Unwatched,
        (State::Up, _) => Seen::Up,
        (_, Some(outage)) => Seen::Down(cause(&outage)),
        _ => Seen::Unwatched,
    }
}

fn cause(outage: &KnownOutage<'_>) -> OutageCause {
    match outage.cause.filter(|_| outage.ready) {
        Some(cause) => OutageCause { brief: cause.brief().into(), advice: cause.words().into() },
        None => OutageCause { brief: outage.reason.to_string(), advice: String::new() },
    }
}
