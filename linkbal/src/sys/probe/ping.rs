//! ICMP and ICMPv6 echo, each probe bound to its uplink's device and table.
//!
//! An answer counts only if it comes by the uplink's device from the target itself, with the
//! identifier of this daemon and uplink and the token of the probe, which nobody off the path can
//! guess.

use std::{
    collections::{HashMap, VecDeque},
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use linkbal_common::uplink::Family;
use socket2::{Domain, Protocol, SockRef, Type};
use tokio::{net::UdpSocket, sync::mpsc};

use super::{
    ProbePath, echo,
    failure::{Call, Meaning, classified, meaning},
    random, socket,
};
use crate::{config::Target, engine::Event};

/// Shortest time for which answers to a probe are recognised: late ones count for five seconds.
const RECOGNISED: Duration = Duration::from_secs(6);

/// A probe that awaits its answer.
#[derive(Clone, Copy, Debug)]
struct Probe {
    uplink: u32,
    target: IpAddr,
    round: u64,
}

/// The probes that await their answers, by token, for as long as they are recognised.
#[derive(Debug, Default)]
struct Outstanding {
    probes: HashMap<u64, Probe>,
    /// Tokens in the order in which they were sent, with the times until which they are recognised.
    order: VecDeque<(Instant, u64)>,
}

impl Outstanding {
    /// Adds a probe that is sent `now` and whose answer is waited for no longer than `limit`, and forgets
    /// those that are too old and those at the front that were answered.
    fn add(&mut self, token: u64, probe: Probe, now: Instant, limit: Duration) {
        while let Some((until, oldest)) = self.order.front() {
            if now > *until {
                self.probes.remove(oldest);
            } else if self.probes.contains_key(oldest) {
                break;
            }
            self.order.pop_front();
        }
        self.probes.insert(token, probe);
        let recognised = RECOGNISED.max(limit.saturating_add(Duration::from_secs(1)));
        self.order.push_back((now.checked_add(recognised).unwrap_or(now), token));
    }

    /// Takes out the probe that `received` answers.
    fn take(&mut self, received: &Received) -> Option<Probe> {
        let probe = self.probes.get(&received.token)?;
        if probe.target != received.source || probe.uplink != received.uplink {
            return None;
        }
        self.probes.remove(&received.token)
    }
}

/// A sender of echo requests, which also receives their replies.
pub(super) struct Pinger {
    sockets: HashMap<(u32, Family), Bound>,
    outstanding: Outstanding,
    first_id: u16,
    received: mpsc::UnboundedSender<Received>,
    answers: mpsc::UnboundedReceiver<Received>,
}

struct Bound {
    ifindex: u32,
    socket: Arc<UdpSocket>,
    reader: tokio::task::JoinHandle<()>,
}

impl Drop for Bound {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

struct Received {
    uplink: u32,
    source: IpAddr,
    token: u64,
}

impl Default for Pinger {
    fn default() -> Pinger {
        let (received, answers) = mpsc::unbounded_channel();
        Pinger {
            sockets: HashMap::new(),
            outstanding: Outstanding::default(),
            first_id: random() as u16,
            received,
            answers,
        }
    }
}

impl Pinger {
    /// Asks one target, whose answer is waited for no longer than `limit`. An error is the network's or the kernel's, and means that there will be no
    /// answer.
    ///
    /// # Errors
    ///
    /// If the socket cannot be made, or the probe cannot be sent.
    pub(super) fn send(
        &mut self,
        path: ProbePath,
        round: u64,
        address: IpAddr,
        limit: Duration,
    ) -> Result<()> {
        let ProbePath { uplink, family, ifindex, .. } = path;
        let probe = Probe { uplink, target: address, round };
        let key = (uplink, family);
        if self.sockets.get(&key).is_some_and(|bound| bound.ifindex != ifindex) {
            self.sockets.remove(&key);
        }
        if !self.sockets.contains_key(&key) {
            let bound = self.open(path)?;
            self.sockets.insert(key, bound);
        }
        let token = random();
        let message = echo::request(family, self.id(probe.uplink), probe.round as u16, token);
        let bound = &self.sockets[&key];
        let target = SocketAddr::new(probe.target, 0);
        // Not by tokio, which would first wait for a turn to learn that the socket is writable.
        let sent = SockRef::from(&*bound.socket).send_to(&message, &target.into());
        if let Err(error) = sent
            && meaning(Call::Send, error.raw_os_error()) != Meaning::Lost
        {
            if !matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES | libc::ENOMEM)) {
                // The device may be a new one under the same index or name: begin afresh next time.
                self.sockets.remove(&key);
            }
            return Err(classified(Call::Send, error, "failed to send a probe"));
        }
        self.outstanding.add(token, probe, Instant::now(), limit);
        Ok(())
    }

    /// Waits for the next answer to one of the probes.
    pub(super) async fn next(&mut self) -> Event {
        loop {
            // Never `None`: we hold a sender ourselves.
            let Some(received) = self.answers.recv().await else { continue };
            if let Some(answer) = self.accept(&received) {
                return answer;
            }
        }
    }

    /// Returns the next answer that has come already.
    pub(super) fn ready(&mut self) -> Option<Event> {
        while let Ok(received) = self.answers.try_recv() {
            if let Some(answer) = self.accept(&received) {
                return Some(answer);
            }
        }
        None
    }

    fn accept(&mut self, received: &Received) -> Option<Event> {
        let Probe { uplink, target, round } = self.outstanding.take(received)?;
        let family = if target.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 };
        Some(Event::ProbeAnswer { uplink, family, target: Target::Echo(target), round })
    }

    /// Returns the identifier of an uplink's probes. With one for all, connection tracking could
    /// not tell the uplinks of a shared interface apart, and would send out both with the address
    /// of the first.
    const fn id(&self, uplink: u32) -> u16 {
        self.first_id.wrapping_add(uplink as u16)
    }

    fn open(&self, path: ProbePath) -> Result<Bound> {
        let socket = open_socket(path).map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => {
                let need =
                    "failed to open a probe socket: linkbal needs the capability CAP_NET_RAW";
                classified(Call::Open, error, need)
            }
            _ => classified(Call::Open, error, "failed to open a probe socket"),
        })?;
        let socket = Arc::new(socket);
        let (id, received) = (self.id(path.uplink), self.received.clone());
        let read = read_answers(Arc::clone(&socket), id, path, received);
        Ok(Bound { ifindex: path.ifindex, socket, reader: tokio::spawn(read) })
    }
}

