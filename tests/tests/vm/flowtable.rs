//! Flowtables, which take packets of known connections past most of the kernel, and past our fwmark:
//! an administrator's own one, and linkbal's.

use std::fs;

use linkbal_lab::namespace::Namespace;
use linkbal_lab::topology::plan::Family;
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::traffic::{FlowReport, LongFlows};
use linkbal_lab::wait;
use nix::sys::signal::Signal;

use crate::fixture::{Gateway, LIMIT, is_udp, on, wait_for_answers, wait_for_move, with_key};
use crate::kernel::{fwmark, tracked_by};
use crate::lines::{assert_fails_over, assert_stay, equal_lab, with_slow_probes};

/// An administrator's own table.
const OF_OTHERS: &str = "
table inet fast {
    flowtable quick {
        hook ingress priority 0
        devices = { lan0, wan-a, wan-b }
    }
    chain forward {
        type filter hook forward priority 0
        meta l4proto { tcp, udp } flow add @quick
    }
}
";

/// Chains that count packets of the lab's flows: those that the kernel forwards, and those that leave
/// by the first uplink, whoever sends them.
const COUNTERS: &str = "
table inet count {
    counter forwarded { }
    chain forward {
        type filter hook forward priority 0
        th dport 80 counter name forwarded
        th sport 80 counter name forwarded
    }
}
table netdev count {
    counter left { }
    chain egress {
        type filter hook egress device wan-a priority 0
        th dport 80 counter name left
    }
}
";

const SECTION: &str = "[accelerate]\nmode = \"flowtable\"\n\n";
/// Number of answers on each flow until which nothing else happens.
const ANSWERS: u64 = 10;
const FLOWS: usize = 5;

/// Returns a configuration with a flowtable.
pub(crate) fn offloading(config: &str) -> String {
    // Another mode may be there.
    let begin = config.find("[lan]").unwrap();
    format!("{SECTION}{}", &config[begin..])
}

fn slowly_offloading(config: &str) -> String {
    offloading(&with_slow_probes(config))
}

fn start() -> Gateway {
    let lab = equal_lab();
    lab.gateway.load_nft(COUNTERS).unwrap();
    Gateway::start(lab, slowly_offloading)
}

/// Returns the marks of the connections in flowtables.
fn offloaded(gateway: &Namespace) -> Vec<u32> {
    let families = ["ipv4", "ipv6"].into_iter();
    let listed = families.map(|family| gateway.run("conntrack", &["-L", "-f", family]).unwrap());
    let listed: Vec<_> = listed.collect();
    let lines = listed.iter().flat_map(|text| text.lines());
    let offloaded = lines.filter(|line| line.contains("[OFFLOAD]"));
    let mark = |line: &str| {
        let mark = line.split_whitespace().find_map(|word| word.strip_prefix("mark="));
        mark.unwrap().parse().unwrap()
    };
    offloaded.map(mark).collect()
}

/// Waits until so many connections are in flowtables.
fn wait_for_offloaded(gateway: &Gateway, count: usize) {
    let mut seen = 0;
    let waited = wait::until("connections in the flowtable", LIMIT, || {
        seen = offloaded(&gateway.lab.gateway).len();
        Ok((seen == count).then_some(()))
    });
    waited.unwrap_or_else(|error| panic!("{error:#}: {seen}\n{}", gateway.daemon.log()));
}

/// Returns the packets that a counter of [`COUNTERS`] has.
fn counted(gateway: &Gateway, family: &str, name: &str) -> u64 {
    let listed = gateway.lab.gateway.run("nft", &["list", "counter", family, "count", name]);
    let listed = listed.unwrap();
    let mut words = listed.split_whitespace();
    words.find(|word| *word == "packets").unwrap();
    words.next().unwrap().parse().unwrap()
}

/// Waits for some answers on all flows that live.
fn wait_for_more(flows: &LongFlows) {
    wait_for_answers(flows, &flows.reports(), ANSWERS, |_| true);
}

