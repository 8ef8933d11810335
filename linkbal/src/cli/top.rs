//! `linkbal top`: the gateway on a terminal, live.
//!
//! ```text
//! keys, answers of the daemon, time -> model (pure) -> what is to be done
//!                                        |
//!                                        v
//!                                      view (draws it)
//! ```
//!
//! Nothing waits for the daemon but the tasks that ask it, so that keys work whatever it does.

mod ask;
mod busy;
mod carry_out;
mod cursor;
mod model;
mod news;
mod prompt;
#[cfg(test)]
mod samples;
mod terminal;
mod trend;
mod view;

use std::{
    io::{IsTerminal as _, stdin, stdout},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use crossterm::event::{Event, EventStream, KeyEventKind};
use futures::StreamExt as _;
use hyper::Method;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, Interval, MissedTickBehavior, interval},
};

use self::{
    model::Model,
    news::{Action, Input, News, Wanted},
    prompt::Order,
    terminal::Screen,
    view::paint::Paint,
};
use super::local_time::Zone;
use crate::api::client::{self, Denied, NotRunning};

/// Answers that wait to be shown.
const QUEUE: usize = 64;

/// Longest time for the first answer; after it, the screen says that there is none.
const FIRST: Duration = Duration::from_secs(2);

/// Shows the gateway of the daemon behind a socket, until the user leaves.
///
/// # Errors
///
/// If this is no terminal, no daemon runs, or the user may not ask it.
pub(super) async fn run(socket: &Path) -> Result<()> {
    if !stdin().is_terminal() || !stdout().is_terminal() {
        bail!(
            "linkbal top needs a terminal; `linkbal status --watch` prints the status again and again"
        );
    }
    let first = client::request(socket, Method::GET, "/v1/status", FIRST).await;
    if let Err(error) = first
        && (error.is::<Denied>() || error.is::<NotRunning>())
    {
        return Err(error);
    }
    let screen = Screen::enter()?;
    // The terminal is as before when an error is printed.
    Edge::new(socket, screen)?.run().await
}

/// The outside: keys, signals, the daemon, and the screen.
struct Edge {
    socket: PathBuf,
    screen: Screen,
    paint: Paint,
    model: Model,
    began: Instant,
    keys: EventStream,
    ends: [Signal; 4],
    tick: Interval,
    news: mpsc::Receiver<News>,
    tell: mpsc::Sender<News>,
    wanted: watch::Sender<Wanted>,
    drill: Option<JoinHandle<()>>,
}

impl Edge {
    fn new(socket: &Path, screen: Screen) -> Result<Edge> {
        let (tell, news) = mpsc::channel(QUEUE);
        let (wanted, wishes) = watch::channel(Wanted::default());
        ask::start(socket, &tell, &wishes);
        let mut tick = interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let on = |kind| signal(kind).context("failed to watch for signals");
        let ends = [
            on(SignalKind::terminate())?,
            on(SignalKind::interrupt())?,
            on(SignalKind::hangup())?,
            on(SignalKind::quit())?,
        ];
        Ok(Edge {
            socket: socket.to_owned(),
            screen,
            paint: Paint::new(|name| std::env::var(name).ok()),
            model: Model::new(Zone::system()),
            began: Instant::now(),
            keys: EventStream::new(),
            ends,
            tick,
            news,
            tell,
            wanted,
            drill: None,
        })
    }

    /// Draws, waits for what happens, and goes on so until the user leaves.
    async fn run(mut self) -> Result<()> {
        loop {
            self.screen.draw(|frame| view::draw(frame, &self.model, self.paint))?;
            let Some(input) = self.next().await? else { return Ok(()) };
            let action = self.model.update(input, self.began.elapsed());
            if action == Some(Action::Quit) {
                return Ok(());
            }
            // What came meanwhile is drawn at once.
            while let Ok(news) = self.news.try_recv() {
                self.model.update(Input::News(news), self.began.elapsed());
            }
            let wanted = self.model.wanted();
            self.wanted.send_if_modified(|before| {
                let other = *before != wanted;
                *before = wanted;
                other
            });
            if let Some(action) = action {
                self.act(action)?;
            }
        }
    }

    /// Waits for what happens next; `None` at the end.
    async fn next(&mut self) -> Result<Option<Input>> {
        let [terminate, interrupt, hangup, quit] = &mut self.ends;
        let event = tokio::select! {
            event = self.keys.next() => event,
            Some(news) = self.news.recv() => return Ok(Some(Input::News(news))),
            _ = self.tick.tick() => return Ok(Some(Input::Tick)),
            _ = terminate.recv() => return Ok(None),
            _ = interrupt.recv() => return Ok(None),
            _ = hangup.recv() => return Ok(None),
            _ = quit.recv() => return Ok(None),
        };
        match event {
            // The terminal is gone.
            None => Ok(None),
            Some(Ok(Event::Key(key))) if key.kind != KeyEventKind::Release => {
                Ok(Some(Input::Key(key)))
            }
            Some(event) => event.context("failed to read keys").map(|_| Some(Input::Tick)),
        }
    }

    fn act(&mut self, action: Action) -> Result<()> {
        match action {
            // It was seen to before.
            Action::Quit => {}
            Action::Suspend => self.screen.suspend()?,
            Action::Redraw => self.screen.clear()?,
            Action::Order(Order::Drill(request)) => {
                self.end_drill();
                self.drill = Some(carry_out::drill(&self.socket, &self.tell, request));
            }
            Action::Order(Order::Admin { uplink, admin, now }) => {
                carry_out::admin(&self.socket, &self.tell, uplink, admin, now);
            }
            Action::EndDrill => self.end_drill(),
            Action::Explain(question) => carry_out::explain(&self.socket, &self.tell, *question),
        }
        Ok(())
    }

    /// Ends the drill: the daemon does so once nobody reads its answer.
    fn end_drill(&mut self) {
        if let Some(drill) = self.drill.take() {
            drill.abort();
        }
    }
}
