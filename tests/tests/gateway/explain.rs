//! `linkbal explain` and `linkbal rules`: what they say is what servers then see.

use std::net::{IpAddr, SocketAddr};

use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::traffic::local::SocketKind;
use linkbal_lab::traffic::{HTTP, HTTPS};
use linkbal_lab::wait;
use serde_json::Value;
use socket2::Socket;

use crate::fixture::{Gateway, LIMIT, linkbal, text};

const RULES: &str = r#"
[[rule]]
match = { protocol = "udp", dport = 443 }
use = "isp-b"
"#;

const NAMES: [&str; 2] = ["isp-a", "isp-b"];

fn gateway() -> Gateway {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    Gateway::start(lab, |config| format!("{config}\n{RULES}"))
}

/// Returns what is explained, as JSON.
fn explain(gateway: &Gateway, args: &[&str]) -> Value {
    let all = [&["explain", "--json"], args].concat();
    serde_json::from_str(&gateway.daemon.run(&all).unwrap()).unwrap()
}

/// A flow of a client.
struct Flow {
    kind: SocketKind,
    client: SocketAddr,
    server: SocketAddr,
    socket: Socket,
}

impl Flow {
    fn new(
        gateway: &Gateway,
        family: Family,
        kind: SocketKind,
        number: u16,
        port: u16,
    ) -> (Self, Vec<String>) {
        let client = SocketAddr::new(plan::client(family, number.into()), 42_000 + number);
        let server = SocketAddr::new(plan::server(family, 0), port);
        let _entered = gateway.lab.lan.enter().unwrap();
        let socket = kind.socket(server).unwrap();
        socket.bind(&client.into()).unwrap();
        let protocol = if kind == SocketKind::Tcp { "tcp" } else { "udp" };
        let args = [client.to_string(), server.to_string(), format!("--protocol={protocol}")];
        (Self { kind, client, server, socket }, args.into())
    }

    /// Sends the first request; returns the address that the server saw.
    fn begin(&self) -> IpAddr {
        self.kind.ask(&self.socket, self.server).unwrap().ip().to_canonical()
    }

    fn again(&self) -> IpAddr {
        self.kind.ask_again(&self.socket, self.server).unwrap().ip().to_canonical()
    }
}

fn borrowed(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

fn uplink(seen: IpAddr) -> &'static str {
    NAMES[plan::uplink_of(seen).expect("an address of an uplink")]
}

#[test]
fn what_is_explained_comes_true_and_is_remembered() {
    let gateway = gateway();
    let mut number = 0;
    let mut used = Vec::new();
    for family in Family::ALL {
        for kind in [SocketKind::Tcp, SocketKind::ConnectedUdp] {
            for port in [HTTP, HTTPS, HTTP] {
                number += 1;
                let (flow, args) = Flow::new(&gateway, family, kind, number, port);
                let told = explain(&gateway, &borrowed(&args));
                let before = &told["now"];
                assert_eq!(told["flow_count"], 0, "{told}");
                let seen = flow.begin();
                assert_eq!(before["uplink"], uplink(seen), "{} {told}", flow.client);
                let by_rule = kind == SocketKind::ConnectedUdp && port == HTTPS;
                let rule = if by_rule { Value::from("rule 1") } else { Value::Null };
                assert_eq!(before["rule"]["name"], rule, "{told}");
                assert_eq!(told["outside"], Value::Array(Vec::new()), "{told}");
                // The entry of the flow and connection tracking say the same.
                let after = explain(&gateway, &borrowed(&args));
                let live = &after["flows"][0];
                assert_eq!(live["uplink"], uplink(seen), "{after}");
                assert_eq!(live["reason"], before["reason"], "{after}");
                assert_eq!(live["rule"], rule, "{after}");
                let translated = &after["connection"]["translated_source"];
                assert_eq!(*translated, Value::from(seen.to_string()), "{after}");
                assert_eq!(after["connection"]["uplink"], uplink(seen), "{after}");
                let other = NAMES[usize::from(uplink(seen) == NAMES[0])];
                assert_eq!(told["if_down"]["uplink"], other, "{told}");
                used.push(uplink(seen));
            }
        }
    }
    assert!(NAMES.iter().all(|name| used.contains(name)), "one uplink has all flows: {used:?}");
    let rules = gateway.daemon.run(&["rules", "--json"]).unwrap();
    let rules: Value = serde_json::from_str(&rules).unwrap();
    assert_eq!((&rules[0]["name"], &rules[0]["flows"]), (&"rule 1".into(), &2.into()), "{rules}");
    assert!(rules[1]["flows"].as_u64().unwrap() >= 10, "{rules}");
}

