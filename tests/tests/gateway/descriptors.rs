//! Exhausted file descriptors: what works goes on, an uplink that dies is still failed over, and no
//! healthy one is blamed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{ErrorKind, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use linkbal_lab::daemon::{self, Daemon};
use linkbal_lab::topology::plan::{self, Family, SERVERS};
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::traffic::HTTP;
use linkbal_lab::traffic::local::SocketKind;
use linkbal_lab::wait;
use socket2::Socket;

use crate::fixture::{Gateway, LIMIT, config, states};
use crate::kernel::{fwmark, tracked_by};

/// Number of descriptors that the daemon reserves for what must not fail.
const RESERVE: usize = 96;
/// Number of connections of each family, for clients and for the gateway itself.
const CONNECTIONS: usize = 60;

/// Leaves the daemon no descriptor: its limit is set to the lowest number that is free.
pub(crate) fn fill_table(gateway: &Gateway) {
    let folder = PathBuf::from(format!("/proc/{}/fd", gateway.daemon.id()));
    // While the reserve is lent out, the lowest free number is one of its own.
    let used = wait::until("the reserve in its place", LIMIT, || {
        let used = numbers(&folder);
        let held = used.values().filter(|target| **target == Path::new("/")).count();
        Ok((held >= RESERVE).then_some(used))
    });
    let used = used.unwrap();
    let first_free = (0..).find(|number| !used.contains_key(number)).unwrap();
    limit_files(gateway, first_free);
}

/// Returns the numbers of the open descriptors, with their targets.
fn numbers(folder: &Path) -> BTreeMap<usize, PathBuf> {
    let entries = fs::read_dir(folder).unwrap().flatten();
    // Some are closed meanwhile.
    let open = entries.filter_map(|entry| {
        let number = entry.file_name().to_str()?.parse().ok()?;
        Some((number, fs::read_link(entry.path()).ok()?))
    });
    open.collect()
}

/// Sets the soft limit of open files of the running daemon.
pub(crate) fn limit_files(gateway: &Gateway, limit: usize) {
    let status = Command::new("prlimit")
        .arg(format!("--nofile={limit}:"))
        .arg(format!("--pid={}", gateway.daemon.id()))
        .status();
    assert!(status.unwrap().success());
}

/// Opens connections that ask once and are silent from then on; returns them with their uplinks.
fn connect(mut socket: impl FnMut(Family, usize) -> (Socket, SocketAddr)) -> Vec<(Socket, usize)> {
    let each = Family::ALL.into_iter().flat_map(|f| (0..CONNECTIONS).map(move |n| (f, n)));
    each.map(|(family, number)| {
        let (socket, server) = socket(family, number);
        let seen = SocketKind::Tcp.ask(&socket, server).unwrap();
        (socket, plan::uplink_of(seen.ip()).unwrap())
    })
    .collect()
}

fn lan_connections(gateway: &Gateway) -> Vec<(Socket, usize)> {
    let _entered = gateway.lab.lan.enter().unwrap();
    connect(|family, number| {
        let server = SocketAddr::new(plan::server(family, number), HTTP);
        let socket = SocketKind::Tcp.socket(server).unwrap();
        let source = SocketAddr::new(plan::client(family, number / usize::from(SERVERS)), 0);
        socket.bind(&source.into()).unwrap();
        (socket, server)
    })
}

fn local_connections(gateway: &Gateway) -> Vec<(Socket, usize)> {
    let _entered = gateway.lab.gateway.enter().unwrap();
    connect(|family, number| {
        let server = SocketAddr::new(plan::server(family, number), HTTP);
        (SocketKind::Tcp.socket(server).unwrap(), server)
    })
}

/// Waits until all connections by `uplink` have ended.
fn wait_for_end(gateway: &Gateway, what: &str, all: &[(Socket, usize)], uplink: usize) {
    let mut open: Vec<&Socket> = all.iter().filter(|each| each.1 == uplink).map(|e| &e.0).collect();
    let count = open.len();
    assert!(count > 10, "{count} connections");
    open.iter().for_each(|socket| socket.set_nonblocking(true).unwrap());
    let result = wait::until(what, LIMIT, || {
        open.retain(|socket| {
            let mut socket = *socket;
            let read = socket.read(&mut [0]);
            read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
        });
        Ok(open.is_empty().then_some(()))
    });
    result.unwrap_or_else(|error| {
        panic!("{error:#}: {} of {count} open\n{}", open.len(), gateway.daemon.log())
    });
}

#[test]
fn the_limit_of_open_files_is_raised() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    let program = daemon::find_program().unwrap();
    let mut command = lab.gateway.command("prlimit");
    command.arg("--nofile=1024:8192").arg(&program);
    let daemon = Daemon::start_command(command, &program, &lab, &config(&lab));
    let mut daemon = daemon.unwrap();
    daemon.wait_until_up(LIMIT).unwrap();
    let limits = fs::read_to_string(format!("/proc/{}/limits", daemon.id())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(line.split_whitespace().nth(3), Some("8192"), "{line}");
}

/// Checks a verdict by probes, and one by the carrier.
#[test]
fn failover_needs_no_free_descriptor() {
    let specs = [UplinkSpec::new("isp-a", "wan-a", 1), UplinkSpec::new("isp-b", "wan-b", 1)];
    let mut gateway = Gateway::start(Lab::new(&specs).unwrap(), str::to_owned);
    let lan_connections = lan_connections(&gateway);
    let local_connections = local_connections(&gateway);
    let tracked = |family| tracked_by(&gateway.lab.gateway, family, fwmark(0)).len();
    assert!(Family::ALL.into_iter().all(|family| tracked(family) > 10));
    fill_table(&gateway);

    gateway.lab.blackhole(0).unwrap();
    let status = gateway.wait_until_down(0);
    assert_eq!(states(&status, "isp-b"), ["up", "up"]);
    wait_for_end(&gateway, "the clients reset", &lan_connections, 0);
    wait_for_end(&gateway, "local connections ended", &local_connections, 0);
    wait::until("conntrack forgets the uplink", LIMIT, || {
        let left = Family::ALL.map(|family| tracked_by(&gateway.lab.gateway, family, fwmark(0)));
        Ok(left.iter().all(BTreeSet::is_empty).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", gateway.daemon.log()));
    // Repairs of what others undo need nft, which has to be started.
    gateway.lab.gateway.run("nft", &["delete", "table", "inet", "linkbal"]).unwrap();
    wait::until("the nft table back", LIMIT, || {
        let listed = gateway.lab.gateway.run("nft", &["list", "table", "inet", "linkbal"]);
        Ok(listed.is_ok().then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", gateway.daemon.log()));
    gateway.wait_for_uplinks(&[1]);
    gateway.lab.restore(0).unwrap();
    gateway.daemon.wait_until_up(LIMIT).unwrap();
    // Again, with a cut cable.
    gateway.lab.cut_cable(1).unwrap();
    gateway.wait_until_down(1);
    wait_for_end(&gateway, "the clients of the other reset", &lan_connections, 1);
    gateway.wait_for_uplinks(&[0]);
    let log = gateway.daemon.log();
    // Events and history that wait for the disk must not take what failover needs: they are written later.
    let mut missed = log.lines().filter(|line| line.contains("os error 24"));
    let later = ["/events.jsonl: ", "/history.jsonl: "];
    assert!(missed.all(|line| later.iter().any(|file| line.contains(file))), "{log}");
}
