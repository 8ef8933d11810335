//! The tasks that ask the daemon again and again, and say what they hear.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};
use hyper::Method;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout},
};

use super::{
    busy::{FlowAnswer, owned},
    news::{Filter, News, Wanted},
    trend::Trends,
};
use crate::{
    api::{
        client::{self, Message},
        events::{EventsQuery, GAP},
        flows::FlowEnding,
        history::HistoryQuery,
    },
    cli::{
        clients,
        flow_query::{Bar, Conditions},
        leased::leased_names,
    },
    events::{Event, position::Position},
    flows::{clients::ClientRecord, leases::HostNames, query::FlowQuery, sort},
    history::record::Record,
    sys::host::thread,
};

/// Pause between two statuses.
const PAUSE: Duration = Duration::from_secs(1);

/// Longest time for a status: then the screen says that there is none.
const STATUS_TIMEOUT: Duration = Duration::from_secs(3);

/// Longest time for the flow table: it may be large.
const TABLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Least pause between two looks at the flow table or the history.
const TABLE_PAUSE: Duration = Duration::from_secs(2);

/// Times as long as a look at the flow table took, that nobody looks at it.
const REST: u32 = 5;

/// Flows and clients that are asked for.
const FLOWS: usize = 200;
const CLIENTS: usize = 100;

/// Time that names of leases are used before the files are read again.
const LEASES_PAUSE: Duration = Duration::from_secs(30);

/// Events that wait for the screen: more than the daemon keeps.
const EVENTS: usize = 2048;

/// The way to the screen.
type Tell = mpsc::Sender<News>;

/// Starts the tasks that ask again and again, until nobody listens.
pub(super) fn start(socket: &Path, tell: &Tell, wanted: &watch::Receiver<Wanted>) {
    tokio::spawn(statuses(socket.to_owned(), tell.clone()));
    tokio::spawn(tables(socket.to_owned(), tell.clone(), wanted.clone()));
    tokio::spawn(histories(socket.to_owned(), tell.clone()));
    tokio::spawn(follow_events(socket.to_owned(), tell.clone()));
}

async fn statuses(socket: PathBuf, tell: Tell) {
    loop {
        let asked = client::request(&socket, Method::GET, "/v1/status", STATUS_TIMEOUT).await;
        let read = asked.and_then(|text| client::read(&text));
        let news = match read {
            Ok(status) => News::Status(Box::new(status)),
            Err(error) => News::Silent(format!("{error:#}")),
        };
        if tell.send(news).await.is_err() {
            return;
        }
        sleep(PAUSE).await;
    }
}

/// Asks for flows and clients, one after the other, at once if something else is wanted.
async fn tables(socket: PathBuf, tell: Tell, mut wanted: watch::Receiver<Wanted>) {
    let mut names = Leases::default();
    loop {
        let wish = wanted.borrow_and_update().clone();
        let began = Instant::now();
        // Who asks for the status says what is wrong with the daemon.
        if let Ok(Ok(answer)) = timeout(TABLE_TIMEOUT, flows(&socket, &wish)).await
            && tell.send(News::Flows(answer)).await.is_err()
        {
            return;
        }
        if let Ok(Ok(clients)) = timeout(TABLE_TIMEOUT, largest(&socket, &mut names)).await
            && tell.send(News::Clients(clients)).await.is_err()
        {
            return;
        }
        let pause = began.elapsed().saturating_mul(REST).max(TABLE_PAUSE);
        tokio::select! {
            () = sleep(pause) => {}
            changed = wanted.changed() => if changed.is_err() { return },
        }
    }
}

async fn flows(socket: &Path, wanted: &Wanted) -> Result<FlowAnswer> {
    let Wanted { filter: Filter { uplink, client }, without_bytes } = wanted;
    let query = FlowQuery {
        uplink: uplink.clone(),
        client: client.map(|client| client.to_string()),
        sort: Some(if *without_bytes { sort::FlowOrder::Idle } else { sort::FlowOrder::Bytes }),
        // The least silent first.
        reverse: *without_bytes,
        limit: Some(FLOWS),
        progress: true,
        ..FlowQuery::default()
    };
    let mut answer = FlowAnswer::default();
    let each = |line: &str| {
        if line.starts_with("{\"summary\"") {
            let FlowEnding { summary } = client::read(line)?;
            answer.summary = Some(summary);
        } else if !line.starts_with("{\"progress\"") {
            answer.flows.push(owned(client::read(line)?));
        }
        Ok(ControlFlow::Continue(()))
    };
    client::stream(socket, Method::GET, &query.path("/v1/flows"), each).await?;
    Ok(answer)
}

async fn largest(socket: &Path, names: &mut Leases) -> Result<Vec<ClientRecord<'static>>> {
    let conditions = Conditions::default();
    let question =
        clients::ClientQuestion { conditions: &conditions, top: CLIENTS, resolve: false };
    let mut answer = clients::ask(socket, &question, &Bar::new(false)).await?;
    let names = names.get().await;
    for client in &mut answer.clients {
        client.name = names.get(&client.client).cloned();
    }
    Ok(answer.clients)
}

/// The names of DHCP leases, which are read now and then.
#[derive(Default)]
struct Leases {
    names: HostNames,
    read: Option<Instant>,
}

impl Leases {
    /// Returns the names. A file that hangs holds up its own thread.
    async fn get(&mut self) -> &HostNames {
        if self.read.is_none_or(|read| read.elapsed() >= LEASES_PAUSE) {
            self.read = Some(Instant::now());
            if let Ok(Ok(names)) =
                timeout(STATUS_TIMEOUT, thread::run("leases", leased_names)).await
            {
                self.names = names;
            }
        }
        &self.names
    }
}

/// Asks for the history of the last minutes, then for what is new.
async fn histories(socket: PathBuf, tell: Tell) {
    let mut known = Trends::default();
    loop {
        let since = known.since(SystemTime::now());
        let query = HistoryQuery::new(None, Some(since), false);
        let mut points = Vec::new();
        let each = |line: &str| {
            if let Record::Point(point) = client::read(line)? {
                points.push(point);
            }
            Ok(ControlFlow::Continue(()))
        };
        let path = query.path();
        let asked = client::stream(&socket, Method::GET, &path, each);
        if let Ok(Ok(())) = timeout(TABLE_TIMEOUT, asked).await {
            known.add(&points);
            if tell.send(News::History(points)).await.is_err() {
                return;
            }
        }
        sleep(TABLE_PAUSE).await;
    }
}

/// Follows the events; goes on behind the last one when the daemon is back.
async fn follow_events(socket: PathBuf, tell: Tell) {
    let mut last: Option<Position> = None;
    while !tell.is_closed() {
        let query = EventsQuery::default();
        let query = last.iter().fold(query, EventsQuery::behind);
        let (send, mut heard) = mpsc::channel(EVENTS);
        let each = |message: Message| {
            if message.name != GAP {
                let event: Event = client::read(&message.data)?;
                let position = Position::of(&event);
                // With no room, it comes again behind the last one that was taken.
                send.try_send(event).context("the screen is too slow")?;
                last = Some(position);
            }
            Ok(ControlFlow::Continue(()))
        };
        let path = query.path();
        let following = client::follow(&socket, &path, each);
        let telling = async {
            while let Some(event) = heard.recv().await {
                if tell.send(News::Event(Box::new(event))).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            // What it ends with is what the status says, too.
            _ = following => {}
            () = telling => {}
        }
        sleep(PAUSE).await;
    }
}
