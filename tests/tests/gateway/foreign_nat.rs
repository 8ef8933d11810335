//! NAT of the administrator's own beside linkbal's: it prevails, whenever it was loaded.

use std::net::{IpAddr, SocketAddr};

use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::traffic::{FlowReport, FlowSpec, HTTP, LongFlows, Protocol};
use linkbal_lab::wait;

use crate::fixture::{Gateway, LIMIT, TICK, is_udp, on, wait_for_answers};

/// The client whose source the administrator sets.
const MAIL: usize = 5;
const FLOWS: usize = 24;

/// A program that loads rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tool {
    Nft,
    IptablesNft,
    IptablesLegacy,
}

impl Tool {
    const ALL: [Tool; 3] = [Tool::Nft, Tool::IptablesNft, Tool::IptablesLegacy];

    /// Appends a rule to postrouting, given in the words of iptables and in those of nft.
    fn append(self, lab: &Lab, family: Family, iptables: &str, nft: &str) {
        let program = match (self, family) {
            (Tool::Nft, _) => {
                let table = if family == Family::V4 { "ip admin" } else { "ip6 admin" };
                let text = format!(
                    "table {table} {{
                        chain postrouting {{
                            type nat hook postrouting priority srcnat;
                            {nft}
                        }}
                    }}"
                );
                lab.gateway.load_nft(&text).unwrap();
                return;
            }
            (Tool::IptablesNft, Family::V4) => "iptables-nft",
            (Tool::IptablesNft, Family::V6) => "ip6tables-nft",
            (Tool::IptablesLegacy, Family::V4) => "iptables-legacy",
            (Tool::IptablesLegacy, Family::V6) => "ip6tables-legacy",
        };
        let rule = format!("-t nat -A POSTROUTING {iptables}");
        let args: Vec<_> = rule.split_whitespace().collect();
        lab.gateway.run(program, &args).unwrap();
    }

    /// Gives one host of the LAN an address of its own at the first provider.
    fn map_one_host(self, lab: &Lab) {
        for family in Family::ALL {
            let (host, outside) = (plan::client(family, MAIL), secondary(family));
            let address = format!("{outside}/{}", if family == Family::V4 { 32 } else { 64 });
            lab.gateway.run("ip", &["address", "add", &address, "dev", "wan-a"]).unwrap();
            let word = if family == Family::V4 { "ip" } else { "ip6" };
            self.append(
                lab,
                family,
                &format!("-o wan-a -s {host} -j SNAT --to-source {outside}"),
                &format!("oifname \"wan-a\" {word} saddr {host} snat to {outside}"),
            );
        }
    }

    /// Masquerades all of the LAN, as every how-to has it.
    fn masquerade(self, lab: &Lab) {
        for family in Family::ALL {
            for interface in ["wan-a", "wan-b"] {
                self.append(
                    lab,
                    family,
                    &format!("-o {interface} -j MASQUERADE"),
                    &format!("oifname \"{interface}\" masquerade"),
                );
            }
        }
    }
}

/// Returns another address of the gateway at the first provider.
fn secondary(family: Family) -> IpAddr {
    let text = if family == Family::V4 { "100.64.0.7" } else { "2001:db8:a::7" };
    text.parse().unwrap()
}

/// Creates the usual pair, with more addresses routed by the first provider, and providers that
/// drop other sources.
fn lab() -> Lab {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    lab.filter_sources().unwrap();
    lab.route_pool(0).unwrap();
    let a = &lab.uplinks[0].provider;
    let gateway = plan::uplink_address(Family::V4, 0).to_string();
    a.run("ip", &["route", "add", "100.64.0.0/24", "via", &gateway]).unwrap();
    let pool = "insert rule inet sources forward iifname cust0 ip saddr 100.64.0.0/24 counter name own accept";
    a.run("nft", &pool.split(' ').collect::<Vec<_>>()).unwrap();
    lab
}

/// Checks that new flows of both families and protocols use both uplinks, with the source `by_a` on
/// the first one and the uplink's address on the second.
fn assert_translated(gateway: &Gateway, client: usize, port: u16, by_a: fn(Family) -> IpAddr) {
    for family in Family::ALL {
        for protocol in Protocol::ALL {
            let flow = |n| FlowSpec {
                protocol,
                source: plan::client(family, client),
                server: SocketAddr::new(plan::server(family, n), port),
            };
            let flows: Vec<_> = (0..FLOWS).map(flow).collect();
            let seen = gateway.try_open(&flows);
            let by_b = plan::uplink_address(family, 1);
            let mut counts = [0; 2];
            for (flow, seen) in flows.iter().zip(&seen) {
                let peer = seen.peer.map(|peer| peer.ip().to_canonical());
                let expected = [by_a(family), by_b].map(Some);
                let uplink = expected.iter().position(|address| *address == peer);
                let uplink = uplink.unwrap_or_else(|| panic!("{peer:?}: {flow:?}"));
                counts[uplink] += 1;
            }
            assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
        }
    }
}

fn wait_for_table(gateway: &Gateway, what: &str) {
    wait::until("linkbal's table", LIMIT, || {
        let table = gateway.lab.gateway.run("nft", &["list", "table", "inet", "linkbal"]);
        Ok(table.ok().filter(|text| text.contains(what)).map(drop))
    })
    .unwrap();
}

fn assert_no_foreign_sources(lab: &Lab) {
    for uplink in 0..lab.uplinks.len() {
        assert_eq!(lab.filtered(uplink).unwrap().1, 0, "foreign addresses at provider {uplink}");
    }
}