/// Checks that flows by both uplinks are in the flowtable, are answered, and have packets that the kernel
/// does not forward otherwise.
pub(crate) fn assert_offloads(gateway: &Gateway) {
    let counters = COUNTERS.split_once("table netdev").unwrap().0;
    gateway.lab.gateway.load_nft(counters).unwrap();
    let flows = gateway.long_flows(FLOWS);
    wait_for_offloaded(gateway, 4 * FLOWS);
    let before = flows.reports();
    let used = [0, 1].map(|uplink| before.iter().filter(|report| on(uplink)(report)).count());
    assert!(used.iter().all(|count| *count > 0), "{used:?}");
    let forwarded = counted(gateway, "inet", "forwarded");
    wait_for_more(&flows);
    assert_eq!(counted(gateway, "inet", "forwarded"), forwarded);
    assert_go_on(&flows, &before);
    assert_nothing_refused(gateway);
}

/// Checks that all flows are answered as before. Late answers are not counted, since the guest shares its
/// processor.
fn assert_go_on(flows: &LongFlows, before: &[FlowReport]) {
    wait_for_more(flows);
    for (old, new) in before.iter().zip(flows.reports()) {
        let same = (new.peer, new.moved, new.errors) == (old.peer, old.moved, old.errors);
        assert!(same && !new.closed, "before: {old:?}\nnow: {new:?}");
    }
}

fn reload(gateway: &Gateway, tune: impl FnOnce(&str) -> String) {
    let path = gateway.daemon.config_path();
    let config = tune(&fs::read_to_string(&path).unwrap());
    fs::write(&path, config).unwrap();
    gateway.daemon.run(&["reload"]).unwrap();
}

fn tables(gateway: &Gateway) -> String {
    gateway.lab.gateway.run("nft", &["list", "tables"]).unwrap()
}

fn assert_nothing_refused(gateway: &Gateway) {
    let refused = gateway.daemon.status().unwrap()["refused"].clone();
    assert!(refused.as_object().unwrap().is_empty(), "{refused}");
}

#[test]
fn offloaded_flows_leave_a_dead_uplink_too() {
    let lab = equal_lab();
    lab.gateway.load_nft(OF_OTHERS).unwrap();
    let mut gateway = Gateway::start(lab, with_slow_probes);
    let flows = gateway.long_flows(1);
    wait::until("an offloaded connection", LIMIT, || {
        Ok((!offloaded(&gateway.lab.gateway).is_empty()).then_some(()))
    })
    .unwrap();
    drop(flows);
    assert_fails_over(&mut gateway, 0);
}

/// Checks that packets pass by the kernel's forwarding, and that linkbal sees each of them.
#[test]
fn established_flows_are_offloaded_and_counted_as_ever() {
    let mut gateway = start();
    let flows = gateway.long_flows(FLOWS);
    wait_for_offloaded(&gateway, 4 * FLOWS);
    let packets = |gateway: &Gateway| -> [u64; 2] {
        let status = gateway.daemon.status().unwrap();
        assert_eq!(status["flowtable_connections"], 4 * FLOWS, "{status}");
        let uplinks = status["uplinks"].as_array().unwrap().iter();
        let known = status["counters"]["flow_known"].as_u64().unwrap();
        [uplinks.map(|uplink| uplink["packets"].as_u64().unwrap()).sum(), known]
    };
    let before = flows.reports();
    let (forwarded, seen) = (counted(&gateway, "inet", "forwarded"), packets(&gateway));
    wait_for_more(&flows);
    let sent = |reports: &[FlowReport]| reports.iter().map(|flow| flow.sent).sum::<u64>();
    let requests = sent(&flows.reports()) - sent(&before);
    let now = packets(&gateway);
    assert_eq!(counted(&gateway, "inet", "forwarded"), forwarded);
    assert!(requests >= ANSWERS * 4 * FLOWS as u64);
    for (now, before) in now.iter().zip(seen) {
        assert!(*now >= before + requests, "{requests} requests: {before} {now}");
    }
    assert_go_on(&flows, &before);
    assert!(gateway.daemon.run(&["status"]).unwrap().contains("flowtable: 20 connections\n"));
    // The kernel is lenient with these connections alone.
    let liberal = gateway.lab.gateway.sysctl("net.netfilter.nf_conntrack_tcp_be_liberal");
    assert_eq!(liberal.unwrap(), "0");
    let config = gateway.daemon.config_path();
    gateway.daemon.run(&["plan", "--config", &config.to_string_lossy()]).unwrap();
    assert_nothing_refused(&gateway);
    gateway.daemon.stop(Signal::SIGINT).unwrap();
    assert!(!tables(&gateway).contains("linkbal"), "{}", tables(&gateway));
    assert_eq!(offloaded(&gateway.lab.gateway).len(), 0);
}

