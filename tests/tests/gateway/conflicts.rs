//! Leftovers of scripts, VPN clients and firewalls that take traffic away: they are reported, and
//! the advice works.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use linkbal_lab::topology::plan::{Family, client, nexthop, server};
use linkbal_lab::traffic::{FlowSpec, HTTP, Protocol};
use linkbal_lab::wait;
use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::fixture::{Gateway, LIMIT, linkbal, text};

/// Returns the conflicts of a status, each as one text with its meaning and advice.
fn conflicts_of(status: &Value) -> Vec<String> {
    let all = status["conflicts"].as_array().unwrap().iter();
    all.filter(|conflict| conflict["compatible"] == false).map(Value::to_string).collect()
}

/// Runs commands in a shell of the gateway.
fn shell(gateway: &Gateway, words: &str) {
    gateway.lab.gateway.run("sh", &["-ec", words]).unwrap();
}

/// Waits until each of `words` is in a conflict, and returns the status.
pub(crate) fn wait_for_conflicts(gateway: &mut Gateway, words: &[&str]) -> Value {
    let named = |status: &Value| {
        let conflicts = conflicts_of(status).concat();
        words.iter().all(|words| conflicts.contains(words))
    };
    gateway.daemon.wait_for(&format!("conflicts with {words:?}"), LIMIT, named).unwrap()
}

/// Runs the first command of each advice, or up to nine of them with `all`.
fn follow_advice(gateway: &Gateway, status: &Value, all: bool) {
    for conflict in status["conflicts"].as_array().unwrap() {
        let advice = conflict["advice"].as_str().unwrap();
        let commands = advice.split('`').skip(1).step_by(2);
        let commands = commands.filter(|command| {
            ["ip", "nft delete"].iter().any(|program| command.starts_with(program))
        });
        let commands: Vec<_> = commands.take(if all { 9 } else { 1 }).collect();
        assert!(conflict["compatible"] == true || !commands.is_empty(), "{advice}");
        for command in commands {
            // Two pieces of advice may name the same thing.
            let done = gateway.lab.gateway.run("sh", &["-ec", command]);
            assert!(done.is_ok() || commands_of(status, command) > 1, "{command}: {done:?}");
        }
    }
}

fn commands_of(status: &Value, command: &str) -> usize {
    status["conflicts"].to_string().matches(command).count()
}

/// Returns the exit code and the output of `check --machine`.
fn check(gateway: &Gateway) -> (i32, String) {
    let path = gateway.daemon.config_path();
    let args = ["check", "--machine", "--config", path.to_str().unwrap()];
    let output = linkbal(&gateway.lab, &args);
    let printed = text(&output.stdout) + &text(&output.stderr);
    (output.status.code().unwrap(), printed)
}

fn plan(gateway: &Gateway) -> (i32, String) {
    let path = gateway.daemon.config_path();
    let output = linkbal(&gateway.lab, &["plan", "--config", path.to_str().unwrap()]);
    (output.status.code().unwrap(), text(&output.stdout))
}

pub(crate) fn assert_conflict(gateway: &Gateway, words: &str) {
    for (code, printed) in [check(gateway), plan(gateway)] {
        assert_eq!(code, 4, "{printed}");
        assert!(printed.contains(words), "{words} in {printed}");
        assert!(!printed.contains(": fine") && !printed.contains("wants it"), "{printed}");
    }
}

pub(crate) fn wait_for_no_conflict(gateway: &mut Gateway) {
    let none = |status: &Value| conflicts_of(status).is_empty();
    gateway.daemon.wait_for("no conflict", LIMIT, none).unwrap();
    let (code, printed) = check(gateway);
    assert!(code == 0 && printed.contains("fine"), "{printed}");
    // What the end of the conflict leads to, such as another nft table, follows at once.
    wait::until("nothing left to plan", LIMIT, || Ok((plan(gateway).0 == 0).then_some(())))
        .unwrap_or_else(|error| panic!("{error:#}: {}", plan(gateway).1));
}

/// Returns, for each uplink, whether new connections of a family leave by it.
pub(crate) fn uplinks(gateway: &Gateway, family: Family) -> Vec<bool> {
    let flows = FlowSpec::spread(family, Protocol::Tcp, HTTP, 40);
    gateway.open(&flows).into_iter().map(|count| count > 0).collect()
}