/// Opens a raw socket rather than an ICMP datagram one, which would need
/// `net.ipv4.ping_group_range`.
pub(super) fn open_socket(path: ProbePath) -> io::Result<UdpSocket> {
    let (domain, protocol) = match path.family {
        Family::Ipv4 => (Domain::IPV4, Protocol::ICMPV4),
        Family::Ipv6 => (Domain::IPV6, Protocol::ICMPV6),
    };
    let socket = socket::bound(path, domain, Type::RAW, Some(protocol))?;
    echo::receive_only_replies(&socket, path.family)?;
    // tokio has no raw sockets of its own; what it does with a UDP one fits a raw one as well.
    UdpSocket::from_std(socket.into())
}

async fn read_answers(
    socket: Arc<UdpSocket>,
    id: u16,
    path: ProbePath,
    received: mpsc::UnboundedSender<Received>,
) {
    let mut buffer = [0; 512];
    loop {
        // Errors such as "network is down" are the uplink's; the probes' silence says enough.
        let Ok((length, source)) = socket.recv_from(&mut buffer).await else { continue };
        if let Some(token) = echo::reply_token(path.family, &buffer[..length], id)
            && received.send(Received { uplink: path.uplink, source: source.ip(), token }).is_err()
        {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    const LIMIT: Duration = Duration::from_millis(500);

    fn probe(round: u64) -> Probe {
        Probe { uplink: 1, target: TARGET, round }
    }

    fn answer(token: u64) -> Received {
        Received { uplink: 1, source: TARGET, token }
    }

    #[test]
    fn many_uplinks_asked_often_push_out_no_probe_that_may_be_answered() {
        let begin = Instant::now();
        let mut outstanding = Outstanding::default();
        // 16 uplinks, two families and four targets, each 20 ms.
        let rounds = 150;
        for round in 0..rounds {
            let now = begin + Duration::from_millis(20) * round;
            for probes in 0..128 {
                outstanding.add(u64::from(round) << 8 | probes, probe(round.into()), now, LIMIT);
            }
        }
        assert_eq!(outstanding.take(&answer(7)).map(|probe| probe.round), Some(0), "after 3 s");
        assert!(outstanding.take(&answer(7)).is_none(), "once");
        assert!(outstanding.take(&Received { uplink: 2, ..answer(8) }).is_none());
    }

    #[test]
    fn an_answer_that_is_waited_for_long_is_recognised_for_as_long() {
        let begin = Instant::now();
        let mut outstanding = Outstanding::default();
        outstanding.add(1, probe(1), begin, Duration::from_secs(20));
        outstanding.add(2, probe(2), begin + Duration::from_secs(19), LIMIT);
        assert!(outstanding.take(&answer(1)).is_some());
    }

    #[test]
    fn answered_and_old_probes_are_forgotten() {
        let begin = Instant::now();
        let mut outstanding = Outstanding::default();
        for token in 0..10_000 {
            outstanding.add(token, probe(token), begin, LIMIT);
            assert!(outstanding.take(&answer(token)).is_some());
        }
        assert!(outstanding.order.len() <= 1, "{}", outstanding.order.len());
        (0..100).for_each(|token| outstanding.add(token, probe(token), begin, LIMIT));
        let later = begin + RECOGNISED + Duration::from_millis(1);
        outstanding.add(100, probe(100), later, LIMIT);
        assert_eq!((outstanding.probes.len(), outstanding.order.len()), (1, 1));
        assert!(outstanding.take(&answer(99)).is_none());
    }
}
