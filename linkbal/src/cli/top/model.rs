//! The state of the screen. Pure: keys and news lead to another state, and to what is to be done.

pub(super) mod keys;

use std::{collections::VecDeque, net::IpAddr, time::Duration};

use super::{
    busy::{Busy, BusyFlow, Key},
    cursor::Cursor,
    news::{Action, Filter, Input, News, Wanted},
    prompt::{Order, Prompt},
    trend::Trends,
};
use crate::{
    api::{
        drill::DrillUpdate,
        flows::ByteCounting,
        status::{Status, Uplink},
    },
    cli::{drill::readable, local_time::Zone, status::in_tiers},
    events::{Event, position::Position},
    flows::clients::ClientRecord,
};

/// Events that are kept.
const EVENTS: usize = 300;

/// Time that a remark stays, unless a key takes it away.
const REMARK: Duration = Duration::from_secs(20);

/// A part of the screen that keys are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Part {
    /// The uplinks.
    #[default]
    Uplinks,
    /// The busiest flows.
    Flows,
    /// The largest clients.
    Clients,
    /// The events.
    Events,
}

impl Part {
    /// All parts, in the order of the Tab key.
    pub(super) const ALL: [Part; 4] = [Part::Uplinks, Part::Flows, Part::Clients, Part::Events];
}

/// The daemon, as it was heard last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Link {
    /// Nothing was heard of it yet.
    #[default]
    Connecting,
    /// Each question is answered.
    Live,
    /// Silence.
    Lost {
        /// Time of its last answer.
        since: Duration,
        /// Reason.
        why: String,
    },
}

/// Something before all else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Dialog {
    /// The keys.
    Keys,
    /// A text.
    Text {
        /// Title.
        title: String,
        /// Lines, which are folded.
        text: String,
        /// Lines that have gone up.
        scroll: u16,
    },
    /// A question.
    Ask(Prompt),
}

/// A remark about what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Remark {
    /// The remark.
    pub(super) text: String,
    /// Set if something failed.
    pub(super) is_bad: bool,
    until: Duration,
}

/// The selections.
#[derive(Clone, Debug, Default)]
pub(super) struct Cursors {
    pub(super) uplinks: Cursor<String>,
    pub(super) flows: Cursor<Key>,
    pub(super) clients: Cursor<IpAddr>,
    pub(super) events: Cursor<(u64, String)>,
}

/// The state of the screen.
#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) now: Duration,
    pub(super) zone: Zone,
    pub(super) link: Link,
    pub(super) status: Option<Status>,
    pub(super) heard: Duration,
    pub(super) trends: Trends,
    pub(super) busy: Busy,
    pub(super) clients: Vec<ClientRecord<'static>>,
    /// The newest first.
    pub(super) events: VecDeque<Event>,
    pub(super) focus: Part,
    /// The part below the uplinks where there is room for one.
    pub(super) pane: Part,
    pub(super) cursors: Cursors,
    pub(super) filter: Filter,
    pub(super) dialog: Option<Dialog>,
    /// The uplink of the drill that was ordered here, with what happened last.
    pub(super) drill: Option<(String, String)>,
    pub(super) remark: Option<Remark>,
}

impl Model {
    /// Creates the state before anything is known.
    pub(super) fn new(zone: Zone) -> Model {
        Model {
            now: Duration::ZERO,
            zone,
            link: Link::Connecting,
            status: None,
            heard: Duration::ZERO,
            trends: Trends::default(),
            busy: Busy::default(),
            clients: Vec::new(),
            events: VecDeque::new(),
            focus: Part::Uplinks,
            pane: Part::Flows,
            cursors: Cursors::default(),
            filter: Filter::default(),
            dialog: None,
            drill: None,
            remark: None,
        }
    }

    /// Takes in what happens at a time, and returns what is to be done.
    pub(super) fn update(&mut self, input: Input, now: Duration) -> Option<Action> {
        self.now = now;
        if self.remark.as_ref().is_some_and(|remark| remark.until <= now) {
            self.remark = None;
        }
        match input {
            Input::Key(key) => return keys::press(self, key),
            Input::News(news) => self.hear(news),
            Input::Tick => {}
        }
        None
    }

    /// Returns what is to be asked for next.
    pub(super) fn wanted(&self) -> Wanted {
        let bytes = self.busy.summary.map(|summary| summary.bytes);
        Wanted { filter: self.filter.clone(), without_bytes: bytes == Some(ByteCounting::Off) }
    }

