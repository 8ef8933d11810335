//! TCP connections of an uplink that dies: they are reset, and no others are disturbed.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::traffic::local::SocketKind;
use linkbal_lab::traffic::{BulkServers, HTTP};
use linkbal_lab::wait;
use serde_json::Value;
use socket2::Socket;

use crate::fixture::{Gateway, LIMIT, with_key};

const A: usize = 0;
const B: usize = 1;

/// Number of connections of each family; of both, more than a thousand use isp-b.
const CONNECTIONS: usize = 800;

/// A port where servers stream.
const STREAM: u16 = 5005;

/// A connection that asked its server once and has been silent since.
struct Connection {
    socket: Socket,
    uplink: usize,
    server: SocketAddr,
}

/// The state of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConnectionState {
    Open,
    Reset,
    Other,
}

impl Connection {
    fn open(family: Family, number: usize) -> Connection {
        let source = SocketAddr::new(plan::client(family, number / 7), 0);
        Connection::prepared(family, number, |socket| socket.bind(&source.into()).unwrap())
    }

    /// Opens a connection of the gateway itself.
    fn open_local(family: Family, number: usize) -> Connection {
        Connection::prepared(family, number, |_| ())
    }

    fn prepared(family: Family, number: usize, prepare: impl FnOnce(&Socket)) -> Connection {
        let server = SocketAddr::new(plan::server(family, number), HTTP);
        let socket = SocketKind::Tcp.socket(server).unwrap();
        prepare(&socket);
        let seen = SocketKind::Tcp.ask(&socket, server).unwrap();
        let uplink = plan::uplink_of(seen.ip()).unwrap();
        Connection { socket, uplink, server }
    }

    /// Returns the state of the connection, without sending anything.
    fn state(&self) -> ConnectionState {
        self.socket.set_nonblocking(true).unwrap();
        match (&self.socket).read(&mut [0; 1]).map_err(|error| error.kind()) {
            Err(ErrorKind::WouldBlock) => ConnectionState::Open,
            Err(ErrorKind::ConnectionReset) => ConnectionState::Reset,
            _ => ConnectionState::Other,
        }
    }

    /// Asks once more by the same connection, and returns whether it is answered.
    fn answers(&self) -> bool {
        self.socket.set_nonblocking(false).unwrap();
        SocketKind::Tcp.ask_again(&self.socket, self.server).is_ok()
    }
}

/// Opens idle connections of both families, `count` of each.
fn connect(gateway: &Gateway, count: usize) -> Vec<Connection> {
    let _entered = gateway.lab.lan.enter().unwrap();
    let both = Family::ALL.into_iter();
    both.flat_map(|family| (0..count).map(move |number| Connection::open(family, number))).collect()
}

fn wait_for_resets(gateway: &Gateway, connections: &[Connection], uplink: usize) {
    // A read clears the error: each connection is asked until it has reported it.
    let mut open: Vec<_> = connections.iter().filter(|each| each.uplink == uplink).collect();
    let all = open.len();
    assert!(all > 100, "{all} connections to reset");
    let result = wait::until("all connections reset", LIMIT, || {
        open.retain(|connection| match connection.state() {
            ConnectionState::Open => true,
            ConnectionState::Reset => false,
            ConnectionState::Other => panic!("neither open nor reset"),
        });
        Ok(open.is_empty().then_some(()))
    });
    result.unwrap_or_else(|error| {
        panic!("{error:#}: {} of {all} open\n{}", open.len(), gateway.daemon.log())
    });
}

fn assert_untouched(connections: &[Connection], uplink: usize, least: usize) {
    let others: Vec<_> = connections.iter().filter(|each| each.uplink == uplink).collect();
    assert!(others.len() >= least, "{} connections to look at", others.len());
    assert!(others.iter().all(|connection| connection.state() == ConnectionState::Open));
    assert!(others.iter().all(|connection| connection.answers()));
}

