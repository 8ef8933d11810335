//! Probes of targets, each bound to its uplink's device and table.
//!
//! Only the target's own answer to a probe counts: the module of each kind says how it is
//! recognised. A probe that this machine could not send says nothing about the uplink: `failure`
//! has the meaning of each error.

mod dns;
mod echo;
mod failure;
mod http;
mod icmp;
mod neighbour;
mod ntp;
mod ping;
mod resolver;
mod socket;
mod tcp;
mod trial;

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::Result;
use futures::future::BoxFuture;
use linkbal_common::uplink::Family;
use socket2::SockRef;
use tokio::{
    net::TcpStream,
    sync::mpsc,
    task::JoinSet,
    time::{Timeout, timeout},
};

use self::{
    failure::{NotSent, WrongAnswer},
    http::Http,
    ping::Pinger,
};
pub use self::{neighbour::Mac, resolver::Resolvers, trial::try_uplink};
use crate::{config::Target, engine::Event};

/// Number of times that a gateway is asked: one request may be lost.
const GATEWAY_ATTEMPTS: usize = 3;

/// Time for which each answer of a gateway is waited for.
const GATEWAY_TIMEOUT: Duration = Duration::from_millis(400);

/// The path of a probe.
#[derive(Clone, Copy, Debug)]
pub struct ProbePath {
    /// Index of the uplink.
    pub uplink: u32,
    /// Family of the probes.
    pub family: Family,
    /// The uplink's device.
    pub ifindex: u32,
    /// The uplink's fwmark.
    pub fwmark: u32,
    /// The uplink's gateway; `None` on a point-to-point link.
    pub gateway: Option<IpAddr>,
    /// The uplink's own address; `None`: the kernel chooses one.
    pub own: Option<IpAddr>,
}

impl ProbePath {
    /// Returns the path of what is reached without an uplink.
    const fn without_uplink(self) -> ProbePath {
        ProbePath { ifindex: 0, fwmark: 0, gateway: None, own: None, ..self }
    }
}

/// The result of a probe that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProbeResult {
    Answered,
    /// The target has no address of the family.
    NoAddress,
}

/// Returns whether the bytes are an answer to an echo, to a query, or to a request for the time.
#[cfg(feature = "model")]
pub(super) fn is_answer(bytes: &[u8]) -> bool {
    let echo = |family| echo::reply_token(family, bytes, 7).is_some();
    let query = |family| dns::query(family, "example.org", 7);
    let reply = |family| query(family).is_ok_and(|query| dns::read_reply(bytes, &query).is_some());
    ntp::is_answer(bytes, 7) | Family::ALL.into_iter().any(|family| echo(family) | reply(family))
}

/// A sender of probes, which also receives their answers.
pub struct Prober {
    pinger: Pinger,
    http: Arc<Http>,
    /// Probes that are conversations. They end if the prober is dropped.
    running: JoinSet<()>,
    ended: (mpsc::UnboundedSender<Event>, mpsc::UnboundedReceiver<Event>),
}

impl Prober {
    /// Creates a prober that looks up names at `resolvers`.
    pub fn new(resolvers: Resolvers) -> Prober {
        Prober {
            pinger: Pinger::default(),
            http: Arc::new(Http::new(resolvers)),
            running: JoinSet::new(),
            ended: mpsc::unbounded_channel(),
        }
    }

    /// Sets other resolvers to look up names at from now on.
    pub fn set_resolvers(&mut self, resolvers: Resolvers) {
        self.http = Arc::new(Http::new(resolvers));
    }

