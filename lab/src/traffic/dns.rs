//! A real resolver, and a client that asks it.

use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::str::FromStr as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RData, RecordType};
use tempfile::TempDir;

use crate::namespace::{Namespace, Process};
use crate::topology::plan::Family;
use crate::wait;

/// Time that a reply may take on a machine that is busy with other things.
const LIMIT: Duration = Duration::from_secs(20);

/// The port of DNS servers.
const PORT: u16 = 53;

/// A running dnsmasq; dropping it ends it.
#[derive(Debug)]
pub struct Dnsmasq {
    _process: Process,
    _folder: TempDir,
}

impl Dnsmasq {
    /// Starts dnsmasq in `namespace` at port 53 of `address`, or of every address if there is none,
    /// with `lines` added to its configuration; it answers when this returns.
    ///
    /// # Errors
    /// When it cannot be started or does not answer.
    pub fn start(namespace: &Namespace, address: Option<IpAddr>, lines: &str) -> Result<Self> {
        let folder = TempDir::with_prefix("linkbal-dns-").context("failed to make a folder")?;
        let path = folder.path().join("dnsmasq.conf");
        let listen = address.map_or(String::new(), |address| {
            format!("bind-interfaces\nlisten-address={address}\n")
        });
        let own = "host-record=ready.test,192.0.2.1\nno-resolv\nno-hosts\nuser=root\npid-file=\n\
                   local-ttl=300\n";
        fs::write(&path, format!("{own}{listen}{lines}"))
            .context("failed to write the configuration of dnsmasq")?;
        let mut command = namespace.command("dnsmasq");
        command.arg("--keep-in-foreground").arg(format!("--conf-file={}", path.display()));
        let process = namespace.spawn(&mut command)?;
        let started = Self { _process: process, _folder: folder };
        let address = address.unwrap_or(IpAddr::from([127, 0, 0, 1]));
        let _entered = namespace.enter()?;
        wait::until("an answer of dnsmasq", LIMIT, || {
            Ok(ask(address, address, "ready.test.", Family::V4).ok().filter(|all| !all.is_empty()))
        })?;
        Ok(started)
    }
}

/// A client that sends queries all the time, until dropped.
#[derive(Debug)]
pub struct QueryLoop {
    answered: Arc<AtomicU64>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl QueryLoop {
    /// Asks `server` from `source` in `namespace`, with a `pause` after each answer.
    #[must_use]
    pub fn start(
        namespace: &Arc<Namespace>,
        source: IpAddr,
        server: IpAddr,
        pause: Duration,
    ) -> Self {
        let (stop, stopped) = channel();
        let answered = Arc::new(AtomicU64::new(0));
        let (namespace, count) = (Arc::clone(namespace), Arc::clone(&answered));
        let thread = thread::spawn(move || {
            let _entered = namespace.enter().expect("the lab's own namespace");
            while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                // A resolver that is silent, or refused, is asked again.
                if ask(source, server, "ready.test.", Family::V4).is_ok() {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Self { answered, stop: Some(stop), thread: Some(thread) }
    }

    /// Returns the number of queries that were answered.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }
}

impl Drop for QueryLoop {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Asks `server` from `source` for the addresses of `name`, once, from the namespace that the
/// calling thread is in.
///
/// # Errors
/// When no reply comes, or none to this query.
pub fn ask(source: IpAddr, server: IpAddr, name: &str, family: Family) -> Result<Vec<IpAddr>> {
    ask_at(source, SocketAddr::new(server, PORT), name, family)
}

/// Asks like [`ask`], but a server that needs a whole socket address, such as a link-local one.
///
/// # Errors
/// As [`ask`].
pub fn ask_at(
    source: IpAddr,
    server: SocketAddr,
    name: &str,
    family: Family,
) -> Result<Vec<IpAddr>> {
    let kind = match family {
        Family::V4 => RecordType::A,
        Family::V6 => RecordType::AAAA,
    };
    let socket = UdpSocket::bind(SocketAddr::new(source, 0)).context("failed to bind a socket")?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    let id = socket.local_addr()?.port();
    let mut query = Message::new(id, MessageType::Query, OpCode::Query);
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(Name::from_str(name)?, kind));
    socket.send_to(&query.to_vec()?, server).context("failed to send a query")?;
    let mut bytes = [0; 4096];
    let (size, _) = socket.recv_from(&mut bytes).context("failed to receive a reply")?;
    let reply = Message::from_vec(&bytes[..size]).context("failed to read a reply")?;
    ensure!(reply.metadata.id == id, "a reply to another query");
    let address = |data: &RData| match data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    };
    Ok(reply.answers.iter().filter_map(|record| address(&record.data)).collect())
}
