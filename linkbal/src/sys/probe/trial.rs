//! A trial of an uplink: whether pings, TCP, UDP and DNS pass by it, and packets of which size.
//!
//! Everything is sent by the uplink's device and table, as probes are, to its targets and
//! resolvers alone, all at the same time.

use std::{
    collections::BTreeSet,
    future::Future,
    net::{IpAddr, SocketAddr},
    os::fd::AsRawFd as _,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use futures::future::{join, join_all, join3};
use linkbal_common::uplink::Family;
use tokio::{net::UdpSocket, time::timeout};

use super::{
    ProbePath, ProbeResult, Resolvers, dns, echo, gateway_answers, http::Http, ntp, ping, random,
    socket, tcp,
};
use crate::{
    config::{Host, Target},
    engine::doctor::{Attempts, Tried},
    protocol::port,
};

/// Time for which an answer is waited for; a page may take longer.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(2);

/// Time for which answers to packets of all sizes are waited for.
const SIZE_TIMEOUT: Duration = Duration::from_secs(1);

/// Time that a page may take.
const PAGE_TIMEOUT: Duration = Duration::from_secs(5);

/// Number of times that something is asked before it counts as lost.
const ATTEMPTS: usize = 3;

/// Sizes of IP packets in bytes that lines carry: Ethernet, PPPoE, tunnels, and the least of IPv6.
const SIZES: [u32; 12] = [9000, 1500, 1492, 1480, 1476, 1460, 1454, 1440, 1420, 1400, 1340, 1280];

/// Ports where a host answers a connection, if only with a refusal.
const TCP_PORTS: [u16; 2] = [port::HTTPS, port::HTTP];

/// A name that exists for as long as the DNS does.
const NAME: &str = "a.root-servers.net";

/// Tries an uplink; takes a few seconds at most.
pub async fn try_uplink(
    path: ProbePath,
    targets: Vec<Target>,
    resolvers: Resolvers,
    device_mtu: u32,
) -> Tried {
    let servers = resolvers.servers(path.uplink, path.family).await;
    let of_family = |address: &IpAddr| address.is_ipv4() == (path.family == Family::Ipv4);
    // Those are not the line's.
    let beside = resolvers.beside(path.uplink, &servers).await;
    let of_line = |server: &IpAddr| of_family(server) && !beside.contains(server);
    let servers: Vec<IpAddr> = servers.into_iter().filter(of_line).collect();
    let hosts: BTreeSet<IpAddr> =
        targets.iter().filter_map(Target::address).filter(of_family).collect();
    let pinged: Vec<IpAddr> = targets
        .iter()
        .filter_map(|target| match target {
            Target::Echo(address) => Some(*address).filter(of_family),
            _ => None,
        })
        .collect();
    let gateway = async {
        match path.gateway {
            Some(_) => gateway_answers(path).await,
            None => None,
        }
    };
    let asking = join3(
        count(
            pinged.iter().map(|address| (address.to_string(), again(move || ping(path, *address)))),
        ),
        try_tcp(path, &targets, &hosts, &servers, resolvers.clone()),
        try_datagrams(path, &targets, &servers),
    );
    let sizes = try_sizes(path, &hosts, device_mtu);
    let sources = own_addresses(path, hosts.iter().chain(&servers));
    let ((gateway, path_mtu), (ping, tcp, (udp, dns))) = join(join(gateway, sizes), asking).await;
    Tried { gateway, ping, tcp, udp, dns, sources, device_mtu, path_mtu }
}

/// Returns the addresses that this machine has towards hosts by an uplink.
fn own_addresses<'a>(path: ProbePath, hosts: impl Iterator<Item = &'a IpAddr>) -> BTreeSet<IpAddr> {
    hosts.filter_map(|host| socket::source(path, *host).ok()).collect()
}

/// Counts what succeeds, of hosts by name.
async fn count<F: Future<Output = bool>>(all: impl Iterator<Item = (String, F)>) -> Attempts {
    let (names, asking): (Vec<String>, Vec<F>) = all.unzip();
    let all = join_all(asking).await;
    let answered = all.iter().filter(|answered| **answered).count();
    let silent = names.into_iter().zip(&all).filter(|(_, answered)| !**answered);
    let silent = silent.map(|(name, _)| name).collect();
    Attempts { asked: all.len(), answered, silent }
}

/// Tries something until it succeeds, a few times.
async fn again<F: Future<Output = Result<ProbeResult>>>(ask: impl Fn() -> F) -> bool {
    for _ in 0..ATTEMPTS {
        if let Ok(Ok(ProbeResult::Answered)) = timeout(TRIAL_TIMEOUT, ask()).await {
            return true;
        }
    }
    false
}