#[test]
fn marks_of_scripts_and_their_rules_are_reported() {
    let mut gateway = Gateway::pair();
    let by = nexthop(Family::V4, 1);
    shell(&gateway, &format!("ip route add default via {by} dev wan-b table 201"));
    for iptables in ["iptables-nft", "iptables-legacy"] {
        assert_eq!(uplinks(&gateway, Family::V4), [true, true]);
        let lan = client(Family::V4, 1);
        shell(
            &gateway,
            &format!(
                "{iptables} -I PREROUTING -t mangle -i lan0 -s {lan}/16 -d 0/0 -p tcp -m multiport \
                 --dports 80,443 -j MARK --set-mark 0x20; ip rule add fwmark 0x20 lookup 201 prio 3"
            ),
        );
        assert_eq!(uplinks(&gateway, Family::V4), [false, true], "they take it away");
        let words = ["mangle -D PREROUTING", "ip rule delete pref 3 fwmark 0x20"];
        let status = wait_for_conflicts(&mut gateway, &words);
        assert_conflict(&gateway, "takes packets of the LAN");
        follow_advice(&gateway, &status, false);
        wait_for_no_conflict(&mut gateway);
    }
    assert_eq!(uplinks(&gateway, Family::V4), [true, true]);
}

#[test]
fn rules_of_scripts_are_reported_in_both_families() {
    let mut gateway = Gateway::pair();
    for (family, flag) in [(Family::V4, "-4"), (Family::V6, "-6")] {
        let by = nexthop(family, 1);
        let lan = client(family, 1);
        shell(&gateway, &format!("ip {flag} route add default via {by} dev wan-b table 201"));
        let prefix = if flag == "-4" { 16 } else { 64 };
        for selector in [format!("from {lan}/{prefix}"), "iif lan0".into(), "ipproto tcp".into()] {
            shell(&gateway, &format!("ip {flag} rule add pref 900 {selector} lookup 201"));
            let status = wait_for_conflicts(&mut gateway, &["rule delete pref 900"]);
            // Some rules even keep the gateway from answering.
            let flows = FlowSpec::spread(family, Protocol::Tcp, HTTP, 40);
            let seen = gateway.try_open(&flows);
            assert!(seen.iter().all(|seen| seen.uplink() != Some(0)), "{selector}");
            assert_conflict(&gateway, "pref 900");
            follow_advice(&gateway, &status, false);
            wait_for_no_conflict(&mut gateway);
            assert_eq!(uplinks(&gateway, family), [true, true], "{selector}");
        }
    }
}

#[test]
fn route_lookups_find_conflicts_that_rules_do_not_show() {
    let mut gateway = Gateway::pair();
    // A route for a part of the internet, which is no conflict by itself.
    for (family, flag) in [(Family::V4, "-4"), (Family::V6, "-6")] {
        let by = nexthop(family, 1);
        for number in 0..8 {
            let place = server(family, number);
            shell(&gateway, &format!("ip {flag} route add {place} via {by} dev wan-b table 201"));
        }
        shell(&gateway, &format!("ip {flag} rule add pref 900 iif lan0 lookup 201"));
        let status = wait_for_conflicts(&mut gateway, &["ip route get", "mark 0x1000000"]);
        assert_conflict(&gateway, "by table 201");
        follow_advice(&gateway, &status, false);
        wait_for_no_conflict(&mut gateway);
    }
    let events = gateway.daemon.run(&["events"]).unwrap();
    assert!(events.contains("ip route get"), "{events}");
}

#[test]
fn half_internet_routes_and_host_routes_by_a_dead_uplink_are_reported() {
    let mut gateway = Gateway::pair();
    shell(
        &gateway,
        "ip tuntap add tun0 mode tun; ip link set tun0 up; ip route add 0.0.0.0/1 dev tun0; \
         ip route add 128.0.0.0/1 dev tun0",
    );
    let status = wait_for_conflicts(&mut gateway, &["redirect-gateway", "128.0.0.0/1 dev tun0"]);
    assert_conflict(&gateway, "0.0.0.0/1");
    follow_advice(&gateway, &status, true);
    wait_for_no_conflict(&mut gateway);
    assert_eq!(uplinks(&gateway, Family::V4), [true, true]);

    let (place, by) = (server(Family::V4, 70), nexthop(Family::V4, 0));
    shell(&gateway, &format!("ip route add {place} via {by} dev wan-a"));
    wait_for_no_conflict(&mut gateway);
    gateway.daemon.run(&["disable", "isp-a"]).unwrap();
    let status = wait_for_conflicts(&mut gateway, &["is down, and what goes there still uses it"]);
    follow_advice(&gateway, &status, false);
    gateway
        .daemon
        .wait_for("no conflict", LIMIT, |status| conflicts_of(status).is_empty())
        .unwrap();
}

