//! Connections that are older than linkbal, or began while its nft table was gone.

use std::collections::BTreeSet;
use std::time::Duration;

use linkbal_lab::daemon::Daemon;
use linkbal_lab::topology::plan::{Family, uplink_address};
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::traffic::{FlowReport, FlowSpec, HTTP, LongFlows, Protocol};
use linkbal_lab::wait;
use nix::sys::signal::Signal;

use crate::fixture::{Gateway, LIMIT, TICK, assert_undisturbed, config, on};

/// Number of flows of each family.
const FLOWS: usize = 20;

/// A stateful firewall, as on most gateways: connection tracking sees all connections.
const FIREWALL: &str = "table inet admin {
    chain forward {
        type filter hook forward priority filter;
        ct state established,related accept
    }
}";

/// Creates a lab whose gateway already forwards.
fn forwarding() -> Lab {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    lab.gateway.set_sysctl("net.ipv4.ip_forward", "1").unwrap();
    lab.gateway.set_sysctl("net.ipv6.conf.all.forwarding", "1").unwrap();
    // Replies may return by another line than the routes say; that is not what is tested here.
    lab.gateway.set_sysctl("net.ipv4.conf.all.rp_filter", "0").unwrap();
    load(&lab, FIREWALL);
    lab
}

fn load(lab: &Lab, table: &str) {
    lab.gateway.load_nft(table).unwrap();
}

fn udp() -> Vec<FlowSpec> {
    let each = Family::ALL.into_iter();
    each.flat_map(|family| FlowSpec::spread(family, Protocol::Udp, HTTP, FLOWS)).collect()
}

/// Waits until every flow has three more answers, and returns the reports.
fn wait_until_alive(gateway: &Gateway, flows: &LongFlows) -> Vec<FlowReport> {
    let before = flows.reports();
    wait::until("answers to every flow", LIMIT, || {
        let now = flows.reports();
        let mut pairs = before.iter().zip(&now);
        Ok(pairs.all(|(old, new)| new.answers >= old.answers + 3).then_some(()))
    })
    .unwrap_or_else(|error| {
        let silent: Vec<_> = flows.reports().into_iter().filter(|flow| flow.answers == 0).collect();
        let marks = tracked(&gateway.lab, "udp");
        panic!("{error:#}: {} silent: {silent:#?}\n{marks}\n{}", silent.len(), gateway.daemon.log())
    });
    flows.reports()
}

/// Returns the tracked connections of a protocol in both families, as `conntrack` lists them.
fn tracked(lab: &Lab, protocol: &str) -> String {
    let list = |family: &str| lab.gateway.run("conntrack", &["-L", "-f", family, "-p", protocol]);
    ["ipv4", "ipv6"].map(|family| list(family).unwrap()).concat()
}

/// Returns the number of UDP connections to [`HTTP`] without the mark of an uplink.
fn unmarked(lab: &Lab) -> usize {
    let list = tracked(lab, "udp");
    let of_port = list.lines().filter(|line| line.contains(&format!("dport={HTTP} ")));
    let mark = |line: &str| {
        let mark = line.split_whitespace().find_map(|field| field.strip_prefix("mark="));
        mark.unwrap_or("0").parse::<u32>().unwrap() & 0x7f00_0000
    };
    of_port.filter(|line| mark(line) == 0).count()
}

#[test]
fn flows_that_began_untranslated_before_linkbal_are_translated_soon() {
    let lab = forwarding();
    let flows = LongFlows::begin(&lab.lan, &udp(), TICK).unwrap();
    wait::until("connections without a translation", LIMIT, || {
        Ok((unmarked(&lab) == 2 * FLOWS).then_some(()))
    })
    .unwrap();
    let gateway = Gateway::start(lab, str::to_owned);
    wait_until_alive(&gateway, &flows);
    assert_eq!(unmarked(&gateway.lab), 0);
    let before = flows.settle().unwrap();
    assert_undisturbed(&flows, &before, 2 * FLOWS, |_| true);
}

