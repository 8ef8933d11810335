//! Streams compared byte by byte: the kernels of both hosts check every checksum.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::thread;
use std::time::Duration;

use linkbal_lab::namespace::Namespace;
use linkbal_lab::namespace::offload::Offload;
use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{CLIENT_INTERFACE, CUSTOMER_INTERFACE, LAN_INTERFACE, Lab};
use linkbal_lab::traffic::{FlowSpec, Protocol};
use linkbal_lab::wait;
use serde_json::Value;
use socket2::{Domain, Socket, Type};

use super::start;
use crate::fixture::{Gateway, LIMIT};
use crate::shortcuts::taken;

const PORT: u16 = 9000;
/// Bytes that each end of a connection sends.
const BYTES: usize = 8 << 20;
/// Bytes that are sent at a time at the beginning.
const PIECE: usize = 1024;
/// Number of connections of each family.
const CONNECTIONS: usize = 3;
/// Number of datagrams that are sent at a time, and of such bursts.
const BURST: u64 = 32;
const BURSTS: u64 = 3000;
/// Time between two bursts: all together take a few seconds.
const PAUSE: Duration = Duration::from_millis(1);

/// Makes all ends compute checksums, where their kernels would leave that to a card. Only then the
/// receivers check them.
fn compute_all_checksums(lab: &Lab) {
    lab.lan.set_offload(CLIENT_INTERFACE, Offload::TxChecksum, false).unwrap();
    for uplink in &lab.uplinks {
        lab.net.set_offload(&uplink.spec.name, Offload::TxChecksum, false).unwrap();
    }
}

/// Makes a provider lose some packets of its customer's connections, both ways.
fn lose_some(provider: &Namespace) {
    let table = "table inet lossy {
        chain forward {
            type filter hook forward priority -300;
            meta l4proto tcp numgen random mod 100 < 1 drop
        }
    }";
    provider.load_nft(table).unwrap();
}

/// Returns the bytes that one end of a connection sends (xorshift).
fn bytes(seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let words = (0..BYTES / 8).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_ne_bytes()
    });
    words.collect()
}

/// Takes connections at an address: reads each to its end, then sends as much back. Ends after
/// `connections` of them, and returns what it read of each.
fn serve(net: &Namespace, at: SocketAddr, connections: usize) -> thread::JoinHandle<Vec<Vec<u8>>> {
    let entered = net.enter().unwrap();
    let listener = TcpListener::bind(at).unwrap();
    drop(entered);
    let serve_one = |mut stream: TcpStream| {
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let mut got = Vec::new();
        stream.read_to_end(&mut got).unwrap();
        // The other way is open still.
        stream.write_all(&got.iter().map(|byte| !byte).collect::<Vec<_>>()).unwrap();
        got
    };
    thread::spawn(move || {
        let accept = |_| listener.accept().unwrap().0;
        let each: Vec<_> =
            (0..connections).map(accept).map(|s| thread::spawn(move || serve_one(s))).collect();
        each.into_iter().map(|one| one.join().unwrap()).collect()
    })
}