/// Starts a proxy in the gateway that takes connections for any address.
fn start_proxy(gateway: &Gateway) {
    let _entered = gateway.lab.gateway.enter().unwrap();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_ip_transparent_v4(true).unwrap();
    let address: SocketAddr = "0.0.0.0:3129".parse().unwrap();
    socket.bind(&address.into()).unwrap();
    socket.listen(16).unwrap();
    let listener = TcpListener::from(socket);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            // The client may be gone.
            let _ = stream.write_all(b"proxied");
        }
    });
}

fn proxied(gateway: &Gateway) -> usize {
    let _entered = gateway.lab.lan.enter().unwrap();
    let one = |number| {
        let place = SocketAddr::new(server(Family::V4, number), HTTP);
        let mut stream = TcpStream::connect_timeout(&place, Duration::from_secs(5)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        let mut said = [0; 7];
        stream.read_exact(&mut said).ok()?;
        (&said == b"proxied").then_some(())
    };
    (0..6).filter_map(one).count()
}

#[test]
fn a_transparent_proxy_works_and_is_no_conflict() {
    let mut gateway = Gateway::pair();
    start_proxy(&gateway);
    shell(
        &gateway,
        "ip rule add fwmark 1 lookup 100; ip route add local default dev lo table 100
         nft -f - <<END
         table ip proxy {
            chain divert {
                type filter hook prerouting priority mangle
                iifname lan0 tcp dport 80 tproxy to :3129 meta mark set 1 accept
            }
         }
END",
    );
    assert_eq!(proxied(&gateway), 6);
    let named = |status: &Value| status["conflicts"].to_string().contains("ip proxy divert");
    let status = gateway.daemon.wait_for("the proxy", LIMIT, named).unwrap();
    assert_eq!(conflicts_of(&status), [""; 0], "its mark leads to this machine");
    wait_for_no_conflict(&mut gateway);
    // The advised way to keep linkbal's bits where a mark conflicts.
    shell(
        &gateway,
        "ip rule delete fwmark 1 lookup 100; ip rule add fwmark 0x1/0x80ffffff lookup 100
         nft flush chain ip proxy divert
         nft 'add rule ip proxy divert iifname lan0 tcp dport 80 tproxy to :3129 \
              meta mark set meta mark & 0x7f000000 | 0x1 accept'",
    );
    assert_eq!(proxied(&gateway), 6);
    wait_for_no_conflict(&mut gateway);
}

#[test]
fn reverse_path_filters_are_reported() {
    let mut gateway = Gateway::pair();
    // As firewalld 1.3 writes it for IPv6_rpfilter=yes.
    shell(
        &gateway,
        "nft -f - <<END
         table inet fw {
            chain filter_PREROUTING {
                type filter hook prerouting priority filter + 10
                icmpv6 type { nd-router-advert, nd-neighbor-solicit } accept
                meta nfproto ipv6 fib saddr . mark . iif oif missing drop
            }
         }
END
         iptables-nft -t raw -A PREROUTING -m rpfilter --invert -j DROP",
    );
    let words = ["ipv6 answers that come in", "nft delete rule inet fw", "raw -D PREROUTING"];
    let status = wait_for_conflicts(&mut gateway, &words);
    assert_conflict(&gateway, "reverse path filter");
    follow_advice(&gateway, &status, false);
    wait_for_no_conflict(&mut gateway);
    gateway.daemon.wait_until_up(LIMIT).unwrap();
    wait::until("flows by both uplinks", LIMIT, || {
        let both = uplinks(&gateway, Family::V6) == [true, true];
        Ok(both.then_some(()))
    })
    .unwrap();
}