    /// Sends a probe to each target; answers are waited for no longer than `limit`. A probe that
    /// could not be sent is reported as an event.
    pub fn send(&mut self, path: ProbePath, round: u64, targets: Vec<Target>, limit: Duration) {
        while self.running.try_join_next().is_some() {}
        for target in targets {
            let asking: BoxFuture<'static, Result<ProbeResult>> = match target.clone() {
                Target::Echo(address) => {
                    if let Err(error) = self.pinger.send(path, round, address, limit) {
                        // We hold the other end ourselves.
                        let _ = self.ended.0.send(event(path, round, target, Err(error)));
                    }
                    continue;
                }
                Target::Tcp(address) => Box::pin(tcp::ask(path, address)),
                Target::Dns { server, name } => Box::pin(dns::ask(path, server, name)),
                Target::Ntp(server) => Box::pin(ntp::ask(path, server)),
                Target::Http(page) => Box::pin(Arc::clone(&self.http).ask(path, page, limit)),
                Target::Gateway => Box::pin(neighbour::ask(path)),
            };
            self.converse(path, round, target, timeout(limit, asking));
        }
    }

    /// Asks the gateway of an uplink whether it is there, up to three times. Nothing comes of it if
    /// this machine cannot ask.
    pub fn ask_gateway(&mut self, path: ProbePath) {
        let ended = self.ended.0.clone();
        self.running.spawn(async move {
            let ProbePath { uplink, family, .. } = path;
            let Some(answers) = gateway_answers(path).await else { return };
            // The prober is gone if nobody listens.
            let _ = ended.send(Event::GatewayAsked { uplink, family, answers });
        });
    }

    /// Runs a probe beside the others.
    fn converse(
        &mut self,
        path: ProbePath,
        round: u64,
        target: Target,
        asking: Timeout<BoxFuture<'static, Result<ProbeResult>>>,
    ) {
        let ended = self.ended.0.clone();
        self.running.spawn(async move {
            // The engine knows by itself when the time is over.
            if let Ok(result) = asking.await {
                // The prober is gone if nobody listens.
                let _ = ended.send(event(path, round, target, result));
            }
        });
    }

    /// Waits for the end of a probe.
    pub async fn next(&mut self) -> Event {
        tokio::select! {
            event = self.pinger.next() => event,
            Some(event) = self.ended.1.recv() => event,
        }
    }

    /// Returns the end of a probe that has come already.
    pub fn ready(&mut self) -> Option<Event> {
        self.pinger.ready().or_else(|| self.ended.1.try_recv().ok())
    }
}

/// Opens a TCP connection by an uplink, for other purposes than a probe.
///
/// # Errors
///
/// If there is no way to the other end, it refuses, or this machine cannot ask.
pub(super) async fn connect(path: ProbePath, address: SocketAddr) -> Result<TcpStream> {
    let stream = socket::connect(path, address).await?;
    // What was sent is to arrive after the end.
    SockRef::from(&stream).set_linger(None)?;
    Ok(stream)
}

/// Looks up the addresses of a name by an uplink, in the family of its path, within `limit`; `None` if
/// this machine cannot ask, or only servers that no uplink leads to, which do not know.
///
/// # Errors
///
/// If the name cannot be resolved by this uplink.
pub(super) async fn look_up(
    resolvers: &Resolvers,
    path: ProbePath,
    name: &str,
    limit: Duration,
) -> Result<Option<Vec<IpAddr>>> {
    match resolvers.look_up(path, name, limit).await {
        Ok((addresses, _)) => Ok(Some(addresses)),
        Err(error) if NotSent::is(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn event(path: ProbePath, round: u64, target: Target, result: Result<ProbeResult>) -> Event {
    let ProbePath { uplink, family, .. } = path;
    match result {
        Ok(ProbeResult::Answered) => Event::ProbeAnswer { uplink, family, target, round },
        Ok(ProbeResult::NoAddress) => Event::ProbeSkipped { uplink, family, target, round },
        Err(error) if NotSent::is(&error) => {
            let reason = format!("{error:#}");
            Event::ProbeUnsent { uplink, family, target, round, reason }
        }
        Err(error) => {
            let reason = format!("{error:#}");
            let kind = WrongAnswer::kind(&error);
            Event::ProbeFailed { uplink, family, target, round, reason, kind }
        }
    }
}

/// Asks the gateway of an uplink; `None` if this machine cannot.
async fn gateway_answers(path: ProbePath) -> Option<bool> {
    for _ in 0..GATEWAY_ATTEMPTS {
        match timeout(GATEWAY_TIMEOUT, neighbour::ask(path)).await {
            Ok(Ok(result)) => return (result == ProbeResult::Answered).then_some(true),
            Ok(Err(_)) => return None,
            Err(_) => {}
        }
    }
    Some(false)
}

/// Asks a host on a link, by ARP or neighbour solicitation, in the name of the address `local`;
/// returns whether it could be asked and has answered. Waits for the answer without a limit.
/// Answers to ARP from the Ethernet addresses `own`, this machine's, do not count.
///
/// # Errors
///
/// If this machine cannot ask.
pub async fn neighbour_answers(
    ifindex: u32,
    neighbour: IpAddr,
    local: IpAddr,
    own: &BTreeSet<Mac>,
) -> Result<bool> {
    let result = neighbour::ask_from(ifindex, neighbour, local, own).await?;
    Ok(result == ProbeResult::Answered)
}

/// Returns a number that nobody else can guess.
pub fn random() -> u64 {
    // It cannot fail once the machine has booted (getrandom(2)).
    getrandom::u64().unwrap_or_default()
}