/// Checks what the documentation says of rules that come later.
#[test]
fn a_new_rule_counts_once_the_connection_is_forgotten() {
    let gateway = start();
    let flows = gateway.long_flows(FLOWS);
    wait_for_offloaded(&gateway, 4 * FLOWS);
    let dropping = "table inet admin {\nchain forward {\ntype filter hook forward priority 0\n\
                    iifname lan0 meta l4proto { tcp, udp } drop\n}\n}\n";
    gateway.lab.gateway.load_nft(dropping).unwrap();
    wait_for_more(&flows);
    gateway.lab.gateway.run("conntrack", &["-F"]).unwrap();
    wait::until("the end of the answers", LIMIT, || {
        let before = flows.reports();
        let requests = |old: &FlowReport, new: &FlowReport| new.sent >= old.sent + 5;
        wait::until("requests", LIMIT, || {
            let now = flows.reports();
            let mut udp = before.iter().zip(&now).filter(|(old, _)| is_udp(old));
            Ok(udp.all(|(old, new)| requests(old, new)).then_some(()))
        })?;
        let now = flows.reports();
        let silent = before.iter().zip(&now).all(|(old, new)| old.answers == new.answers);
        Ok(silent.then_some(()))
    })
    .unwrap();
    gateway.lab.gateway.run("nft", &["delete", "table", "inet", "admin"]).unwrap();
    wait_for_more(&flows);
}

#[test]
fn flows_of_a_dead_uplink_end_and_those_of_the_other_go_on_untouched() {
    let mut gateway = start();
    let flows = gateway.long_flows(2 * FLOWS);
    wait_for_offloaded(&gateway, 8 * FLOWS);
    let before = flows.reports();
    let kept = |family| tracked_by(&gateway.lab.gateway, family, fwmark(1));
    let others = Family::ALL.map(kept);
    gateway.lab.blackhole(0).unwrap();
    gateway.wait_until_down(0);
    wait_for_move(&flows, &before, |report| is_udp(report) && on(0)(report), 1);
    wait::until("resets", LIMIT, || {
        let now = flows.reports();
        let mut tcp = before.iter().zip(&now).filter(|(old, _)| on(0)(old) && !is_udp(old));
        Ok(tcp.all(|(_, new)| new.closed).then_some(()))
    })
    .unwrap();
    let left = counted(&gateway, "netdev", "left");
    assert_stay(&flows, &before, 1);
    wait_for_more(&flows);
    assert_eq!(counted(&gateway, "netdev", "left"), left, "packets by the dead uplink");
    assert!(offloaded(&gateway.lab.gateway).iter().all(|mark| *mark == fwmark(1)));
    let now = Family::ALL.map(|family| tracked_by(&gateway.lab.gateway, family, fwmark(1)));
    assert!(others.iter().zip(&now).all(|(others, now)| others.is_subset(now)));
    gateway.lab.restore(0).unwrap();
    gateway.daemon.wait_until_up(LIMIT).unwrap();
    gateway.wait_for_uplinks(&[0, 1]);
}

