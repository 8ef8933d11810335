//! Local traffic, which is spread like that of the LAN.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;

use linkbal_lab::daemon::Daemon;
use linkbal_lab::namespace::Namespace;
use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{LAN_INTERFACE, Lab, UplinkSpec};
use linkbal_lab::traffic::local::SocketKind;
use linkbal_lab::traffic::{FlowSpec, HTTP, HTTPS};
use linkbal_lab::wait;
use nix::sys::signal::Signal;
use socket2::Socket;

use crate::fixture::{Gateway, LIMIT, config};
use crate::kernel::fwmark;

const SOCKETS: usize = 400;

fn server(family: Family, number: usize, port: u16) -> SocketAddr {
    SocketAddr::new(plan::server(family, number), port)
}

/// Asks by a socket that `choose` has prepared; returns the address that the server saw.
fn ask_from(
    namespace: &Namespace,
    kind: SocketKind,
    server: SocketAddr,
    choose: impl FnOnce(&Socket),
) -> IpAddr {
    let _entered = namespace.enter().unwrap();
    let socket = kind.socket(server).unwrap();
    choose(&socket);
    let seen = kind.ask(&socket, server);
    seen.unwrap_or_else(|error| panic!("{kind:?} to {server}: {error}")).ip()
}

/// Returns the uplink of a new socket of the gateway.
fn uplink(gateway: &Gateway, kind: SocketKind, server: SocketAddr) -> usize {
    let seen = ask_from(&gateway.lab.gateway, kind, server, |_| ());
    plan::uplink_of(seen).unwrap_or_else(|| panic!("{kind:?} to {server} came from {seen}"))
}

/// Opens `count` sockets to different servers, and counts them by uplink.
fn spread(gateway: &Gateway, family: Family, kind: SocketKind, count: usize) -> [usize; 2] {
    let mut counts = [0; 2];
    for number in 0..count {
        counts[uplink(gateway, kind, server(family, number, HTTP))] += 1;
    }
    counts
}

/// Checks that each kind of socket uses exactly `uplinks`.
fn assert_uplinks(gateway: &Gateway, uplinks: &[usize]) {
    for family in Family::ALL {
        for kind in SocketKind::ALL {
            let counts = spread(gateway, family, kind, 40);
            let used = (0..counts.len()).filter(|&uplink| counts[uplink] > 0);
            assert!(used.eq(uplinks.iter().copied()), "{family} {kind:?}: {counts:?}");
        }
    }
}

/// Returns the status counters of local sockets that linkbal decided for.
fn decided(gateway: &Gateway) -> [u64; 2] {
    let status = gateway.daemon.status().unwrap();
    ["local_marked", "local_addressed"].map(|name| status["counters"][name].as_u64().unwrap())
}

fn lab() -> Lab {
    Lab::new(&UplinkSpec::pair()).unwrap()
}

#[test]
fn local_traffic_is_spread_by_weight() {
    let gateway = Gateway::pair();
    let expected = SOCKETS as f64 * gateway.lab.share(0);
    let sigma = (expected * (1.0 - gateway.lab.share(0))).sqrt();
    for family in Family::ALL {
        for kind in SocketKind::ALL {
            let counts = spread(&gateway, family, kind, SOCKETS);
            assert!(
                (counts[0] as f64 - expected).abs() <= 4.0 * sigma,
                "{family} {kind:?}: {counts:?}"
            );
        }
    }
    assert_eq!(decided(&gateway), [4 * SOCKETS as u64, 2 * SOCKETS as u64]);
    assert_eq!(gateway.counted_flows(), [0, 0], "the uplinks' counters are the LAN's");
}

#[test]
fn ipv6_sockets_with_mapped_ipv4_addresses_are_spread() {
    let gateway = Gateway::pair();
    for kind in SocketKind::ALL {
        let mapped = |number| {
            let IpAddr::V4(address) = plan::server(Family::V4, number) else { unreachable!() };
            SocketAddr::new(address.to_ipv6_mapped().into(), HTTP)
        };
        let used: Vec<_> = (0..40).map(|number| uplink(&gateway, kind, mapped(number))).collect();
        assert!(used.contains(&0) && used.contains(&1), "{kind:?}: {used:?}");
    }
    assert_eq!(decided(&gateway), [80, 40]);
}

