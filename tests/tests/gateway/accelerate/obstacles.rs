//! Obstacles to shortcuts, and interfaces that are left out: none of these packets takes one.

use std::sync::Arc;

use linkbal_lab::namespace::Namespace;
use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::traffic::{FlowSpec, HTTP, LongFlows, Protocol};
use linkbal_lab::{oracle, wait};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::start;
use crate::fixture::{Gateway, LIMIT, TICK, on, uplink_status, wait_for_answers};
use crate::shortcuts::{
    accelerated, accelerated_with, start_with, taken, taken_by, wait_for_none, wait_for_requests,
    wait_for_shortcuts,
};

/// Number of requests of each flow after which it is sure that packets were sent.
const REQUESTS: u64 = 5;

/// Counts at a provider the packets of flows that come in from the gateway.
fn count_clear_packets(provider: &Namespace) {
    let counter = format!(
        "table inet watch {{\n\
         counter clear {{}}\n\
         chain in {{\n\
         type filter hook prerouting priority -300\n\
         iifname cust0 th dport {HTTP} counter name clear\n\
         }}\n}}\n"
    );
    provider.load_nft(&counter).unwrap();
}

fn clear_packets(lab: &Lab) -> u64 {
    let counted = |provider: &Namespace| {
        let listed = provider.run("nft", &["-j", "list", "counters"]).unwrap();
        let listed: Value = serde_json::from_str(&listed).unwrap();
        let mut objects = listed["nftables"].as_array().unwrap().iter();
        objects.find_map(|object| object["counter"]["packets"].as_u64()).unwrap()
    };
    lab.uplinks.iter().map(|uplink| counted(&uplink.provider)).sum()
}

/// Adds or deletes policies by which IPsec protects what clients send to servers, though there are no
/// keys for it.
fn policies(gateway: &Namespace, action: &str) {
    let of = |family| {
        let (own, server) = match family {
            Family::V4 => ("10.77.0.0/24", "198.51.100.0/24"),
            Family::V6 => ("fd77::/64", "2001:db8:ff::/64"),
        };
        let (near, far) = (plan::uplink_address(family, 0), plan::server(family, 90));
        let template = match action {
            "add" => format!("tmpl src {near} dst {far} proto esp mode tunnel"),
            _ => String::new(),
        };
        format!("xfrm policy {action} src {own} dst {server} dir out {template}\n")
    };
    gateway.ip_batch(&Family::ALL.map(of).concat()).unwrap();
}

/// Returns why the flows of an uplink take no shortcuts.
fn reason(status: &Value, uplink: &str) -> Option<String> {
    let shortcuts = &uplink_status(status, uplink)["shortcuts"];
    assert!(shortcuts["up"].is_u64() && shortcuts["down"].is_u64(), "{shortcuts}");
    shortcuts["none_because"].as_str().map(str::to_owned)
}

