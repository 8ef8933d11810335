//! Between the screen and the daemon: what comes in, and what is asked for.

use std::net::IpAddr;

use crossterm::event::KeyEvent;

use super::{busy::FlowAnswer, prompt::Order};
use crate::{
    api::{drill::Update, explain::Question, status::Status},
    events::Event,
    flows::clients::ClientRecord,
    history::record::Point,
};

/// What happens.
#[derive(Debug)]
pub(super) enum Input {
    /// A key was pressed.
    Key(KeyEvent),
    /// The daemon said something, or failed to.
    News(News),
    /// Time has passed.
    Tick,
}

/// What the daemon says.
#[derive(Debug)]
pub(super) enum News {
    /// The status.
    Status(Box<Status>),
    /// There was no status: the reason.
    Silent(String),
    /// The live flows.
    Flows(FlowAnswer),
    /// The largest clients.
    Clients(Vec<ClientRecord<'static>>),
    /// Points of the history.
    History(Vec<Point>),
    /// An event.
    Event(Box<Event>),
    /// Outcome of an order, in a sentence; an error, if it is refused.
    Done(Result<String, String>),
    /// What becomes of a flow, in lines.
    Explained(Result<String, String>),
    /// What happens in the drill.
    Drill(Update),
    /// The drill was refused, or broke off.
    DrillFailed(String),
}

/// What the model wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// To end.
    Quit,
    /// To be stopped by the shell, as by Ctrl-Z.
    Suspend,
    /// To draw everything anew.
    Redraw,
    /// To order something.
    Order(Order),
    /// To end the drill.
    EndDrill,
    /// To ask about a flow.
    Explain(Box<Question>),
}

/// What of the flows and clients is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    /// The uplink.
    pub(super) uplink: Option<String>,
    /// The host of the LAN.
    pub(super) client: Option<IpAddr>,
}

/// What is asked for next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Conditions of flows.
    pub(super) filter: Filter,
    /// Set if bytes are not counted, so that flows cannot be ordered by them.
    pub(super) without_bytes: bool,
}