#[test]
fn addresses_and_marks_that_a_program_set_are_respected() {
    let gateway = Gateway::pair();
    for family in Family::ALL {
        for kind in SocketKind::ALL {
            for uplink in 0..2 {
                let own = SocketAddr::new(plan::uplink_address(family, uplink), 0);
                let interface = gateway.lab.uplinks[uplink].spec.interface.as_bytes();
                let mark = fwmark(uplink) | 0x77;
                let choices: [&dyn Fn(&Socket); 3] = [
                    &|socket| socket.bind(&own.into()).unwrap(),
                    &|socket| socket.bind_device(Some(interface)).unwrap(),
                    &|socket| socket.set_mark(mark).unwrap(),
                ];
                for (number, choose) in
                    (0..choices.len()).cycle().zip(choices.iter().cycle().take(30))
                {
                    let server = server(family, number, HTTP);
                    let seen = ask_from(&gateway.lab.gateway, kind, server, choose);
                    assert_eq!(
                        plan::uplink_of(seen),
                        Some(uplink),
                        "{family} {kind:?} choice {number}"
                    );
                }
            }
        }
    }
    assert_eq!(decided(&gateway), [0, 0]);
}

#[test]
fn a_secondary_address_is_kept() {
    let gateway = Gateway::pair();
    let second: IpAddr = "2001:db8:a::99".parse().unwrap();
    let add = ["address", "add", "2001:db8:a::99/64", "dev", "wan-a", "nodad"];
    gateway.lab.gateway.run("ip", &add).unwrap();
    let kept = |own: IpAddr| {
        let bind = |socket: &Socket| socket.bind(&SocketAddr::new(own, 0).into()).unwrap();
        ask_from(&gateway.lab.gateway, SocketKind::Tcp, server(Family::V6, 0, HTTP), bind) == own
    };
    let both = [plan::uplink_address(Family::V6, 0), second];
    // Until the daemon has seen the new address, one of the two is still translated.
    wait::until("both addresses kept", LIMIT, || Ok(both.into_iter().all(kept).then_some(())))
        .unwrap();
}

#[test]
fn a_foreign_mark_is_kept_beside_the_uplinks() {
    let gateway = Gateway::pair();
    let _entered = gateway.lab.gateway.enter().unwrap();
    let server = server(Family::V4, 0, HTTP);
    let socket = SocketKind::ConnectedUdp.socket(server).unwrap();
    socket.set_mark(0x77).unwrap();
    let seen = SocketKind::ConnectedUdp.ask(&socket, server).unwrap().ip();
    let uplink = plan::uplink_of(seen).unwrap();
    assert_eq!(socket.mark().unwrap(), fwmark(uplink) | 0x77);
}

#[test]
fn a_sticky_port_has_one_uplink_for_each_server() {
    let gateway = Gateway::pair();
    for family in Family::ALL {
        for kind in SocketKind::ALL {
            let one_of = |number| {
                let server = server(family, number, HTTPS);
                let first = uplink(&gateway, kind, server);
                assert!((0..9).all(|_| uplink(&gateway, kind, server) == first), "{server}");
                first
            };
            let used: Vec<_> = (0..30).map(one_of).collect();
            assert!(used.contains(&0) && used.contains(&1), "{family} {kind:?}: {used:?}");
        }
    }
}

#[test]
fn local_traffic_leaves_a_dead_uplink() {
    let mut gateway = Gateway::pair();
    let namespace = gateway.lab.gateway.clone();
    let ask = |kind: SocketKind, socket: &Socket| {
        let _entered = namespace.enter().unwrap();
        let seen = kind.ask(socket, server(Family::V4, 0, HTTP)).unwrap();
        plan::uplink_of(seen.ip())
    };
    let open = |kind: SocketKind| -> Vec<Socket> {
        let _entered = namespace.enter().unwrap();
        (0..40).map(|_| kind.socket(server(Family::V4, 0, HTTP)).unwrap()).collect()
    };
    let kinds = [SocketKind::ConnectedUdp, SocketKind::UnconnectedUdp];
    let sockets = kinds.map(|kind| (kind, open(kind)));
    for (kind, sockets) in &sockets {
        let before: Vec<_> = sockets.iter().map(|socket| ask(*kind, socket)).collect();
        assert!(before.contains(&Some(0)) && before.contains(&Some(1)), "{before:?}");
        let again: Vec<_> = sockets.iter().map(|socket| ask(*kind, socket)).collect();
        assert_eq!(again, before, "{kind:?} sockets stay while their uplink lives");
    }
    gateway.lab.cut_cable(0).unwrap();
    gateway.wait_until_down(0);
    assert_uplinks(&gateway, &[1]);
    for (kind, sockets) in &sockets {
        if *kind == SocketKind::ConnectedUdp {
            sockets.iter().for_each(disconnect);
        }
        assert!(sockets.iter().all(|socket| ask(*kind, socket) == Some(1)), "{kind:?}");
    }
    gateway.lab.plug_cable(0).unwrap();
    gateway.daemon.wait_until_up(LIMIT).unwrap();
    assert_uplinks(&gateway, &[0, 1]);
}