#[test]
fn idle_clients_of_a_dead_uplink_are_reset_and_no_others() {
    let gateway = Gateway::pair();
    let connections = connect(&gateway, CONNECTIONS);
    gateway.lab.cut_cable(A).unwrap();
    wait_for_resets(&gateway, &connections, A);
    assert_untouched(&connections, B, 1000);
    let status = gateway.daemon.status().unwrap();
    assert_eq!(status["counters"]["flow_moved"], 0, "{status}");
}

/// A table that drops every tenth packet from and to the clients, at random.
const LOSSY: &str = "
table inet lossy {
    chain input { type filter hook input priority -300; numgen random mod 10 < 1 drop; }
    chain output { type filter hook output priority -300; numgen random mod 10 < 1 drop; }
}
";

#[test]
fn resets_are_repeated_to_clients_behind_a_lossy_link() {
    let gateway = Gateway::pair();
    let connections = connect(&gateway, CONNECTIONS);
    gateway.lab.lan.load_nft(LOSSY).unwrap();
    gateway.lab.cut_cable(A).unwrap();
    // Five attempts each; that all are lost happens to one client in 100,000.
    let mut open: Vec<_> = connections.iter().filter(|each| each.uplink == A).collect();
    let all = open.len();
    assert!(all > 100, "{all} connections to reset");
    wait::until("the end of the waves", LIMIT, || {
        open.retain(|connection| connection.state() == ConnectionState::Open);
        let log = gateway.daemon.log();
        let over = |family| log.contains(&format!(" {family} connections of clients reset"));
        Ok((over("ipv4") && over("ipv6")).then_some(()))
    })
    .unwrap();
    open.retain(|connection| connection.state() == ConnectionState::Open);
    println!("{} of {all} clients still wait", open.len());
    assert!(open.len() * 100 <= all, "{} of {all} clients still wait", open.len());
    gateway.lab.lan.run("nft", &["delete", "table", "inet", "lossy"]).unwrap();
    assert_untouched(&connections, B, 1000);
}

/// Reads or writes until the connection ends; returns the error.
fn stream(mut socket: TcpStream, receive: bool) -> ErrorKind {
    let mut bytes = [0; 16_384];
    loop {
        let done = if receive { socket.read(&mut bytes) } else { socket.write(&bytes) };
        match done {
            Ok(0) => return ErrorKind::UnexpectedEof,
            Ok(_) => {}
            Err(error) => return error.kind(),
        }
    }
}

