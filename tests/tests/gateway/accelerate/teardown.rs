//! Connections that took shortcuts, on a gateway that works without linkbal, too.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::traffic::{FlowSpec, Protocol};
use linkbal_lab::wait;
use nix::sys::signal::Signal;
use socket2::{Domain, Socket, Type};

use super::nft;
use crate::fixture::{Gateway, LIMIT};
use crate::shortcuts::{accelerated, wait_for_shortcuts};

const PORT: u16 = 9100;

/// Number of bytes that flow before the teardown, and after it.
const BYTES: u64 = 16 << 20;

/// The firewall that an administrator has set up without linkbal.
const MASQUERADE: &str = "table ip admin {
    chain postrouting {
        type nat hook postrouting priority srcnat;
        oifname \"wan-a\" masquerade
    }
}";

/// Checks that a connection is not lost of whose numbers connection tracking has seen few.
#[test]
fn a_connection_with_much_data_goes_on_after_the_teardown() {
    let lab = Lab::new(&[UplinkSpec::new("isp-a", "wan-a", 10)]).unwrap();
    lab.gateway.set_sysctl("net.ipv4.ip_forward", "1").unwrap();
    nft(&lab.gateway, MASQUERADE);
    let mut gateway = Gateway::start(lab, accelerated);
    let lab = &gateway.lab;
    let at = SocketAddr::new(plan::server(Family::V4, 0), PORT);

    let entered = lab.net.enter().unwrap();
    let listener = TcpListener::bind(at).unwrap();
    drop(entered);
    let got = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&got);
    let server = thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        let mut bytes = vec![0; 1 << 16];
        loop {
            match stream.read(&mut bytes) {
                Ok(0) | Err(_) => break,
                Ok(count) => _ = counter.fetch_add(count as u64, Ordering::Relaxed),
            }
        }
    });
    let entered = lab.lan.enter().unwrap();
    let spec = FlowSpec::new(Family::V4, Protocol::Tcp, 0, 0, PORT);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(spec.source, 0).into()).unwrap();
    socket.connect_timeout(&at.into(), LIMIT).unwrap();
    socket.set_write_timeout(Some(LIMIT)).unwrap();
    drop(entered);
    let end = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&end);
    let client = thread::spawn(move || {
        let mut socket = socket;
        let bytes = vec![7; 1 << 14];
        while !ended.load(Ordering::Relaxed) {
            socket.write_all(&bytes)?;
        }
        std::io::Result::Ok(())
    });
    let wait_for_more = || {
        let before = got.load(Ordering::Relaxed);
        wait::until("more data", LIMIT, || {
            Ok((got.load(Ordering::Relaxed) > before + BYTES).then_some(()))
        })
    };
    wait_for_more().unwrap();
    wait_for_shortcuts(&gateway, 1000);
    gateway.daemon.stop(Signal::SIGINT).unwrap();
    let liberal = "net.netfilter.nf_conntrack_tcp_be_liberal";
    assert_eq!(gateway.lab.gateway.sysctl(liberal).unwrap(), "0");
    wait_for_more().expect("the connection goes on");
    end.store(true, Ordering::Relaxed);
    client.join().unwrap().unwrap();
    server.join().unwrap();
}