/// Checks that the administrator's NAT prevails if loaded before or after linkbal, also after a
/// repair and after a change of linkbal's table.
fn prevails(load: impl Fn(Tool, &Lab), client: usize, by_a: fn(Family) -> IpAddr) {
    for tool in Tool::ALL {
        for before in [true, false] {
            let lab = lab();
            if before {
                load(tool, &lab);
            }
            let gateway = Gateway::start(lab, str::to_owned);
            if !before {
                load(tool, &gateway.lab);
            }
            eprintln!("{tool:?}, before linkbal: {before}");
            assert_translated(&gateway, client, HTTP, by_a);
            gateway.lab.gateway.run("nft", &["delete", "table", "inet", "linkbal"]).unwrap();
            wait_for_table(&gateway, "postrouting");
            assert_translated(&gateway, client, 443, by_a);
            let another = ["address", "add", "100.64.1.9/32", "dev", "wan-b"];
            gateway.lab.gateway.run("ip", &another).unwrap();
            wait_for_table(&gateway, "100.64.1.9");
            assert_translated(&gateway, client, HTTP, by_a);
            assert_no_foreign_sources(&gateway.lab);
        }
    }
}

#[test]
fn a_static_snat_of_one_host_prevails_whenever_it_was_loaded() {
    prevails(Tool::map_one_host, MAIL, secondary);
}

#[test]
fn a_masquerade_of_all_prevails_whenever_it_was_loaded() {
    prevails(Tool::masquerade, MAIL, |family| plan::uplink_address(family, 0));
}

/// Checks a failover with 60 flows of each kind: datagrams go on by the other uplink with its
/// address, TCP connections are closed, and new ones work.
fn fails_over(load: impl Fn(Tool, &Lab)) {
    for tool in Tool::ALL {
        for before in [true, false] {
            let lab = lab();
            if before {
                load(tool, &lab);
            }
            let mut gateway = Gateway::start(lab, str::to_owned);
            if !before {
                load(tool, &gateway.lab);
            }
            eprintln!("{tool:?}, before linkbal: {before}");
            let kinds = Family::ALL.into_iter().flat_map(|f| Protocol::ALL.map(|p| (f, p)));
            let flow = |(family, protocol)| {
                let flow = move |n: usize| {
                    // Every other flow is of the host with NAT of its own.
                    let client = if n.is_multiple_of(2) { MAIL } else { n };
                    FlowSpec::new(family, protocol, client, 3 * n, HTTP)
                };
                (0..60).map(flow)
            };
            let specs: Vec<_> = kinds.flat_map(flow).collect();
            let flows = LongFlows::start(&gateway.lab.lan, &specs, TICK).unwrap();
            let old = flows.reports();
            let by_b = |report: &&FlowReport| on(1)(report);
            let of_a = old.len() - old.iter().filter(by_b).count();
            assert!(of_a > 40 && of_a < 200, "{of_a} on a");
            gateway.lab.blackhole(0).unwrap();
            gateway.wait_until_down(0);
            let on_a = |report: &FlowReport| !on(1)(report);
            wait::until("the flows on their new uplink", LIMIT, || {
                let now = flows.reports();
                let mut pairs = old.iter().zip(&now).filter(|(old, _)| on_a(old));
                let over = |new: &FlowReport| if is_udp(new) { on(1)(new) } else { new.closed };
                Ok(pairs.all(|(_, new)| over(new)).then_some(()))
            })
            .unwrap_or_else(|error| {
                let now = flows.reports();
                let stuck: Vec<_> = now.iter().filter(|new| on_a(new) && !new.closed).collect();
                panic!("{error:#}: {} {:#?}\n{}", stuck.len(), stuck.first(), gateway.daemon.log())
            });
            wait_for_answers(&flows, &flows.reports(), 3, |report| !report.closed);
            gateway.assert_uplinks(20, &[1]);
            assert_no_foreign_sources(&gateway.lab);
        }
    }
}

#[test]
fn flows_of_a_statically_translated_host_fail_over() {
    fails_over(Tool::map_one_host);
}

#[test]
fn masqueraded_flows_fail_over() {
    fails_over(Tool::masquerade);
}

/// Checks that a rule that sets a source on any uplink is reported: by the other uplink, packets
/// with that source would be dropped.
#[test]
fn a_snat_rule_for_all_uplinks_is_a_conflict_until_it_names_one() {
    let mut gateway = Gateway::start(lab(), str::to_owned);
    let host = plan::client(Family::V4, MAIL);
    let own = plan::uplink_address(Family::V4, 0);
    let named = |status: &serde_json::Value| {
        let what = "chain ip admin postrouting";
        status["conflicts"].as_array().unwrap().iter().any(|conflict| conflict["what"] == what)
    };
    let rule = format!("ip saddr {host} snat to {own}");
    Tool::Nft.append(&gateway.lab, Family::V4, "", &rule);
    let status = gateway.daemon.wait_for("the conflict", LIMIT, named).unwrap();
    let text = status["conflicts"].to_string();
    assert!(text.contains("203.0.113.2, which is uplink isp-a's"), "{text}");
    assert!(text.contains("oifname"), "{text}");
    gateway.lab.gateway.run("nft", &["flush", "table", "ip", "admin"]).unwrap();
    Tool::Nft.append(&gateway.lab, Family::V4, "", &format!("oifname \"wan-a\" {rule}"));
    gateway.daemon.wait_for("no conflict", LIMIT, |status| !named(status)).unwrap();
}