#[test]
fn the_counters_of_a_rule_follow_it_to_another_configuration() {
    let mut gateway = gateway();
    let (flow, _) = Flow::new(&gateway, Family::V4, SocketKind::ConnectedUdp, 1, HTTPS);
    flow.begin();
    let path = gateway.daemon.config_path();
    let config = std::fs::read_to_string(&path).unwrap();
    let before =
        "[[rule]]\nmatch = { dport = 25 }\nuse = \"isp-a\"\n\n[[rule]]\nmatch = { protocol";
    let config = config.replace("[[rule]]\nmatch = { protocol", before);
    std::fs::write(&path, config).unwrap();
    gateway.daemon.run(&["reload"]).unwrap();
    gateway.daemon.wait_until_up(LIMIT).unwrap();
    let rules: Value =
        serde_json::from_str(&gateway.daemon.run(&["rules", "--json"]).unwrap()).unwrap();
    assert_eq!(rules[0]["flows"], 0, "{rules}");
    assert_eq!(rules[1]["flows"], 1, "{rules}");
    // The flow is of the same rule, which has another number.
    let client = flow.client.to_string();
    let server = flow.server.to_string();
    let told = explain(&gateway, &[&client, &server, "--protocol", "udp"]);
    assert_eq!(told["flows"][0]["rule"], "rule 2", "{told}");
}

#[test]
fn a_flow_that_moved_says_from_where_and_where_it_was_told_to_go() {
    let gateway = gateway();
    let (flow, args) = Flow::new(&gateway, Family::V4, SocketKind::ConnectedUdp, 1, HTTP);
    let before = uplink(flow.begin());
    let told = explain(&gateway, &borrowed(&args));
    gateway.daemon.run(&["disable", before]).unwrap();
    let after = wait::until("the flow on the other uplink", LIMIT, || {
        let now = uplink(flow.again());
        Ok((now != before).then_some(now))
    });
    assert_eq!(told["if_down"]["uplink"], after.unwrap(), "{told}");
    let told = explain(&gateway, &borrowed(&args));
    assert_eq!(told["flows"][0]["moved_from"], before, "{told}");
}

