//! A provider that answers probes in place of their targets: first in ways that no target would,
//! then, once it is told to be honest, with every answer several times.

use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use linkbal_lab::namespace::Namespace;
use linkbal_lab::topology::Lab;
use linkbal_lab::topology::plan::{self, Family};
use socket2::{Domain, Protocol, Socket, Type};

/// Number of times that an honest answer is sent.
const REPEATS: usize = 3;
/// Time between two checks of a forger whether to end.
const TURN: Duration = Duration::from_millis(50);
const DNS: u16 = 53;
const FORGER: u16 = 5353;

/// The state of a forger, shared with its threads.
#[derive(Default)]
pub(super) struct Answers {
    honest: AtomicBool,
    ended: AtomicBool,
    forged: AtomicUsize,
}

impl Answers {
    /// Returns the number of forged answers that were sent.
    pub(super) fn forged(&self) -> usize {
        self.forged.load(Ordering::Relaxed)
    }

    pub(super) fn become_honest(&self) {
        self.honest.store(true, Ordering::Relaxed);
    }

    fn is_honest(&self) -> bool {
        self.honest.load(Ordering::Relaxed)
    }

    fn count(&self) {
        self.forged.fetch_add(1, Ordering::Relaxed);
    }
}

/// Threads that end with the forger.
struct Threads {
    answers: Arc<Answers>,
    threads: Vec<JoinHandle<()>>,
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.answers.ended.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// A forger that answers DNS queries to any server.
pub(super) struct DnsForger(Threads);

impl DnsForger {
    pub(super) fn start(lab: &Lab, uplink: usize) -> Self {
        let provider = &lab.uplinks[uplink].provider;
        redirect(provider, &format!("udp dport {DNS} redirect to :{FORGER}"));
        let answers = Arc::new(Answers::default());
        let _entered = provider.enter().unwrap();
        let threads = Family::ALL.map(|family| {
            let own = plan::nexthop(family, uplink);
            let [socket, stranger] = [FORGER, 0].map(|port| {
                let socket = UdpSocket::bind(SocketAddr::new(own, port)).unwrap();
                socket.set_read_timeout(Some(TURN)).unwrap();
                socket
            });
            let answers = Arc::clone(&answers);
            thread::spawn(move || forge_dns(&socket, &stranger, &answers))
        });
        Self(Threads { answers, threads: threads.into() })
    }

    pub(super) fn answers(&self) -> &Answers {
        &self.0.answers
    }
}

fn forge_dns(socket: &UdpSocket, stranger: &UdpSocket, answers: &Answers) {
    let mut query = [0; 512];
    while !answers.ended.load(Ordering::Relaxed) {
        let Ok((length, client)) = socket.recv_from(&mut query) else { continue };
        let mut reply = query[..length].to_vec();
        // A response (RFC 1035 section 4.1.1): there is no such name.
        reply[2] |= 0x80;
        reply[3] = 3;
        if answers.is_honest() {
            for _ in 0..REPEATS {
                let _ = socket.send_to(&reply, client);
            }
            continue;
        }
        let [mut other_id, mut other_question] = [reply.clone(), reply.clone()];
        other_id[0] ^= 1;
        // One letter of the name.
        other_question[13] ^= 1;
        for forged in [&other_id[..], &other_question, &query[..length], &reply[..11]] {
            let _ = socket.send_to(forged, client);
            answers.count();
        }
        // The right reply, but for its sender.
        let _ = stranger.send_to(&reply, client);
        answers.count();
    }
}

/// A forger that answers IPv4 echo requests to the first server.
pub(super) struct EchoForger(Threads);

impl EchoForger {
    pub(super) fn start(lab: &Lab, uplink: usize) -> Self {
        let provider = &lab.uplinks[uplink].provider;
        provider.set_sysctl("net.ipv4.icmp_echo_ignore_all", "1").unwrap();
        let own = plan::nexthop(Family::V4, uplink);
        redirect(provider, &format!("ip daddr {} dnat ip to {own}", plan::server(Family::V4, 0)));
        let answers = Arc::new(Answers::default());
        let _entered = provider.enter().unwrap();
        let socket = echo_socket(own);
        // The provider's other address: connection tracking does not take it for the target's.
        let stranger = echo_socket(core_address(provider));
        let thread = thread::spawn({
            let answers = Arc::clone(&answers);
            move || forge_echoes(&socket, &stranger, &answers)
        });
        Self(Threads { answers, threads: vec![thread] })
    }

    pub(super) fn answers(&self) -> &Answers {
        &self.0.answers
    }
}

fn forge_echoes(socket: &Socket, stranger: &Socket, answers: &Answers) {
    const IP_HEADER: usize = 20;
    const REQUEST: u8 = 8;
    let mut buffer = [MaybeUninit::new(0); 128];
    while !answers.ended.load(Ordering::Relaxed) {
        let Ok((length, client)) = socket.recv_from(&mut buffer) else { continue };
        // SAFETY: all bytes were initialised when the buffer was made.
        let packet = buffer[..length].iter().map(|byte| unsafe { byte.assume_init() });
        let mut reply: Vec<u8> = packet.skip(IP_HEADER).collect();
        if reply.first() != Some(&REQUEST) {
            continue;
        }
        reply[0] = 0;
        if answers.is_honest() {
            for _ in 0..REPEATS {
                let _ = socket.send_to(&with_checksum(&reply), &client);
            }
            continue;
        }
        let mut other_token = reply.clone();
        *other_token.last_mut().unwrap() ^= 1;
        for forged in [with_checksum(&other_token), with_checksum(&reply[..12]), reply.clone()] {
            let _ = socket.send_to(&forged, &client);
            answers.count();
        }
        let _ = stranger.send_to(&with_checksum(&reply), &client);
        answers.count();
    }
}

/// Returns a copy with the checksum of RFC 1071.
fn with_checksum(message: &[u8]) -> Vec<u8> {
    let mut message = message.to_vec();
    message[2..4].fill(0);
    let words = message.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let sum = !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap();
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

fn echo_socket(own: IpAddr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)).unwrap();
    socket.bind(&SocketAddr::new(own, 0).into()).unwrap();
    socket.set_read_timeout(Some(TURN)).unwrap();
    socket
}

fn core_address(provider: &Namespace) -> IpAddr {
    let text = provider.run("ip", &["-4", "-brief", "address", "show", "dev", "core0"]).unwrap();
    let address = text.split_whitespace().nth(2).and_then(|word| word.split('/').next()).unwrap();
    address.parse().unwrap()
}

fn redirect(provider: &Namespace, rule: &str) {
    let chain = "type nat hook prerouting priority dstnat;";
    let table = format!("table inet forger {{ chain prerouting {{ {chain} {rule}; }}\n}}");
    provider.load_nft(&table).unwrap();
}
