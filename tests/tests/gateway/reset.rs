//! TCP connections of an uplink that dies are reset; all others notice nothing.

use std::io::{ErrorKind, Read as _};
use std::net::SocketAddr;

use linkbal_tests::topology::plan::{self, Family};
use linkbal_tests::traffic::own::Way;
use linkbal_tests::wait;
use socket2::Socket;

use crate::fixture::{Gateway, LIMIT, PLAIN};

const A: usize = 0;
const B: usize = 1;

/// Connections of each family.
const CONNECTIONS: usize = 400;

/// A connection of a client, which asked its server once and has been silent since.
struct Connection {
    socket: Socket,
    uplink: usize,
    server: SocketAddr,
}

/// What has become of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Open,
    Reset,
    Other,
}

impl Connection {
    fn open(family: Family, number: usize) -> Connection {
        let server = SocketAddr::new(plan::server(family, number), PLAIN);
        let socket = Way::Tcp.socket(server).unwrap();
        let source = SocketAddr::new(plan::client(family, number / 7), 0);
        socket.bind(&source.into()).unwrap();
        let seen = Way::Tcp.ask(&socket, server).unwrap();
        let uplink = plan::uplink_of(seen.ip()).unwrap();
        Connection { socket, uplink, server }
    }

    /// Looks without sending anything.
    fn fate(&self) -> Fate {
        self.socket.set_nonblocking(true).unwrap();
        match (&self.socket).read(&mut [0; 1]).map_err(|error| error.kind()) {
            Err(ErrorKind::WouldBlock) => Fate::Open,
            Err(ErrorKind::ConnectionReset) => Fate::Reset,
            _ => Fate::Other,
        }
    }

    /// Asks once more by the same connection.
    fn answers(&self) -> bool {
        self.socket.set_nonblocking(false).unwrap();
        Way::Tcp.ask_again(&self.socket, self.server).is_ok()
    }
}

/// Idle connections of both families, `count` of each.
fn connect(gateway: &Gateway, count: usize) -> Vec<Connection> {
    let _entered = gateway.lab.lan.enter().unwrap();
    let both = Family::ALL.into_iter();
    both.flat_map(|family| (0..count).map(move |number| Connection::open(family, number))).collect()
}

fn wait_for_resets(gateway: &Gateway, connections: &[Connection], uplink: usize) {
    // A read takes the error away: each connection is asked until it has told.
    let mut open: Vec<_> = connections.iter().filter(|each| each.uplink == uplink).collect();
    let all = open.len();
    assert!(all > 100, "{all} connections to reset");
    let result = wait::until("all connections reset", LIMIT, || {
        open.retain(|connection| match connection.fate() {
            Fate::Open => true,
            Fate::Reset => false,
            Fate::Other => panic!("neither open nor reset"),
        });
        Ok(open.is_empty().then_some(()))
    });
    result.unwrap_or_else(|error| {
        panic!("{error:#}: {} of {all} open\n{}", open.len(), gateway.daemon.log())
    });
}

fn assert_untouched(connections: &[Connection], uplink: usize) {
    let others: Vec<_> = connections.iter().filter(|each| each.uplink == uplink).collect();
    assert!(others.len() > 100, "{} connections to look at", others.len());
    assert!(others.iter().all(|connection| connection.fate() == Fate::Open));
    assert!(others.iter().all(|connection| connection.answers()));
}

#[test]
fn idle_clients_of_a_dead_uplink_are_reset_and_no_others() {
    let gateway = Gateway::pair();
    let connections = connect(&gateway, CONNECTIONS);
    gateway.lab.cut_cable(A).unwrap();
    wait_for_resets(&gateway, &connections, A);
    assert_untouched(&connections, B);
}
