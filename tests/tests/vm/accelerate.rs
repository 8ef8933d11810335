//! Shortcuts by interfaces that need modules of the kernel, and past what IPsec and `tc` have to say.

use std::net::SocketAddr;

use linkbal::sys::datapath::attach::Method;
use linkbal_lab::namespace::Namespace;
use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{CLIENT_INTERFACE, LAN_INTERFACE, Lab};
use linkbal_lab::traffic::{FlowSpec, LongFlows, Protocol, Servers};
use linkbal_lab::wait;
use serde_json::Value;

use crate::fixture::{Gateway, LIMIT, TICK, on, uplink_status, wait_for_answers};
use crate::lines::{PROVIDER, equal_lab, move_addresses, with_slow_probes};
use crate::shortcuts::{start_with, taken_by};

/// Number of long flows of each kind.
const FLOWS: usize = 5;
/// Number of packets of each way that take shortcuts.
const PACKETS: u64 = 50;

/// Waits until so many more packets of an uplink took shortcuts, both ways.
fn wait_for_shortcuts_by(gateway: &Gateway, uplink: usize) {
    let before = taken_by(gateway)[uplink];
    let enough = |now: [u64; 2]| (0..2).all(|way| now[way] >= before[way] + PACKETS);
    wait::until("packets by shortcuts", LIMIT, || {
        Ok(enough(taken_by(gateway)[uplink]).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", gateway.daemon.run(&["status"]).unwrap()));
}

/// Checks that the flows of the first uplink take shortcuts, and go on.
pub(crate) fn assert_taken(gateway: &Gateway) {
    let flows = gateway.long_flows(FLOWS);
    wait_for_shortcuts_by(gateway, 0);
    let before = flows.reports();
    wait_for_shortcuts_by(gateway, 0);
    assert!(before.iter().any(on(0)));
    wait_for_answers(&flows, &before, 5, |_| true);
    let now = flows.reports();
    assert!(now.iter().all(|flow| !flow.closed && flow.moved == 0 && flow.errors == 0), "{now:?}");
}

#[test]
fn vlans_of_uplink_and_lan() {
    let lab = equal_lab();
    lab.gateway.ip_batch("link add link wan-a name wan-a.7 type vlan id 7").unwrap();
    let provider = format!("link add link {PROVIDER} name {PROVIDER}.7 type vlan id 7");
    lab.uplinks[0].provider.ip_batch(&provider).unwrap();
    move_addresses(&lab, 0, "wan-a.7", &format!("{PROVIDER}.7"));
    put_lan_on_a_vlan(&lab);
    let gateway = start_with(lab, |config| {
        let config = with_slow_probes(config).replace("\"wan-a\"", "\"wan-a.7\"");
        config.replace(&format!("\"{LAN_INTERFACE}\""), "\"lan.5\"")
    });
    assert_taken(&gateway);
}

/// Moves the addresses of gateway and clients to a VLAN of the LAN.
fn put_lan_on_a_vlan(lab: &Lab) {
    let add = |parent: &str, name: &str| {
        format!(
            "link add link {parent} name {name} type vlan id 5\nlink set {name} up\n\
             address flush dev {parent} scope global\n"
        )
    };
    let (mut gateway, mut lan) = (add(LAN_INTERFACE, "lan.5"), add(CLIENT_INTERFACE, "eth.5"));
    for (family, length) in [(Family::V4, 24), (Family::V6, 64)] {
        let nodad = if family == Family::V6 { " nodad" } else { "" };
        let router = plan::lan_gateway(family);
        gateway += &format!("address add {router}/{length} dev lan.5{nodad}\n");
        for number in 0..plan::CLIENTS.into() {
            let client = plan::client(family, number);
            lan += &format!("address add {client}/{length} dev eth.5{nodad}\n");
        }
    }
    for family in Family::ALL {
        lan += &format!("route replace default via {}\n", plan::lan_gateway(family));
    }
    lab.gateway.ip_batch(&gateway).unwrap();
    lab.lan.ip_batch(&lan).unwrap();
}

#[test]
fn a_bond() {
    let lab = equal_lab();
    lab.gateway
        .ip_batch(
            "link add bond7 type bond mode active-backup miimon 100\nlink set wan-a down\n\
             link set wan-a master bond7\n",
        )
        .unwrap();
    move_addresses(&lab, 0, "bond7", PROVIDER);
    let tune = |config: &str| with_slow_probes(config).replace("\"wan-a\"", "\"bond7\"");
    assert_taken(&start_with(lab, tune));
}

/// Checks an uplink whose packets are wrapped into others, which leave by the interface of a provider.
#[test]
fn a_tunnel() {
    let lab = equal_lab();
    let (near, far) = ("192.0.2.129", "192.0.2.130");
    let tunnel =
        |own: &str, other: &str| format!("link add gre7 type gre local {own} remote {other}\n");
    let provider = &lab.uplinks[0].provider;
    let address = format!("address add {near}/30 dev wan-a label wan-a:gre\n");
    lab.gateway.ip_batch(&(address + &tunnel(near, far))).unwrap();
    let address = format!("address add {far}/30 dev {PROVIDER}\n");
    provider.ip_batch(&(address + &tunnel(far, near))).unwrap();
    move_addresses(&lab, 0, "gre7", "gre7");
    // They went, too.
    lab.gateway.ip_batch(&format!("address replace {near}/30 dev wan-a\n")).unwrap();
    provider.ip_batch(&format!("address replace {far}/30 dev {PROVIDER}\n")).unwrap();
    let tune = |config: &str| with_slow_probes(config).replace("\"wan-a\"", "\"gre7\"");
    assert_taken(&start_with(lab, tune));
}

/// The network behind the other end of a tunnel by IPsec, and its server.
const FAR: &str = "192.168.50.0/24";
const SERVER: &str = "192.168.50.1:8080";

/// Counts at a provider what it gets for the far network: in the clear, and by ESP.
fn count_clear(provider: &Namespace) {
    let table = format!(
        "table inet watch {{\n\
         counter clear {{}}\n\
         counter sealed {{}}\n\
         chain in {{\n\
         type filter hook prerouting priority -300\n\
         iifname {PROVIDER} ip daddr {FAR} counter name clear\n\
         iifname {PROVIDER} ip protocol 50 counter name sealed\n\
         }}\n}}\n"
    );
    provider.load_nft(&table).unwrap();
}

/// Returns the sums of the providers' counters: in the clear, and by ESP.
fn counted(lab: &Lab) -> [u64; 2] {
    let mut sums = [0, 0];
    for uplink in &lab.uplinks {
        let listed = uplink.provider.run("nft", &["-j", "list", "counters"]).unwrap();
        let listed: Value = serde_json::from_str(&listed).unwrap();
        for object in listed["nftables"].as_array().unwrap() {
            let counter = &object["counter"];
            let packets = counter["packets"].as_u64().unwrap_or(0);
            match counter["name"].as_str() {
                Some("clear") => sums[0] += packets,
                Some("sealed") => sums[1] += packets,
                _ => {}
            }
        }
    }
    sums
}

/// Protects at both ends what is translated to an uplink's address and goes to the far network.
/// Nothing is encrypted: only the path is tested.
fn protect(lab: &Lab) {
    let mut policies = [String::new(), String::new()];
    for (uplink, spi) in [(0, 0x100), (1, 0x200)] {
        let near = plan::uplink_address(Family::V4, uplink);
        let far = plan::server(Family::V4, 90 + uplink);
        for (source, destination, spi) in [(near, far, spi), (far, near, spi + 1)] {
            let state = format!(
                "ip xfrm state add src {source} dst {destination} proto esp spi {spi} mode tunnel \
                 auth digest_null '' enc 'ecb(cipher_null)' ''"
            );
            for namespace in [&lab.net, &lab.gateway] {
                namespace.run("sh", &["-c", &state]).unwrap();
            }
        }
        let policy = |from: &str, to: &str, [source, destination]: [_; 2], way: &str| {
            format!(
                "xfrm policy add src {from} dst {to} dir {way} \
                 tmpl src {source} dst {destination} proto esp mode tunnel\n"
            )
        };
        let own = format!("{near}/32");
        policies[0] += &policy(FAR, &own, [far, near], "out");
        policies[0] += &policy(&own, FAR, [near, far], "in");
        policies[1] += &policy(&own, FAR, [near, far], "out");
        for way in ["in", "fwd"] {
            policies[1] += &policy(FAR, &own, [far, near], way);
        }
    }
    lab.net.ip_batch(&policies[0]).unwrap();
    lab.gateway.ip_batch(&policies[1]).unwrap();
}

#[test]
fn flows_that_ipsec_begins_to_protect_leave_their_shortcuts_at_once() {
    let lab = equal_lab();
    for (index, uplink) in lab.uplinks.iter().enumerate() {
        let core = format!("192.0.2.{}", 4 * index + 1);
        uplink.provider.ip_batch(&format!("route add {FAR} via {core}\n")).unwrap();
        count_clear(&uplink.provider);
    }
    let server: SocketAddr = SERVER.parse().unwrap();
    lab.net.ip_batch(&format!("address add {}/32 dev lo\n", server.ip())).unwrap();
    let _server = Servers::start_at(&lab.net, &[server]).unwrap();
    let mut gateway = start_with(lab, with_slow_probes);
    let flow = |n| FlowSpec {
        protocol: Protocol::ALL[n % 2],
        source: plan::client(Family::V4, n),
        server,
    };
    let specs: Vec<_> = (0..10).map(flow).collect();
    let flows = LongFlows::start(&gateway.lab.lan, &specs, TICK).unwrap();
    for uplink in [0, 1] {
        wait_for_shortcuts_by(&gateway, uplink);
    }
    protect(&gateway.lab);
    let off = |status: &Value| reason(status, "isp-a").as_deref() == Some("IPsec policies exist");
    gateway.daemon.wait_for("shortcuts to be off", LIMIT, off).unwrap();
    let [clear, esp] = counted(&gateway.lab);
    wait_for_answers(&flows, &flows.reports(), 5, |_| true);
    let [clear_now, esp_now] = counted(&gateway.lab);
    assert_eq!(clear_now, clear, "in the clear");
    assert!(esp_now >= esp + 5 * 10, "{esp} {esp_now}");
}

/// Returns why the flows of an uplink take no shortcuts.
fn reason(status: &Value, uplink: &str) -> Option<String> {
    uplink_status(status, uplink)["shortcuts"]["none_because"].as_str().map(str::to_owned)
}

/// Checks that a filter is an obstacle if packets reach it after linkbal's program alone.
#[test]
fn a_police_behind_linkbal_sees_all_packets() {
    let mut gateway = start_with(equal_lab(), with_slow_probes);
    assert_taken(&gateway);
    let tcx = Method::available() == Method::Tcx;
    let lab = gateway.lab.gateway.clone();
    let tc = |words: &str| lab.run("tc", &words.split_whitespace().collect::<Vec<_>>()).unwrap();
    if tcx {
        tc("qdisc add dev wan-a clsact");
    }
    for (preference, behind) in [(10, tcx), (30, true)] {
        let filter = format!("dev wan-a ingress pref {preference} protocol all");
        tc(&format!(
            "filter add {filter} matchall action police rate 1gbit burst 1m conform-exceed drop/continue"
        ));
        let words = format!("tc filter matchall (pref {preference}) at the ingress of wan-a");
        if behind {
            let off = |status: &Value| reason(status, "isp-a").as_deref() == Some(&*words);
            gateway.daemon.wait_for("shortcuts to be off", LIMIT, off).unwrap();
        } else {
            assert_taken(&gateway);
            assert_eq!(reason(&gateway.daemon.status().unwrap(), "isp-a"), None);
        }
        tc(&format!("filter delete {filter}"));
        let on = |status: &Value| reason(status, "isp-a").is_none();
        gateway.daemon.wait_for("shortcuts to be on", LIMIT, on).unwrap();
    }
    assert_taken(&gateway);
}