#[test]
fn flows_that_were_translated_before_linkbal_keep_their_uplink() {
    let lab = forwarding();
    load(
        &lab,
        "table inet script {
            chain postrouting {
                type nat hook postrouting priority srcnat;
                oifname \"wan-*\" masquerade
            }
        }",
    );
    let flows = LongFlows::begin(&lab.lan, &udp(), TICK).unwrap();
    wait::until("translated connections", LIMIT, || {
        Ok((translated(&lab).len() == 2 * FLOWS).then_some(()))
    })
    .unwrap();
    let before = translated(&lab);
    // The servers start only with linkbal, and answer from then on.
    let gateway = Gateway::start(lab, str::to_owned);
    let reports = wait_until_alive(&gateway, &flows);
    // All flows stay on the line of the best default route.
    let stayed = |flow: &FlowReport| on(0)(flow) && flow.moved == 0;
    assert!(reports.iter().all(stayed), "{reports:?}\n{}", gateway.daemon.log());
    wait::until("marks", LIMIT, || Ok((unmarked(&gateway.lab) == 0).then_some(()))).unwrap();
    assert_eq!(translated(&gateway.lab), before);
    let log = gateway.daemon.log();
    assert!(log.contains("marked with their uplink, 0 that left untranslated forgotten"), "{log}");
    let reports = flows.settle().unwrap();
    assert_undisturbed(&flows, &reports, 2 * FLOWS, |_| true);
}

/// Returns the addresses and ports, in both directions, of the UDP connections to [`HTTP`] that
/// are translated to an address of the first uplink.
fn translated(lab: &Lab) -> BTreeSet<String> {
    let list = tracked(lab, "udp");
    let ends = list.lines().filter(|line| line.contains(&format!("dport={HTTP} "))).map(|line| {
        let ends = line.split_whitespace().filter(|field| {
            ["src=", "dst=", "sport=", "dport="].iter().any(|name| field.starts_with(name))
        });
        ends.collect::<Vec<_>>().join(" ")
    });
    let own = |ends: &String| {
        let mut addresses = Family::ALL.into_iter().map(|family| uplink_address(family, 0));
        addresses.any(|own| ends.contains(&format!("dst={own} ")))
    };
    ends.filter(own).collect()
}

#[test]
fn flows_that_begin_while_the_ruleset_is_flushed_are_translated_soon() {
    let gateway = Gateway::start(forwarding(), str::to_owned);
    let mut all = Vec::new();
    for _ in 0..5 {
        gateway.lab.gateway.run("nft", &["flush", "ruleset"]).unwrap();
        all.push(LongFlows::begin(&gateway.lab.lan, &udp(), Duration::from_millis(50)).unwrap());
    }
    for flows in &all {
        wait_until_alive(&gateway, flows);
    }
    assert_eq!(unmarked(&gateway.lab), 0);
}

#[test]
fn flows_that_begin_between_an_end_and_a_start_are_translated_soon() {
    let mut gateway = Gateway::start(forwarding(), str::to_owned);
    gateway.assert_uplinks(10, &[0, 1]);
    gateway.daemon.stop(Signal::SIGINT).unwrap();
    // The marks lost their meaning when linkbal ended.
    let marks = tracked(&gateway.lab, "tcp") + &tracked(&gateway.lab, "udp");
    assert!(
        marks.contains("mark=0 ")
            && marks.matches("mark=").count() == marks.matches("mark=0 ").count(),
        "{marks}"
    );
    let flows = LongFlows::begin(&gateway.lab.lan, &udp(), TICK).unwrap();
    wait::until("connections without a translation", LIMIT, || {
        Ok((unmarked(&gateway.lab) >= 2 * FLOWS).then_some(()))
    })
    .unwrap();
    // The old daemon is dropped while its successor runs, so it cannot tear anything down.
    let next = Daemon::start(&gateway.lab, &config(&gateway.lab)).unwrap();
    let former = std::mem::replace(&mut gateway.daemon, next);
    gateway.daemon.wait_until_up(LIMIT).unwrap();
    drop(former);
    wait_until_alive(&gateway, &flows);
    assert_eq!(unmarked(&gateway.lab), 0);
}