    /// Returns the uplinks in the order of the screen.
    pub(super) fn uplinks(&self) -> Vec<&Uplink> {
        self.status.as_ref().map(in_tiers).unwrap_or_default()
    }

    /// Returns the selected uplink.
    pub(super) fn uplink(&self) -> Option<&Uplink> {
        let uplinks = self.uplinks();
        let at = self.cursors.uplinks.at(uplinks.iter().map(|uplink| uplink.name.clone()))?;
        uplinks.get(at).copied()
    }

    /// Returns the place of the selected flow.
    pub(super) fn flow_at(&self) -> Option<usize> {
        self.cursors.flows.at(self.busy.flows.iter().map(BusyFlow::key))
    }

    /// Returns the place of the selected client.
    pub(super) fn client_at(&self) -> Option<usize> {
        self.cursors.clients.at(self.clients.iter().map(|client| client.client))
    }

    /// Returns the place of the selected event.
    pub(super) fn event_at(&self) -> Option<usize> {
        self.cursors.events.at(self.events.iter().map(id))
    }

    /// Leaves a remark for a while.
    pub(super) fn say(&mut self, text: impl Into<String>, is_bad: bool) {
        let until = self.now.saturating_add(REMARK);
        self.remark = Some(Remark { text: text.into(), is_bad, until });
    }

    /// Shows a text before all else.
    pub(super) fn show(&mut self, title: impl Into<String>, text: impl Into<String>) {
        self.dialog = Some(Dialog::Text { title: title.into(), text: text.into(), scroll: 0 });
    }

    fn hear(&mut self, news: News) {
        match news {
            News::Status(status) => self.hear_status(*status),
            News::Silent(why) => {
                self.link = Link::Lost { since: self.heard, why };
            }
            News::Flows(answer) => self.busy.take(answer, self.now),
            News::Clients(clients) => self.clients = clients,
            News::History(points) => self.trends.add(&points),
            News::Event(event) => self.hear_event(*event),
            News::Done(Ok(said)) => self.say(said, false),
            News::Done(Err(refusal)) => self.say(refusal, true),
            News::Explained(Ok(text)) => {
                let (title, rest) = text.split_once('\n').unwrap_or((&text, ""));
                self.show(title, rest);
            }
            News::Explained(Err(refusal)) => self.say(refusal, true),
            News::Drill(update) => self.hear_drill(&update),
            News::DrillFailed(why) => {
                self.drill = None;
                self.say(why, true);
            }
        }
    }

    fn hear_status(&mut self, status: Status) {
        let before = self.status.as_ref().map(|before| (before.pid, before.started.clone()));
        if before.is_some_and(|before| before != (status.pid, status.started.clone())) {
            self.say(format!("linkbal was restarted; it is pid {} now", status.pid), false);
        }
        self.link = Link::Live;
        self.heard = self.now;
        self.status = Some(status);
    }

    /// Puts an event first, unless it is known: a reader that comes back may hear some again.
    fn hear_event(&mut self, event: Event) {
        if self.events.iter().any(|known| id(known) == id(&event)) {
            return;
        }
        self.events.push_front(event);
        self.events.truncate(EVENTS);
    }

    fn hear_drill(&mut self, update: &DrillUpdate) {
        let Some((uplink, last)) = &mut self.drill else { return };
        match update {
            DrillUpdate::Began { families, .. } => {
                *last = format!("nothing passes {uplink} ({}); t ends it", families.join(", "));
            }
            DrillUpdate::Done(_) => {
                let (title, text) = (format!("drill {uplink}"), readable(uplink, update));
                self.drill = None;
                self.show(title, text.trim_start());
            }
            _ => *last = readable(uplink, update).trim_start().to_owned(),
        }
    }

    /// Carries out what was said yes to.
    pub(super) fn order(&mut self, order: Order) -> Action {
        if let Order::Drill(request) = &order {
            self.drill = Some((request.uplink.clone(), "the drill begins".into()));
        }
        Action::Order(order)
    }
}

/// Returns what tells an event from others.
fn id(event: &Event) -> (u64, String) {
    let Position { sequence, run } = Position::of(event);
    (sequence, run)
}

#[cfg(test)]
mod tests;
