//! Between the screen and the daemon: what comes in, and what is asked for.

use std::net::IpAddr;

use crossterm::event::KeyEvent;

use super::{busy::FlowAnswer, prompt::Order};
use crate::{
    api::{drill::DrillUpdate, explain::FlowQuestion, status::Status},
    events::Event,
    flows::clients::ClientRecord,
    history::record::Point,
};

/// Something that happens.
#[derive(Debug)]
pub(super) enum Input {
    /// A key was pressed.
    Key(KeyEvent),
    /// The daemon said something, or failed to.
    News(News),
    /// Time has passed.
    Tick,
}

/// News of the daemon.
#[derive(Debug)]
pub(super) enum News {
    /// The status.
    Status(Box<Status>),
    /// Reason for which there is no status.
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
    /// Fate of a flow, in lines.
    Explained(Result<String, String>),
    /// Step of the drill.
    Drill(DrillUpdate),
    /// The drill was refused, or broke off.
    DrillFailed(String),
}

/// Something that the model wants done.
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
    Explain(Box<FlowQuestion>),
}

/// Conditions of the flows that are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    /// The uplink.
    pub(super) uplink: Option<String>,
    /// The host of the LAN.
    pub(super) client: Option<IpAddr>,
}

/// The subject of the next questions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Conditions of flows.
    pub(super) filter: Filter,
    /// Set if bytes are not counted, so that flows cannot be ordered by them.
    pub(super) without_bytes: bool,
}