#[test]
fn what_is_not_balanced_and_what_others_divert_is_said_in_words() {
    let gateway = gateway();
    let client = plan::client(Family::V4, 0).to_string();
    let own = plan::lan_gateway(Family::V4).to_string();
    let said = |args: &[&str]| {
        let output = linkbal(&gateway.lab, &[&["explain"], args].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    for (args, words) in [
        ([client.as_str(), own.as_str()], "address of the gateway itself"),
        ([client.as_str(), "224.0.0.251:5353"], "multicast"),
        ([client.as_str(), "169.254.1.1:80"], "link-local"),
        (["192.0.2.77", "198.51.100.1:80"], "--iface"),
        (["192.0.2.77", client.as_str()], "is a host of the LAN behind lan0"),
    ] {
        let told = said(&args);
        assert!(told.contains(words), "{words}: {told}");
    }
    for (args, words) in [
        (vec![own.as_str(), "198.51.100.1:80"], "is the gateway's own address: use --from-gateway"),
        (vec![client.as_str(), "198.51.100.1:80", "--mac", "02:00"], "six pairs"),
        (vec![client.as_str(), "198.51.100.1/80"], "write 198.51.100.1:80"),
    ] {
        let refused = linkbal(&gateway.lab, &[&["explain"], &args[..]].concat());
        let said = text(&refused.stderr);
        assert!(refused.status.code() == Some(2) && said.contains(words), "{said}");
    }
    let told = said(&[&client, "198.51.100.1:80"]);
    assert!(told.contains("by its source port") && told.contains("% isp-a"), "{told}");
    let told = said(&["--from-gateway", "198.51.100.1:443"]);
    assert!(told.contains("the gateway -> 198.51.100.1:443 tcp"), "{told}");
    let diverting = ["rule", "add", "priority", "90", "from", &client, "lookup", "777"];
    gateway.lab.gateway.run("ip", &diverting).unwrap();
    gateway
        .lab
        .gateway
        .run("ip", &["route", "add", "default", "dev", "lan0", "table", "777"])
        .unwrap();
    let told = wait::until("the diversion", LIMIT, || {
        let told = said(&[&client, "198.51.100.1:80"]);
        Ok(told.contains("lookup 777").then_some(told))
    });
    assert!(told.unwrap().contains("the kernel would send it to lan0 (table 777)"));
}

#[test]
fn a_rule_for_dscp_is_explained_as_it_is_applied() {
    let rules = "[[rule]]\nmatch = { dscp = \"ef\" }\nuse = \"isp-b\"\n\
                 [[rule]]\nmatch = { vlan = 7 }\nuse = \"isp-b\"\n\
                 [[rule]]\nuse = \"isp-a\"\n";
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    let gateway = Gateway::start(lab, |config| format!("{config}\n{rules}"));
    let (plain, plain_args) = Flow::new(&gateway, Family::V4, SocketKind::ConnectedUdp, 1, HTTP);
    let (marked, args) = Flow::new(&gateway, Family::V4, SocketKind::ConnectedUdp, 2, HTTP);
    marked.socket.set_tos_v4(46 << 2).unwrap();
    let told = |args: &[String], more: &[&str]| {
        let now = explain(&gateway, &[&borrowed(args), more].concat())["now"].clone();
        (
            now["uplink"].as_str().unwrap().to_owned(),
            now["rule"]["name"].as_str().unwrap().to_owned(),
        )
    };
    assert_eq!(told(&args, &["--dscp", "ef"]), ("isp-b".into(), "rule 1".into()));
    assert_eq!(told(&args, &["--vlan", "7"]), ("isp-b".into(), "rule 2".into()));
    assert_eq!(told(&plain_args, &[]), ("isp-a".into(), "rule 3".into()));
    assert_eq!((uplink(marked.begin()), uplink(plain.begin())), ("isp-b", "isp-a"));
}

#[test]
fn the_ipsec_policy_that_takes_a_packet_is_named() {
    let gateway = gateway();
    let client = plan::client(Family::V4, 0).to_string();
    let outside = |destination: &str| explain(&gateway, &[&client, destination])["outside"].clone();
    let add = "xfrm policy add src 10.77.0.0/24 dst 198.51.100.0/25 proto tcp dport 80 dir out \
               priority 5 tmpl src 192.0.2.1 dst 192.0.2.2 proto esp mode tunnel\n\
               xfrm policy add src 10.77.0.0/24 dst 198.51.100.9/32 dir out action block priority 1\n";
    gateway.lab.gateway.ip_batch(add).unwrap();
    let told = outside("198.51.100.1:80").to_string();
    let words = "the IPsec policy 10.77.0.0/24 -> 198.51.100.0/25 (priority 5) takes it";
    assert!(told.contains(words), "{told}");
    assert!(outside("198.51.100.9:80").to_string().contains("(priority 1) drops it"));
    assert_eq!(outside("198.51.100.1:443"), Value::Array(Vec::new()));
}

/// Puts a rule before all others.
fn put_first(gateway: &Gateway, rule: &str) {
    let path = gateway.daemon.config_path();
    let config = std::fs::read_to_string(&path).unwrap();
    let at = config.find("[[rule]]").unwrap();
    std::fs::write(&path, format!("{}[[rule]]\n{rule}\n{}", &config[..at], &config[at..])).unwrap();
    gateway.daemon.run(&["reload"]).unwrap();
}

#[test]
fn a_connection_without_an_answer_keeps_its_uplink_over_another_configuration() {
    let gateway = gateway();
    // Nobody answers there.
    let server: SocketAddr = "198.51.100.1:9".parse().unwrap();
    let mut flows = Vec::new();
    for number in 0..8 {
        let client = SocketAddr::new(plan::client(Family::V4, number), 43_000);
        let _entered = gateway.lab.lan.enter().unwrap();
        let socket = SocketKind::ConnectedUdp.socket(server).unwrap();
        socket.bind(&client.into()).unwrap();
        socket.connect(&server.into()).unwrap();
        socket.send(b"?").unwrap();
        flows.push((client.to_string(), socket));
    }
    let server = server.to_string();
    let told = |client: &str| explain(&gateway, &[client, &server, "--protocol", "udp"]);
    let before: Vec<Value> =
        flows.iter().map(|(client, _)| told(client)["now"]["uplink"].clone()).collect();
    assert!(NAMES.iter().all(|name| before.contains(&(*name).into())), "{before:?}");
    put_first(&gateway, "match = { protocol = \"udp\", dport = 9 }\nuse = \"isp-a\"");
    for ((client, _), uplink) in flows.iter().zip(&before) {
        let told = told(client);
        assert_eq!((&told["now"]["uplink"], &told["flow_count"]), (uplink, &1.into()), "{told}");
        assert_eq!(told["new"]["uplink"], "isp-a", "{told}");
    }
    // What is in no table any more still has its mark in connection tracking.
    gateway.daemon.run(&["flows", "--json"]).unwrap();
    for table in ["FLOWS", "UNREPLIED"] {
        let pin = gateway.lab.gateway.bpf_dir().join(table).display().to_string();
        let dump =
            gateway.lab.gateway.run("bpftool", &["-j", "map", "dump", "pinned", &pin]).unwrap();
        let entries: Value = serde_json::from_str(&dump).unwrap();
        for entry in entries.as_array().unwrap() {
            let bytes = entry["key"].as_array().unwrap().iter().map(|byte| byte.as_str().unwrap());
            let delete = ["map", "delete", "pinned", &*pin, "key", "hex"];
            let bytes: Vec<&str> = bytes.map(|byte| byte.trim_start_matches("0x")).collect();
            gateway.lab.gateway.run("bpftool", &[&delete[..], &bytes].concat()).unwrap();
        }
    }
    for ((client, _), uplink) in flows.iter().zip(&before) {
        let now = told(client)["now"].clone();
        assert_eq!((&now["uplink"], &now["reason"]), (uplink, &"connection".into()), "{now}");
    }
}

#[test]
fn a_flow_stays_with_every_uplink_down_and_so_it_is_explained() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    let rule = "[[rule]]\nmatch = { dport = 8080 }\nuse = \"isp-b\"\notherwise = \"drop\"\n";
    let gateway = Gateway::start(lab, |config| format!("{config}\n{rule}"));
    let blocked = || {
        let rules = gateway.daemon.run(&["rules", "--json"]).unwrap();
        let rules: Value = serde_json::from_str(&rules).unwrap();
        rules[0]["blocked"].as_u64().unwrap()
    };
    for family in Family::ALL {
        let (flow, args) = Flow::new(&gateway, family, SocketKind::ConnectedUdp, 1, HTTP);
        let rule = rule.replace("8080", &HTTP.to_string());
        std::fs::write(gateway.daemon.config_path(), {
            let config = std::fs::read_to_string(gateway.daemon.config_path()).unwrap();
            config.split_once("[[rule]]").unwrap().0.to_owned() + &rule
        })
        .unwrap();
        gateway.daemon.run(&["reload"]).unwrap();
        let seen = flow.begin();
        assert_eq!(uplink(seen), "isp-b");
        // Flows that were tried before the uplinks were up again may have been.
        let before = blocked();
        for name in NAMES {
            gateway.daemon.run(&["disable", name]).unwrap();
        }
        let told = explain(&gateway, &borrowed(&args));
        assert_eq!(told["now"]["uplink"], "isp-b", "{told}");
        assert_eq!(told["new"]["outcome"], "dropped", "{told}");
        assert_eq!(flow.again(), seen);
        assert_eq!(blocked(), before);
        for name in NAMES {
            gateway.daemon.run(&["enable", "--now", name]).unwrap();
        }
        gateway.wait_for_uplinks(&[1]);
    }
}

#[test]
fn an_ip_rule_for_a_protocol_and_port_diverts_and_is_told() {
    let gateway = gateway();
    let client = plan::client(Family::V4, 0).to_string();
    let outside = |destination: &str, protocol: &str| {
        let args = [&*client, destination, "--protocol", protocol];
        explain(&gateway, &args)["outside"].to_string()
    };
    let ip = |args: &str| {
        gateway.lab.gateway.run("ip", &args.split(' ').collect::<Vec<_>>()).unwrap();
    };
    ip("route add default dev lan0 table 777");
    ip("rule add priority 90 ipproto udp dport 5001 lookup 777");
    let told = wait::until("the diversion", LIMIT, || {
        let told = outside("198.51.100.1:5001", "udp");
        Ok(told.contains("would send it to lan0 (table 777)").then_some(told))
    });
    told.unwrap();
    for other in [("198.51.100.1:5002", "udp"), ("198.51.100.1:5001", "tcp")] {
        assert!(!outside(other.0, other.1).contains("would send it"), "{other:?}");
    }
    ip("rule add priority 91 ipproto tcp sport 42000-42010 dport 5003 blackhole");
    let from = format!("{client}:42001");
    let told = explain(&gateway, &[&from, "198.51.100.1:5003"])["outside"].to_string();
    assert!(told.contains("the kernel drops it"), "{told}");
}
