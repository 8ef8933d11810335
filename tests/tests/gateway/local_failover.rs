//! TCP connections of the gateway itself when an uplink goes down: its own ones are aborted, and what
//! came in by the uplink waits for it.

use std::io::{ErrorKind, Read as _};
use std::net::SocketAddr;

use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::traffic::local::SocketKind;
use linkbal_lab::traffic::{HTTP, Servers};
use socket2::Socket;

use crate::fixture::{Gateway, LIMIT};

/// A port of the gateway itself.
const OWN: u16 = 9090;
const TCP: SocketKind = SocketKind::Tcp;

/// Opens connections of the gateway to servers; returns them with their uplinks.
fn outgoing(gateway: &Gateway, count: usize) -> Vec<(usize, Socket)> {
    let _entered = gateway.lab.gateway.enter().unwrap();
    let open = |number| {
        let server = SocketAddr::new(plan::server(Family::V4, number), HTTP);
        let socket = TCP.socket(server).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        let seen = TCP.ask(&socket, server).unwrap();
        (plan::uplink_of(seen.ip()).unwrap(), socket)
    };
    (0..count).map(open).collect()
}

/// Opens a connection from the internet to the gateway by an uplink.
fn incoming(gateway: &Gateway, uplink: usize) -> Socket {
    let _entered = gateway.lab.net.enter().unwrap();
    let server = SocketAddr::new(plan::uplink_address(Family::V4, uplink), OWN);
    let socket = TCP.socket(server).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket.bind(&SocketAddr::new(plan::server(Family::V4, 7), 0).into()).unwrap();
    TCP.ask(&socket, server).unwrap();
    socket
}

/// Lets `uplink` die, and checks what becomes of connections by it.
fn assert_own_connections_end_and_others_wait(mut gateway: Gateway, uplink: usize) {
    let at = |uplink| SocketAddr::new(plan::uplink_address(Family::V4, uplink), OWN);
    let _servers = Servers::start_at(&gateway.lab.gateway, &[at(0), at(1)]).unwrap();
    let own = outgoing(&gateway, 30);
    let inbound = [0, 1].map(|uplink| incoming(&gateway, uplink));
    let nowhere = SocketAddr::new(plan::server(Family::V4, 0), HTTP);
    gateway.lab.blackhole(uplink).unwrap();
    gateway.wait_until_down(uplink);
    assert!(own.iter().any(|(by, _)| *by == uplink));
    for (by, socket) in &own {
        if *by == uplink {
            let error = (&*socket).read(&mut [0; 1]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
        } else {
            TCP.ask_again(socket, nowhere).unwrap();
        }
    }
    gateway.lab.restore(uplink).unwrap();
    gateway.daemon.wait_until_up(LIMIT).unwrap();
    for socket in &inbound {
        TCP.ask_again(socket, nowhere).unwrap();
    }
}

#[test]
fn balanced_connections_are_aborted_and_those_from_outside_wait() {
    assert_own_connections_end_and_others_wait(Gateway::pair(), 0);
}

#[test]
fn connections_without_a_mark_are_aborted_and_those_from_outside_wait() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    let gateway = Gateway::start(lab, |config| format!("local.balance = false\n{config}"));
    // The best uplink takes what carries no mark.
    assert_own_connections_end_and_others_wait(gateway, 1);
}