#[test]
fn an_uplink_may_be_left_out() {
    let tune = |config: &str| with_key(&slowly_offloading(config), "isp-a", "accelerate = false");
    let gateway = Gateway::start(equal_lab(), tune);
    let flows = gateway.long_flows(FLOWS);
    let of_b = flows.reports().iter().filter(|report| on(1)(report)).count();
    assert!((1..4 * FLOWS).contains(&of_b), "{of_b}");
    wait_for_offloaded(&gateway, of_b);
    wait_for_more(&flows);
    assert_eq!(offloaded(&gateway.lab.gateway), vec![fwmark(1); of_b]);
}

#[test]
fn interfaces_come_and_go() {
    let mut gateway = start();
    let rules =
        |gateway: &Gateway| gateway.lab.gateway.run("nft", &["list", "table", "inet", "linkbal"]);
    for round in 1..3 {
        gateway.lab.gateway.run("ip", &["link", "delete", "lan0"]).unwrap();
        let listed = |wanted: bool| {
            wait::until("other interfaces of the flowtable", LIMIT, || {
                let table = ["list", "table", "inet", "linkbal_flowtable"];
                let listed = gateway.lab.gateway.run("nft", &table)?;
                Ok((listed.contains("lan0") == wanted).then_some(()))
            })
            .unwrap();
        };
        if round == 1 {
            listed(false);
        }
        rules(&gateway).unwrap();
        gateway.lab.connect_lan().unwrap();
        listed(true);
        gateway.wait_for_uplinks(&[0, 1]);
        let flows = gateway.long_flows(FLOWS);
        wait_for_offloaded(&gateway, 4 * FLOWS);
        let before = flows.reports();
        let forwarded = counted(&gateway, "inet", "forwarded");
        wait_for_more(&flows);
        assert_eq!(counted(&gateway, "inet", "forwarded"), forwarded);
        assert_go_on(&flows, &before);
        assert_nothing_refused(&gateway);
        drop(flows);
        gateway.lab.gateway.run("conntrack", &["-F"]).unwrap();
    }
    rules(&gateway).unwrap();
    gateway.daemon.check_running().unwrap();
}

#[test]
fn the_mode_changes_under_live_traffic() {
    let gateway = Gateway::start(equal_lab(), |config| {
        slowly_offloading(config).replace("\"flowtable\"", "\"off\"")
    });
    let flows = gateway.long_flows(FLOWS);
    let before = flows.reports();
    wait_for_more(&flows);
    assert_eq!(offloaded(&gateway.lab.gateway).len(), 0);
    for _ in 0..2 {
        reload(&gateway, |config| config.replace("\"off\"", "\"flowtable\""));
        wait_for_offloaded(&gateway, 4 * FLOWS);
        wait_for_more(&flows);
        reload(&gateway, |config| config.replace("\"flowtable\"", "\"off\""));
        wait_for_offloaded(&gateway, 0);
        assert!(!tables(&gateway).contains("linkbal_flowtable"));
        wait_for_more(&flows);
    }
    assert_go_on(&flows, &before);
}

/// Checks that nobody's flowtable keeps the other out.
#[test]
fn an_administrator_may_have_a_flowtable_on_the_same_interfaces() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    lab.gateway.load_nft(OF_OTHERS).unwrap();
    let gateway = Gateway::start(lab, slowly_offloading);
    let flows = gateway.long_flows(FLOWS);
    wait_for_offloaded(&gateway, 4 * FLOWS);
    assert_nothing_refused(&gateway);
    gateway.lab.gateway.run("nft", &["delete", "table", "inet", "fast"]).unwrap();
    wait_for_offloaded(&gateway, 4 * FLOWS);
    let before = flows.reports();
    assert_go_on(&flows, &before);
}