/// Disconnects a UDP socket, connect(2): the next connection is free to take another uplink.
fn disconnect(socket: &Socket) {
    // SAFETY: `sockaddr` is plain data for which all zeros is a valid value: AF_UNSPEC.
    let nowhere: libc::sockaddr = unsafe { std::mem::zeroed() };
    let length = libc::socklen_t::try_from(size_of::<libc::sockaddr>()).unwrap();
    // SAFETY: the kernel reads `length` bytes of `nowhere`, which is that long.
    let status = unsafe { libc::connect(socket.as_raw_fd(), &raw const nowhere, length) };
    assert_eq!(status, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn without_balance_the_best_uplink_takes_all() {
    let gateway = Gateway::start(lab(), |config| format!("local.balance = false\n{config}"));
    // The uplinks are up before the routes have followed.
    for family in Family::ALL {
        wait::until("the best uplink's route", LIMIT, || {
            let args = [family.flag(), "route", "show", "table", "2600"];
            let best = gateway.lab.gateway.run("ip", &args)?;
            let alone = best.contains("dev wan-b") && !best.contains("dev wan-a");
            Ok(alone.then_some(()))
        })
        .unwrap();
    }
    assert_uplinks(&gateway, &[1]);
    assert_eq!(decided(&gateway), [0, 0]);
    gateway.assert_uplinks(20, &[0, 1]);
}

#[test]
fn sockets_of_other_namespaces_are_left_alone() {
    let gateway = Gateway::pair();
    let outside = |server: SocketAddr| {
        for kind in [SocketKind::Tcp, SocketKind::ConnectedUdp] {
            let socket = kind.socket(server).unwrap();
            kind.ask(&socket, server).unwrap();
            assert_eq!(socket.mark().unwrap(), 0);
        }
        let socket = SocketKind::UnconnectedUdp.socket(server).unwrap();
        SocketKind::UnconnectedUdp.ask(&socket, server).unwrap();
    };
    for family in Family::ALL {
        let _entered = gateway.lab.lan.enter().unwrap();
        outside(server(family, 0, HTTP));
    }
    // The test itself, whose processes are in the same cgroup, too.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    assert_eq!(socket2::SockRef::from(&stream).mark().unwrap(), 0);
    assert_eq!(decided(&gateway), [0, 0]);
    let skipped = gateway.daemon.status().unwrap()["counters"]["local_skipped"].clone();
    assert_eq!(skipped, 0, "nor are they counted");
}

#[test]
fn a_machine_without_a_lan_spreads_local_traffic() {
    let gateway = Gateway::start(lab(), |config| {
        config.replace("[lan]\n", "").replace(&format!("interfaces = [\"{LAN_INTERFACE}\"]\n"), "")
    });
    assert_uplinks(&gateway, &[0, 1]);
    let forwarding = |key| gateway.lab.gateway.sysctl(key).unwrap();
    assert_eq!(forwarding("net.ipv4.ip_forward"), "0");
    assert_eq!(forwarding("net.ipv6.conf.all.forwarding"), "0");
    assert!(gateway.try_open(&FlowSpec::mixed(HTTP, 1)).iter().all(|seen| seen.peer.is_none()));
}

#[test]
fn the_programs_outlive_the_daemon_and_end_with_a_teardown() {
    let mut gateway = Gateway::pair();
    gateway.daemon.stop(Signal::SIGTERM).unwrap();
    assert_uplinks(&gateway, &[0, 1]);
    let mut next = Daemon::start(&gateway.lab, &config(&gateway.lab)).unwrap();
    next.wait_until_up(LIMIT).unwrap();
    gateway.daemon = next;
    assert_uplinks(&gateway, &[0, 1]);
    let [marked, addressed] = decided(&gateway);
    assert_eq!([marked, addressed], [2 * 160, 2 * 80], "one program is there, not two");
    assert!(gateway.daemon.stop(Signal::SIGINT).unwrap().success());
    // The main table's default route is that of wan-a.
    assert_uplinks(&gateway, &[0]);
}

#[test]
fn two_gateways_on_one_machine_spread_local_traffic() {
    let mut first = Gateway::pair();
    let second = Gateway::pair();
    assert_uplinks(&first, &[0, 1]);
    assert_uplinks(&second, &[0, 1]);
    assert_eq!([decided(&first), decided(&second)], [[160, 80]; 2]);
    assert!(first.daemon.stop(Signal::SIGINT).unwrap().success());
    assert_uplinks(&second, &[0, 1]);
    assert_eq!(decided(&second), [320, 160]);
}