#[test]
fn clients_that_send_or_receive_at_full_speed_are_reset() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    let rule = "[[rule]]\nuse = [\"isp-a\", \"isp-b\"]\n";
    let gateway = Gateway::start(lab, |config| format!("{config}\n{rule}"));
    let servers = Family::ALL.map(|family| SocketAddr::new(plan::server(family, 9), STREAM));
    let _servers = BulkServers::start(&gateway.lab.net, &servers).unwrap();
    let entered = gateway.lab.lan.enter().unwrap();
    let clients: Vec<_> = (0..16)
        .map(|number| {
            let socket = TcpStream::connect(servers[number % 2]).unwrap();
            std::thread::spawn(move || stream(socket, number % 4 < 2))
        })
        .collect();
    drop(entered);
    // The streams are at full speed when much has passed.
    wait::until("ten megabytes sent", LIMIT, || {
        let sent = gateway.daemon.status()?["uplinks"][A]["bytes"].as_u64();
        Ok((sent > Some(10_000_000)).then_some(()))
    })
    .unwrap();
    gateway.lab.cut_cable(A).unwrap();
    wait::until("all streams ended", LIMIT, || {
        Ok(clients.iter().all(std::thread::JoinHandle::is_finished).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", gateway.daemon.log()));
    for client in clients {
        assert_eq!(client.join().unwrap(), ErrorKind::ConnectionReset);
    }
}

/// A table that drops all packets to and from the clients.
const ASLEEP: &str = "table inet asleep {
  chain input { type filter hook input priority filter; policy drop; }
  chain output { type filter hook output priority filter; policy drop; }
}";

/// Checks a client that wakes up later: it finds the uplink back, but not its connection.
#[test]
fn a_client_that_was_offline_is_reset_when_it_sends_again() {
    let mut gateway = Gateway::pair();
    let connections = connect(&gateway, 100);
    let sleeping = |each: &&Connection| each.uplink == A;
    // Nothing reaches the clients while the uplink is away.
    gateway.lab.lan.load_nft(ASLEEP).unwrap();
    gateway.lab.cut_cable(A).unwrap();
    gateway.wait_until_down(A);
    let told = "connections of clients reset";
    wait::until("the resets", LIMIT, || {
        Ok((gateway.daemon.log().matches(told).count() == 2).then_some(()))
    })
    .unwrap();
    gateway.lab.plug_cable(A).unwrap();
    gateway.daemon.wait_until_up(LIMIT).unwrap();
    gateway.lab.lan.run("nft", &["delete", "table", "inet", "asleep"]).unwrap();
    let asleep: Vec<_> = connections.iter().filter(sleeping).collect();
    assert!(asleep.len() > 20);
    for connection in asleep {
        assert_eq!(connection.state(), ConnectionState::Open);
        assert!(!connection.answers(), "a connection to {} goes on", connection.server);
    }
    assert_untouched(&connections, B, 100);
}

#[test]
fn nothing_is_reset_while_no_uplink_is_usable() {
    let mut gateway = Gateway::pair();
    let connections = connect(&gateway, 150);
    for uplink in [A, B] {
        gateway.lab.blackhole(uplink).unwrap();
    }
    gateway.wait_until_down(B);
    // The first one to die may have had the other to fail over to, as far as was known then.
    let status = gateway.wait_until_down(A);
    let last = if down_since(&status, A) > down_since(&status, B) { A } else { B };
    let waiting = |each: &&Connection| each.uplink == last;
    assert!(connections.iter().filter(waiting).all(|each| each.state() == ConnectionState::Open));
    gateway.lab.restore(last).unwrap();
    gateway.wait_for_state(last, "ipv4", "up");
    gateway.wait_for_state(last, "ipv6", "up");
    assert!(connections.iter().filter(waiting).all(Connection::answers));
}

fn down_since(status: &Value, uplink: usize) -> String {
    status["uplinks"][uplink]["ipv4"]["since"].as_str().unwrap().to_owned()
}

/// Checks that local connections are ended, too: a proxy would wait for ever.
#[test]
fn local_connections_of_a_dead_uplink_are_ended() {
    let gateway = Gateway::pair();
    let own: Vec<Connection> = {
        let _entered = gateway.lab.gateway.enter().unwrap();
        let both = Family::ALL.into_iter();
        both.flat_map(|family| (0..60).map(move |number| Connection::open_local(family, number)))
            .collect()
    };
    gateway.lab.blackhole(A).unwrap();
    let on = |uplink| own.iter().filter(move |each| each.uplink == uplink);
    assert!(on(A).count() > 10 && on(B).count() > 10);
    let mut open: Vec<_> = on(A).collect();
    wait::until("all own connections ended", LIMIT, || {
        open.retain(|connection| connection.state() == ConnectionState::Open);
        Ok(open.is_empty().then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", gateway.daemon.log()));
    assert!(on(B).all(|each| each.state() == ConnectionState::Open && each.answers()));
}

#[test]
fn connections_wait_if_on_down_is_keep() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    let mut gateway = Gateway::start(lab, |config| with_key(config, "isp-a", "on_down = \"keep\""));
    let connections = connect(&gateway, 100);
    gateway.lab.blackhole(A).unwrap();
    gateway.wait_until_down(A);
    gateway.assert_uplinks(5, &[B]);
    assert!(connections.iter().all(|each| each.state() == ConnectionState::Open));
    gateway.lab.restore(A).unwrap();
    gateway.daemon.wait_until_up(LIMIT).unwrap();
    assert!(connections.iter().all(Connection::answers));
}