#[test]
fn nothing_takes_a_shortcut_past_ipsec_policies() {
    let mut gateway = start();
    for uplink in &gateway.lab.uplinks {
        count_clear_packets(&uplink.provider);
    }
    let flows = gateway.long_flows(10);
    for watched in [true, false] {
        wait_for_shortcuts(&gateway, 200);
        if !watched {
            gateway.daemon.signal(Signal::SIGSTOP).unwrap();
        }
        policies(&gateway.lab.gateway, "add");
        if watched {
            let off =
                |status: &Value| reason(status, "isp-a").as_deref() == Some("IPsec policies exist");
            gateway.daemon.wait_for("shortcuts to be off", LIMIT, off).unwrap();
        } else {
            // What is not renewed ends, whoever knows of it.
            wait_for_none(&gateway, &flows, 0);
        }
        let before = (clear_packets(&gateway.lab), taken(&gateway));
        wait_for_requests(&flows, REQUESTS);
        assert_eq!((clear_packets(&gateway.lab), taken(&gateway)), before, "{watched}");
        policies(&gateway.lab.gateway, "delete");
        gateway.daemon.signal(Signal::SIGCONT).unwrap();
        wait_for_answers(&flows, &flows.reports(), 3, |_| true);
    }
    wait_for_shortcuts(&gateway, 200);
    let said = gateway.daemon.run(&["events"]).unwrap();
    for words in ["shortcuts are off: IPsec policies exist", "shortcuts are no longer off"] {
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn policies_that_are_there_first_leave_no_shortcuts() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    // For somebody else.
    lab.gateway.ip_batch("xfrm policy add src 10.9.0.0/24 dir in action block\n").unwrap();
    let mut gateway = start_with(lab, str::to_owned);
    let off = |status: &Value| reason(status, "isp-b").as_deref() == Some("IPsec policies exist");
    gateway.daemon.wait_for("shortcuts to be off", LIMIT, off).unwrap();
    let flows = gateway.long_flows(10);
    wait_for_answers(&flows, &flows.reports(), 10, |_| true);
    assert_eq!(taken(&gateway), [0, 0]);
}

/// Leads what comes in by an interface through a device, as those do who shape it.
fn redirect(gateway: &Namespace, interface: &str) {
    let there = oracle::ip_json(gateway, &["link", "show"]).unwrap();
    if !there.as_array().unwrap().iter().any(|link| link["ifname"] == "ifb0") {
        gateway.ip_batch("link add ifb0 type ifb\n").unwrap();
    }
    gateway.ip_batch("link set ifb0 up\n").unwrap();
    tc(gateway, &format!("qdisc add dev {interface} ingress"));
    let all = format!("filter add dev {interface} parent ffff: protocol all prio 7 u32");
    tc(gateway, &format!("{all} match u32 0 0 action mirred egress redirect dev ifb0"));
}

fn tc(gateway: &Namespace, words: &str) {
    let words: Vec<&str> = words.split_whitespace().collect();
    gateway.run("tc", &words).unwrap();
}

/// Returns the number of packets that passed the device.
fn redirected(gateway: &Namespace) -> u64 {
    let links = oracle::ip_json(gateway, &["-s", "link", "show", "ifb0"]).unwrap();
    links[0]["stats64"]["tx"]["packets"].as_u64().unwrap()
}

/// Checks that a filter sees all packets that come in by an uplink.
#[test]
fn a_filter_at_the_ingress_of_an_uplink_sees_all_packets() {
    let mut gateway = start();
    let flows = gateway.long_flows(10);
    wait_for_shortcuts(&gateway, 200);
    redirect(&gateway.lab.gateway, "wan-a");
    let words = "tc filter u32 (pref 7) at the ingress of wan-a";
    let off = |status: &Value| reason(status, "isp-a").as_deref() == Some(words);
    let status = gateway.daemon.wait_for("shortcuts of isp-a to be off", LIMIT, off).unwrap();
    assert_eq!(reason(&status, "isp-b"), None);
    let (before, passed) = (flows.reports(), redirected(&gateway.lab.gateway));
    let taken_before = taken_by(&gateway)[0];
    wait_for_answers(&flows, &before, 10, |_| true);
    let now = flows.reports();
    let by_isp_a = before.iter().zip(&now).filter(|(old, _)| on(0)(old));
    let answers: u64 = by_isp_a.map(|(old, new)| new.answers - old.answers).sum();
    let passed = redirected(&gateway.lab.gateway) - passed;
    assert!(answers > 0 && passed >= answers, "{passed} of {answers} passed the device");
    assert_eq!(taken_by(&gateway)[0], taken_before);
    wait_for_shortcuts(&gateway, 200);
    assert_eq!(taken_by(&gateway)[0], taken_before, "isp-b alone");
    let text = gateway.daemon.run(&["status"]).unwrap();
    let line = format!("isp-a takes no shortcuts: {words}");
    assert!(text.lines().any(|shown| shown == line), "{text}");
    assert!(line.len() <= 80);

    tc(&gateway.lab.gateway, "qdisc delete dev wan-a ingress");
    wait::until("shortcuts of isp-a", LIMIT, || {
        Ok((taken_by(&gateway)[0][1] > taken_before[1]).then_some(()))
    })
    .unwrap();
}

/// Checks the same for the LAN, where no uplink is without blame.
#[test]
fn a_filter_at_the_ingress_of_the_lan_sees_all_packets() {
    let mut gateway = start();
    let flows = gateway.long_flows(10);
    wait_for_shortcuts(&gateway, 200);
    redirect(&gateway.lab.gateway, "lan0");
    let words = "tc filter u32 (pref 7) at the ingress of lan0";
    let off = |status: &Value| status["lan"][0]["no_shortcuts"] == words;
    gateway.daemon.wait_for("shortcuts of the LAN to be off", LIMIT, off).unwrap();
    wait_for_none(&gateway, &flows, 0);
    wait_for_none(&gateway, &flows, 1);
    let (before, passed) = (flows.reports(), redirected(&gateway.lab.gateway));
    wait_for_answers(&flows, &before, 5, |_| true);
    let now = flows.reports();
    let sent: u64 = before.iter().zip(&now).map(|(old, new)| new.answers - old.answers).sum();
    let passed = redirected(&gateway.lab.gateway) - passed;
    assert!(passed >= sent, "{passed} of {sent} passed the device");
    tc(&gateway.lab.gateway, "qdisc delete dev lan0 ingress");
    wait_for_shortcuts(&gateway, 200);
}

/// The second network of the LAN: prefixes, and addresses of gateway and client.
const GUESTS: [[&str; 3]; 2] =
    [["10.9.0.0/24", "10.9.0.1", "10.9.0.9"], ["fd09::/64", "fd09::1", "fd09::9"]];

/// Gives the LAN a second interface.
fn add_guests(lab: &Lab) {
    let mut gateway =
        format!("link add guest0 type veth peer name eth1 netns {}\n", lab.lan.name());
    let mut lan = String::new();
    for [prefix, router, client] in GUESTS {
        let length = prefix.split_once('/').unwrap().1;
        let more = if prefix.contains(':') { " nodad" } else { "" };
        gateway += &format!("address add {router}/{length} dev guest0{more}\n");
        lan += &format!("address add {client}/{length} dev eth1{more}\n");
    }
    lab.gateway.ip_batch(&format!("{gateway}link set guest0 up\n")).unwrap();
    lan += "link set eth1 up\n";
    for [prefix, router, _] in GUESTS {
        lan += &format!("route add default via {router} dev eth1 table 9\n");
        let flag = if prefix.contains(':') { "-6" } else { "-4" };
        lab.lan.run("ip", &[flag, "rule", "add", "from", prefix, "lookup", "9"]).unwrap();
    }
    lab.lan.ip_batch(&lan).unwrap();
}

#[test]
fn an_interface_of_the_lan_may_be_left_out() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    add_guests(&lab);
    let mut gateway = Gateway::start(lab, |config| {
        let config = config.replace("[\"lan0\"]", "[\"lan0\", \"guest*\"]");
        accelerated_with(&config, "except = [\"guest*\"]\n")
    });
    let off = |status: &Value| {
        let mut lan = status["lan"].as_array().unwrap().iter();
        let guests = lan.find(|lan| lan["interface"] == "guest0");
        guests.is_some_and(|lan| lan["no_shortcuts"] == "[accelerate] leaves it out")
    };
    gateway.daemon.wait_for("the reason", LIMIT, off).unwrap();
    let flow = |(number, protocol, [_, _, client]): (usize, Protocol, [&str; 3])| FlowSpec {
        source: client.parse().unwrap(),
        ..FlowSpec::new(family(client), protocol, 0, number, HTTP)
    };
    let kinds = GUESTS.into_iter().flat_map(|guest| Protocol::ALL.map(|p| (p, guest)));
    let guests: Vec<_> = kinds
        .flat_map(|(protocol, guest)| (0..5).map(move |number| (number, protocol, guest)))
        .map(flow)
        .collect();
    let guests = LongFlows::start(&Arc::clone(&gateway.lab.lan), &guests, TICK).unwrap();
    wait_for_answers(&guests, &guests.reports(), 20, |_| true);
    assert_eq!(taken(&gateway), [0, 0]);
    let _others = gateway.long_flows(5);
    wait_for_shortcuts(&gateway, 200);
}

