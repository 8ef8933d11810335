//! Clients of the API that ask all the time, or hold connections: failover does not suffer.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use linkbal_lab::topology::plan::Family;
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::wait;

use crate::fixture::{Gateway, LIMIT, states, with_tcp_targets};
use crate::kernel::up_mask;

fn api_socket(gateway: &Gateway) -> PathBuf {
    gateway.lab.gateway.socket()
}

/// Asks for the status without a pause in 32 threads, each of which returns the number of answers.
fn flood(gateway: &Gateway, ended: &Arc<AtomicBool>) -> Vec<thread::JoinHandle<usize>> {
    let socket = api_socket(gateway);
    let ask = move |socket: &Path| {
        let mut stream = UnixStream::connect(socket).ok()?;
        stream
            .write_all(b"GET /v1/status HTTP/1.1\r\nhost: linkbal\r\nconnection: close\r\n\r\n")
            .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.starts_with("HTTP/1.1 200").then_some(())
    };
    let each = (0..32).map(|_| {
        let (socket, ended) = (socket.clone(), Arc::clone(ended));
        thread::spawn(move || {
            let asked =
                std::iter::from_fn(|| (!ended.load(Ordering::Relaxed)).then(|| ask(&socket)));
            asked.flatten().count()
        })
    });
    each.collect()
}

/// Checks that clients of the API cannot keep the daemon from its work.
#[test]
fn a_flood_of_api_requests_hides_no_outage() {
    let mut gateway = Gateway::pair();
    let ended = Arc::new(AtomicBool::new(false));
    let flood = flood(&gateway, &ended);
    gateway.lab.blackhole(0).unwrap();
    wait::until("the outage found out", LIMIT, || {
        Ok((up_mask(&gateway.lab.gateway, Family::V4) == 0b10).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", gateway.daemon.log()));
    ended.store(true, Ordering::Relaxed);
    let answered: usize = flood.into_iter().map(|each| each.join().unwrap()).sum();
    assert!(answered > 32, "{answered} answers");
    let status = gateway.wait_until_down(0);
    assert_eq!(states(&status, "isp-b"), ["up", "up"]);
}

#[test]
fn idle_api_connections_leave_descriptors_for_everything_else() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    let mut gateway = Gateway::start(lab, with_tcp_targets);
    let files = || fs::read_dir(format!("/proc/{}/fd", gateway.daemon.id())).unwrap().count();
    let before = files();
    let socket = api_socket(&gateway);
    let idle: Vec<_> = (0..1100).map(|_| UnixStream::connect(&socket)).collect();
    assert!(idle.iter().all(Result::is_ok));
    // The API still answers.
    gateway.daemon.status().unwrap();
    assert!(files() <= before + 64 + 10, "{} files, {before} before", files());
    gateway.lab.blackhole(0).unwrap();
    let status = gateway.wait_until_down(0);
    assert_eq!(states(&status, "isp-b"), ["up", "up"]);
    gateway.wait_for_uplinks(&[1]);
    wait::until("all idle connections closed", LIMIT, || {
        let closed = idle.iter().flatten().all(|client| {
            client.set_nonblocking(true).unwrap();
            let read = { client }.read(&mut [0; 64]);
            !read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
        });
        Ok(closed.then_some(()))
    })
    .unwrap();
}

#[test]
fn a_socket_that_somebody_removes_is_made_again() {
    let gateway = Gateway::pair();
    fs::remove_file(api_socket(&gateway)).unwrap();
    let unheard = gateway.daemon.run(&["status"]).unwrap_err().to_string();
    assert!(unheard.contains("does not answer"), "{unheard}");
    wait::until("another socket", LIMIT, || Ok(gateway.daemon.status().ok())).unwrap();
}