/// Sends and gets over connections, both ways one after the other, and compares.
fn exchange(gateway: &Gateway) {
    let lab = &gateway.lab;
    for family in Family::ALL {
        let at = SocketAddr::new(plan::server(family, 0), PORT);
        let server = serve(&lab.net, at, CONNECTIONS);
        let connect = |number: usize| {
            let _entered = lab.lan.enter().unwrap();
            let spec = FlowSpec::new(family, Protocol::Tcp, number, 0, PORT);
            let socket = Socket::new(Domain::for_address(at), Type::STREAM, None).unwrap();
            socket.bind(&SocketAddr::new(spec.source, 0).into()).unwrap();
            socket.connect_timeout(&at.into(), LIMIT).unwrap();
            socket.set_read_timeout(Some(LIMIT)).unwrap();
            (TcpStream::from(socket), bytes(number as u64 + 7))
        };
        let mut clients: Vec<_> = (0..CONNECTIONS).map(connect).collect();
        // A little at a time, until the connections have shortcuts.
        let begin = taken(gateway);
        let mut done = 0;
        wait::until("packets by shortcuts", LIMIT, || {
            for (stream, bytes) in &mut clients {
                stream.write_all(&bytes[done..done + PIECE])?;
            }
            done += PIECE;
            let now = taken(gateway);
            Ok((0..2).all(|way| now[way] >= begin[way] + 10 * CONNECTIONS as u64).then_some(()))
        })
        .unwrap();
        let before = taken(gateway);
        let rest = |(mut stream, sent): (TcpStream, Vec<u8>)| {
            thread::spawn(move || {
                stream.write_all(&sent[done..]).unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
                let mut got = Vec::new();
                stream.read_to_end(&mut got).unwrap();
                (sent, got)
            })
        };
        let clients: Vec<_> = clients.into_iter().map(rest).collect();
        let mut sent: Vec<_> = clients.into_iter().map(|client| client.join().unwrap()).collect();
        for (sent, got) in &sent {
            assert_eq!(got.len(), BYTES);
            assert!(sent.iter().zip(got).all(|(sent, got)| *sent == !got), "{family}");
        }
        let mut got = server.join().unwrap();
        got.sort();
        sent.sort();
        assert!(got.iter().eq(sent.iter().map(|(sent, _)| sent)), "{family}");
        let now = taken(gateway);
        // Most of the segments, which are at most 64 KiB long.
        let least = ((BYTES * CONNECTIONS) >> 17) as u64;
        assert!((0..2).all(|way| now[way] - before[way] > least), "{family}: {before:?} {now:?}");
    }
}

#[test]
fn large_segments_arrive_as_they_were_sent() {
    exchange(&start());
}

#[test]
fn segments_whose_checksums_are_checked_arrive_as_they_were_sent() {
    let gateway = start();
    compute_all_checksums(&gateway.lab);
    exchange(&gateway);
}

#[test]
fn what_is_lost_is_sent_again() {
    let gateway = start();
    gateway.lab.uplinks.iter().for_each(|uplink| lose_some(&uplink.provider));
    exchange(&gateway);
}

/// Counts the datagrams to and from the port in a namespace, by whether they have a checksum.
fn count_checksums(namespace: &Namespace, interface: &str) {
    let counters = format!(
        "table inet watch {{\n\
         counter with {{}}\n\
         counter without {{}}\n\
         chain in {{\n\
         type filter hook prerouting priority -300\n\
         iifname {interface} udp sport {PORT} goto both\n\
         iifname {interface} udp dport {PORT} goto both\n\
         }}\n\
         chain both {{\n\
         udp checksum 0 counter name without return\n\
         counter name with\n\
         }}\n}}\n"
    );
    namespace.load_nft(&counters).unwrap();
}

/// Returns the number of datagrams with a checksum, and without.
fn checksums(namespace: &Namespace) -> [u64; 2] {
    let listed = namespace.run("nft", &["-j", "list", "counters"]).unwrap();
    let listed: Value = serde_json::from_str(&listed).unwrap();
    ["with", "without"].map(|name| {
        let mut counters =
            listed["nftables"].as_array().unwrap().iter().map(|object| &object["counter"]);
        let counter = counters.find(|counter| counter["name"] == name).unwrap();
        counter["packets"].as_u64().unwrap()
    })
}

/// Returns a socket that sends datagrams without a checksum if `none` is set.
fn datagrams(namespace: &Namespace, at: SocketAddr, none: bool) -> UdpSocket {
    let _entered = namespace.enter().unwrap();
    // A program that another test starts holds the former one for a moment.
    let socket = wait::until("the port", LIMIT, || Ok(UdpSocket::bind(at).ok())).unwrap();
    let off = libc::c_int::from(none);
    let (level, name) = (libc::SOL_SOCKET, libc::SO_NO_CHECK);
    // SAFETY: the kernel reads an `int`.
    let status =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const off).cast(), 4) };
    assert_eq!(status, 0);
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket
}