/// Tries TCP: targets at their ports, other hosts where they probably answer.
async fn try_tcp(
    path: ProbePath,
    targets: &[Target],
    hosts: &BTreeSet<IpAddr>,
    servers: &[IpAddr],
    resolvers: Resolvers,
) -> Attempts {
    let mut ends: BTreeSet<SocketAddr> = BTreeSet::new();
    let mut pages = Vec::new();
    for target in targets {
        match target {
            Target::Tcp(end) => ends.extend(Some(*end).filter(|end| hosts.contains(&end.ip()))),
            Target::Http(page) => match page.host {
                Host::Address(address) if !hosts.contains(&address) => {}
                _ => pages.push(page.clone()),
            },
            _ => {}
        }
    }
    if ends.is_empty() && pages.is_empty() {
        let hosts = hosts.iter().flat_map(|host| TCP_PORTS.map(|port| (*host, port)));
        let servers = servers.iter().map(|server| (*server, port::DNS));
        ends.extend(hosts.chain(servers).map(SocketAddr::from));
    }
    let http = Arc::new(Http::new(resolvers));
    let pages = pages.into_iter().map(|page| {
        let http = Arc::clone(&http);
        let name = Target::Http(page.clone()).to_string();
        // What the page says is another matter: the packets have passed.
        let asking = async move {
            let asked = timeout(PAGE_TIMEOUT, http.ask(path, page, PAGE_TIMEOUT)).await;
            asked.is_ok_and(|result| match result {
                Ok(result) => result == ProbeResult::Answered,
                Err(error) => super::WrongAnswer::kind(&error).is_some(),
            })
        };
        (name, asking)
    });
    let ends = ends.iter().map(|end| (end.to_string(), again(move || tcp::ask(path, *end))));
    let (ends, pages) = join(count(ends), count(pages)).await;
    sum(ends, pages)
}

fn sum(a: Attempts, b: Attempts) -> Attempts {
    Attempts {
        silent: [a.silent, b.silent].concat(),
        asked: a.asked.saturating_add(b.asked),
        answered: a.answered.saturating_add(b.answered),
    }
}

/// Tries UDP, DNS apart.
async fn try_datagrams(
    path: ProbePath,
    targets: &[Target],
    servers: &[IpAddr],
) -> (Attempts, Attempts) {
    let judged = targets.iter().filter(|target| target.judges(path.family));
    let mut queries: BTreeSet<(SocketAddr, String)> = BTreeSet::new();
    let mut times = BTreeSet::new();
    for target in judged {
        match target {
            Target::Dns { server, name } => queries.extend([(*server, name.clone())]),
            Target::Ntp(server) => times.extend([*server]),
            Target::Echo(_) | Target::Tcp(_) | Target::Http(_) | Target::Gateway => {}
        }
    }
    queries.extend(servers.iter().map(|server| ((*server, port::DNS).into(), NAME.to_owned())));
    let queries = queries.into_iter().map(|(server, name)| {
        (server.to_string(), again(move || dns::ask(path, server, name.clone())))
    });
    let times =
        times.into_iter().map(|server| (server.to_string(), again(move || ntp::ask(path, server))));
    join(count(times), count(queries)).await
}

/// Sends an echo request and waits for its answer.
async fn ping(path: ProbePath, address: IpAddr) -> Result<ProbeResult> {
    let socket = ping::open_socket(path)?;
    let (id, token) = (random() as u16, random());
    let request = echo::request(path.family, id, 1, token);
    socket.send_to(&request, SocketAddr::new(address, 0)).await?;
    let mut buffer = [0; 512];
    loop {
        let (length, source) = socket.recv_from(&mut buffer).await?;
        let reply = echo::reply_token(path.family, &buffer[..length], id);
        if source.ip() == address && reply == Some(token) {
            return Ok(ProbeResult::Answered);
        }
    }
}

/// Returns the largest packet, up to the MTU of the device, that a host answers to; `None` if none
/// is answered.
async fn try_sizes(path: ProbePath, hosts: &BTreeSet<IpAddr>, device_mtu: u32) -> Option<u32> {
    let sizes: BTreeSet<u32> =
        SIZES.into_iter().filter(|size| *size < device_mtu).chain([device_mtu]).collect();
    let each = hosts.iter().take(ATTEMPTS).map(|host| largest(path, *host, &sizes));
    join_all(each).await.into_iter().flatten().flatten().max()
}

/// Returns the largest packet that comes back from a host.
async fn largest(path: ProbePath, host: IpAddr, sizes: &BTreeSet<u32>) -> Result<Option<u32>> {
    let socket = ping::open_socket(path)?;
    forbid_fragments(&socket, path.family).context("failed to forbid fragments")?;
    let id = random() as u16;
    let tokens: Vec<(u64, u32)> = sizes.iter().map(|size| (random(), *size)).collect();
    let mut buffer = vec![0; usize::from(u16::MAX)];
    let mut largest = None;
    for _ in 0..ATTEMPTS {
        for (token, size) in tokens.iter().rev() {
            let request = echo::sized_request(path.family, id, *token, *size);
            // One that is too large for the device is not sent.
            let _ = socket.send_to(&request, SocketAddr::new(host, 0)).await;
        }
        let receiving = async {
            while largest != sizes.last().copied() {
                let (length, source) = socket.recv_from(&mut buffer).await?;
                let token = echo::reply_payload(path.family, &buffer[..length], id)
                    .and_then(|payload| payload.first_chunk().copied())
                    .map(u64::from_be_bytes);
                let known = tokens.iter().find(|(known, _)| Some(*known) == token);
                if let Some((_, size)) = known.filter(|_| source.ip() == host) {
                    largest = largest.max(Some(*size));
                }
            }
            Ok::<(), std::io::Error>(())
        };
        if timeout(SIZE_TIMEOUT, receiving).await.is_ok() {
            break;
        }
    }
    Ok(largest)
}

/// Makes a socket send packets whole or not at all, whatever the kernel knows of the path.
fn forbid_fragments(socket: &UdpSocket, family: Family) -> std::io::Result<()> {
    let (level, option, value) = match family {
        Family::Ipv4 => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE),
        Family::Ipv6 => (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE),
    };
    // SAFETY: the kernel reads as many bytes as the number has.
    let status = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    if status == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
