//! Asks targets, each probe bound to its uplink's device and table.
//!
//! What cannot be the target's own answer to this very probe counts nothing: how each kind tells is
//! said in its module.

mod dns;
mod echo;
mod http;
mod names;
mod neighbour;
mod ping;
mod socket;
mod tcp;

use std::{net::IpAddr, sync::Arc, time::Duration};

use anyhow::Result;
use linkbal_common::uplink::Family;
use tokio::{sync::mpsc, task::JoinSet, time::timeout};

use self::{http::Http, ping::Pinger};
use crate::{config::Target, engine::Event};

/// The way that probes take.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// Index of the uplink.
    pub uplink: u32,
    /// Family of the probes.
    pub family: Family,
    /// The uplink's device.
    pub ifindex: u32,
    /// The uplink's fwmark.
    pub fwmark: u32,
    /// The uplink's gateway; none on point-to-point.
    pub gateway: Option<IpAddr>,
}

/// How a probe ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Answered,
    /// The target has no address of the family.
    NothingToAsk,
}

/// Sends probes and hears their answers.
pub struct Prober {
    pinger: Pinger,
    http: Arc<Http>,
    /// Probes that are conversations. Those of a prober that is dropped end.
    running: JoinSet<()>,
    ended: (mpsc::UnboundedSender<Event>, mpsc::UnboundedReceiver<Event>),
}

impl Prober {
    /// A prober that looks up names at `resolvers`, or at those of the system.
    pub fn new(resolvers: Option<Vec<IpAddr>>) -> Prober {
        Prober {
            pinger: Pinger::default(),
            http: Arc::new(Http::new(resolvers)),
            running: JoinSet::new(),
            ended: mpsc::unbounded_channel(),
        }
    }

    /// Asks targets; nobody waits for their answers longer than `limit`. That a probe could not be
    /// sent is told as an event.
    pub fn send(&mut self, path: Path, round: u64, targets: Vec<Target>, limit: Duration) {
        while self.running.try_join_next().is_some() {}
        for target in targets {
            if let Target::Echo(address) = target {
                if let Err(error) = self.pinger.send(path, round, address) {
                    self.tell(path, round, target, Err(error));
                }
                continue;
            }
            let (http, ended) = (Arc::clone(&self.http), self.ended.0.clone());
            self.running.spawn(async move {
                let asked = timeout(limit, ask(path, &target, &http, limit)).await;
                // The engine knows by itself when the time is over.
                if let Ok(result) = asked {
                    // The prober is gone when nobody listens.
                    let _ = ended.send(event(path, round, target, result));
                }
            });
        }
    }

    /// Waits for the end of a probe.
    pub async fn next(&mut self) -> Event {
        tokio::select! {
            event = self.pinger.next() => event,
            Some(event) = self.ended.1.recv() => event,
        }
    }

    fn tell(&self, path: Path, round: u64, target: Target, result: Result<Ended>) {
        // We hold the other end ourselves.
        let _ = self.ended.0.send(event(path, round, target, result));
    }
}

async fn ask(path: Path, target: &Target, http: &Http, limit: Duration) -> Result<Ended> {
    match target {
        // Echoes have a socket for all of them.
        Target::Echo(_) => Ok(Ended::NothingToAsk),
        Target::Tcp(address) => tcp::ask(path, *address).await,
        Target::Dns { server, name } => dns::ask(path, *server, name).await,
        Target::Http(page) => http.ask(path, page, limit).await,
        Target::Gateway => neighbour::ask(path).await,
    }
}

fn event(path: Path, round: u64, target: Target, result: Result<Ended>) -> Event {
    let Path { uplink, family, .. } = path;
    match result {
        Ok(Ended::Answered) => Event::ProbeAnswer { uplink, family, target, round },
        Ok(Ended::NothingToAsk) => Event::ProbeSkipped { uplink, family, target, round },
        Err(error) => {
            let reason = format!("{error:#}");
            Event::ProbeFailed { uplink, family, target, round, reason }
        }
    }
}

/// A number that nobody else can guess.
pub fn random() -> u64 {
    let mut bytes = [0; 8];
    // SAFETY: the kernel writes at most the 8 bytes of the array. It cannot fail for so few once
    // the machine has booted (getrandom(2)).
    unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    u64::from_ne_bytes(bytes)
}