/// Checks that the kernel's word on a tunnel is understood: this one takes its peers from routes.
#[test]
fn a_tunnel_that_needs_the_route_of_each_packet_has_none() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    for (name, kind) in
        [("guest0", "external dstport 4789"), ("guest1", "id 7 remote 192.0.2.9 dstport 4790")]
    {
        let link = format!("link add {name} type vxlan {kind}\nlink set {name} up\n");
        let address = format!("address add 10.9.{}.1/24 dev {name}\n", &name[5..]);
        lab.gateway.ip_batch(&(link + &address)).unwrap();
    }
    let mut gateway = Gateway::start(lab, |config| {
        accelerated(&config.replace("[\"lan0\"]", "[\"lan0\", \"guest*\"]"))
    });
    let reason = |status: &Value, name: &str| {
        let mut lan = status["lan"].as_array().unwrap().iter();
        lan.find(|lan| lan["interface"] == name).map(|lan| lan["no_shortcuts"].clone())
    };
    let wanted = "guest0 is a tunnel that takes its peer from the route of each packet";
    let told = |status: &Value| {
        reason(status, "guest0") == Some(wanted.into())
            && reason(status, "guest1") == Some(Value::Null)
    };
    gateway.daemon.wait_for("the reason", LIMIT, told).unwrap();
}

fn family(address: &str) -> Family {
    if address.contains(':') { Family::V6 } else { Family::V4 }
}
