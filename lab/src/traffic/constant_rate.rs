//! Flows with a steady rate of numbered datagrams, each of which is counted.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};

use crate::namespace::Namespace;
use crate::topology::plan::{self, Family};
use crate::wait;

/// A port that no other server uses.
const PORT: u16 = 7007;
/// Size of the receive buffer, for datagrams that arrive while the receiver has to wait.
const RECEIVE_BUFFER: usize = 64 << 20;
/// A tenth of the time that [`ConstantRate::wait_for`] waits at most.
const LIMIT: Duration = Duration::from_secs(10);
/// Size of a datagram: the numbers of its flow and of itself.
const SIZE: usize = 16;

/// The datagrams of one flow that arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Counted {
    /// Number of datagrams that arrived.
    received: u64,
    /// The addresses they came from.
    peers: BTreeSet<SocketAddr>,
}

/// The result for all flows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LossReport {
    /// Number of datagrams sent.
    pub sent: u64,
    /// Number of datagrams that did not arrive.
    pub lost: u64,
    /// Number of flows that came from more than one address.
    pub moved: usize,
}

/// Flows from the LAN to the servers, until dropped.
#[derive(Debug)]
pub struct ConstantRate {
    ended: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    counted: Arc<Mutex<Vec<Counted>>>,
    threads: Vec<JoinHandle<()>>,
}

impl ConstantRate {
    /// Starts `flows` flows which together send `rate` datagrams each second.
    ///
    /// # Errors
    /// When a socket cannot be made.
    pub fn start(
        lan: &Arc<Namespace>,
        net: &Arc<Namespace>,
        flows: usize,
        rate: u32,
    ) -> Result<Self> {
        let ended = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicU64::new(0));
        let counted = Arc::new(Mutex::new(vec![Counted::default(); flows]));
        let receiver = receiver(net)?;
        let senders = senders(lan, flows)?;
        let (end, count) = (Arc::clone(&ended), Arc::clone(&counted));
        let receiving = thread::spawn(move || receive(&receiver, &count, &end));
        let (end, number) = (Arc::clone(&ended), Arc::clone(&sent));
        let sending = thread::spawn(move || send(&senders, rate, &number, &end));
        Ok(Self { ended, sent, counted, threads: vec![receiving, sending] })
    }

    /// Returns the number of datagrams sent so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Waits until `count` more datagrams were sent.
    ///
    /// # Errors
    /// When that takes too long.
    pub fn wait_for(&self, count: u64) -> Result<()> {
        let until = self.sent() + count;
        wait::until("datagrams", 10 * LIMIT, || Ok((self.sent() >= until).then_some(())))
    }

    /// Ends the flows and returns the result.
    ///
    /// # Panics
    /// When a thread has panicked.
    #[must_use]
    pub fn end(mut self) -> LossReport {
        self.ended.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("no thread panics");
        }
        let sent = self.sent();
        let counted = self.counted.lock().expect("no thread panics");
        let received = counted.iter().map(|flow| flow.received).sum::<u64>();
        let moved = counted.iter().filter(|flow| flow.peers.len() > 1).count();
        LossReport { sent, lost: sent - received, moved }
    }
}

impl Drop for ConstantRate {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

fn receiver(net: &Namespace) -> Result<UdpSocket> {
    let _entered = net.enter()?;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)).context("failed to bind")?;
    setsockopt(&socket, RcvBufForce, &RECEIVE_BUFFER)?;
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    Ok(socket)
}

fn senders(lan: &Namespace, flows: usize) -> Result<Vec<UdpSocket>> {
    let _entered = lan.enter()?;
    let open = |flow: usize| {
        let socket = UdpSocket::bind((plan::client(Family::V4, flow), 0))?;
        let server = plan::server(Family::V4, flow);
        socket.connect((server, PORT))?;
        Ok(socket)
    };
    (0..flows).map(open).collect()
}

/// Sends the datagrams that are due every millisecond, including those missed while the thread did
/// not run.
fn send(senders: &[UdpSocket], rate: u32, sent: &AtomicU64, ended: &AtomicBool) {
    let begun = Instant::now();
    let mut number = 0;
    while !ended.load(Ordering::Relaxed) {
        let due = (begun.elapsed().as_secs_f64() * f64::from(rate)) as u64;
        while number < due {
            let flow = number % senders.len() as u64;
            let mut datagram = [0; SIZE];
            datagram[..8].copy_from_slice(&flow.to_be_bytes());
            datagram[8..].copy_from_slice(&number.to_be_bytes());
            // A datagram that is refused did not arrive.
            let _ = senders[flow as usize].send(&datagram);
            number += 1;
            sent.store(number, Ordering::Relaxed);
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Counts datagrams until none arrives any more after the end.
fn receive(socket: &UdpSocket, counted: &Mutex<Vec<Counted>>, ended: &AtomicBool) {
    let mut datagram = [0; SIZE];
    loop {
        match socket.recv_from(&mut datagram) {
            Ok((SIZE, peer)) => {
                let flow = u64::from_be_bytes(datagram[..8].try_into().expect("eight bytes"));
                let mut counted = counted.lock().expect("no thread panics");
                if let Some(flow) = counted.get_mut(flow as usize) {
                    flow.received += 1;
                    flow.peers.insert(peer);
                }
            }
            Ok(_) => {}
            Err(_) if ended.load(Ordering::Relaxed) => return,
            Err(_) => {}
        }
    }
}