/// Checks datagrams with a checksum, which hosts check, and those without one, which stay so.
#[test]
fn datagrams_keep_their_checksums_or_have_none() {
    let gateway = start();
    let lab = &gateway.lab;
    compute_all_checksums(lab);
    count_checksums(&lab.uplinks[0].provider, CUSTOMER_INTERFACE);
    count_checksums(&lab.uplinks[1].provider, CUSTOMER_INTERFACE);
    count_checksums(&lab.lan, CLIENT_INTERFACE);
    for none in [false, true] {
        let at = SocketAddr::new(plan::server(Family::V4, 1), PORT);
        let server = datagrams(&lab.net, at, none);
        let source = SocketAddr::new(plan::client(Family::V4, usize::from(none)), 0);
        let client = datagrams(&lab.lan, source, none);
        client.connect(at).unwrap();
        let begin = taken(&gateway);
        while (0..2).any(|way| taken(&gateway)[way] < begin[way] + 200) {
            for round in 0..100u64 {
                client.send(&round.to_ne_bytes()).unwrap();
                let mut bytes = [0; 16];
                let (length, from) = server.recv_from(&mut bytes).unwrap();
                assert_eq!(bytes[..length], round.to_ne_bytes());
                server.send_to(&bytes[..length], from).unwrap();
                assert_eq!(client.recv(&mut bytes).unwrap(), 8);
                assert_eq!(bytes[..8], round.to_ne_bytes());
            }
        }
        let seen = [&lab.uplinks[0].provider, &lab.uplinks[1].provider].map(checksums);
        let [with, without] = [0, 1].map(|kind| seen[0][kind] + seen[1][kind]);
        let [lan_with, lan_without] = checksums(&lab.lan);
        if none {
            assert!(without >= 200 && without == lan_without, "{without} {lan_without}");
        } else {
            assert!(with >= 200 && with == lan_with, "{with} {lan_with}");
            assert_eq!([without, lan_without], [0, 0]);
        }
    }
}

/// Makes a socket send what it is given at a time as datagrams of 8 bytes.
fn send_in_bursts(socket: &UdpSocket) {
    let size = libc::c_int::try_from(size_of::<u64>()).unwrap();
    let (level, name) = (libc::SOL_UDP, libc::UDP_SEGMENT);
    // SAFETY: the kernel reads an `int`.
    let status =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const size).cast(), 4) };
    assert_eq!(status, 0);
}

/// Checks that no datagram overtakes another one: drivers hand over several at a time, of which the kernel
/// sees all before it forwards the first one.
#[test]
fn datagrams_that_come_together_stay_in_order() {
    let gateway = start();
    let lab = &gateway.lab;
    compute_all_checksums(lab);
    lab.gateway.set_offload(LAN_INTERFACE, Offload::Gro, true).unwrap();
    let at = SocketAddr::new(plan::server(Family::V4, 1), PORT);
    let server = datagrams(&lab.net, at, false);
    let client = datagrams(&lab.lan, SocketAddr::new(plan::client(Family::V4, 2), 0), false);
    client.connect(at).unwrap();
    send_in_bursts(&client);
    let begin = taken(&gateway)[0];
    let receiver = server.try_clone().unwrap();
    let receive = thread::spawn(move || {
        let (mut next, mut received) = (0, 0);
        let mut bytes = [0; 8];
        while next < BURST * BURSTS {
            let (length, from) = receiver.recv_from(&mut bytes).unwrap();
            let number = u64::from_ne_bytes(bytes);
            assert!(length == 8 && number >= next, "{number} came after {next}");
            (next, received) = (number + 1, received + 1);
            if number % BURST == 0 {
                receiver.send_to(&bytes, from).unwrap();
            }
        }
        received
    });
    for burst in 0..BURSTS {
        let numbers = burst * BURST..(burst + 1) * BURST;
        let bytes: Vec<u8> = numbers.flat_map(u64::to_ne_bytes).collect();
        client.send(&bytes).unwrap();
        thread::sleep(PAUSE);
    }
    // The last one may be lost like any other.
    while !receive.is_finished() {
        client.send(&(BURST * BURSTS).to_ne_bytes()).unwrap();
        thread::sleep(PAUSE);
    }
    let received: u64 = receive.join().unwrap();
    let taken = taken(&gateway)[0] - begin;
    assert!(received > BURST * BURSTS / 2 && taken > received / 2, "{received}, {taken}");
}
