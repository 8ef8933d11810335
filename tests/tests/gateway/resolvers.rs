//! DNS servers that answer only the customers of one provider.

use std::net::{IpAddr, SocketAddr};

use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::traffic::dns::{Dnsmasq, ask};
use linkbal_lab::traffic::local::SocketKind;
use linkbal_lab::traffic::{FlowSpec, HTTP, Protocol};

use crate::fixture::{Gateway, with_key};

const LOOK_UPS: usize = 20;

/// Returns the address of an uplink's resolver, in the network of the servers.
fn resolver(family: Family, uplink: usize) -> IpAddr {
    plan::server(family, 30 + uplink)
}

/// Creates a lab with providers whose resolvers do not answer strangers.
fn lab() -> Lab {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    let mut rules = "iifname lo accept\n".to_owned();
    for (family, word) in Family::ALL.into_iter().zip(["ip", "ip6"]) {
        for uplink in 0..2 {
            let (own, server) = (plan::uplink_address(family, uplink), resolver(family, uplink));
            rules += &format!("{word} daddr {server} {word} saddr != {own} udp dport 53 drop\n");
        }
    }
    let chain = format!("type filter hook input priority 0\n{rules}");
    let table = format!("table inet strangers {{\nchain input {{\n{chain}}}\n}}\n");
    lab.net.load_nft(&table).unwrap();
    lab
}

fn gateway() -> Gateway {
    Gateway::start(lab(), |config| {
        ["isp-a", "isp-b"].iter().enumerate().fold(config.to_owned(), |config, (uplink, name)| {
            let own = Family::ALL.map(|family| format!("\"{}\"", resolver(family, uplink)));
            with_key(&config, name, &format!("resolvers = [{}]", own.join(", ")))
        })
    })
}

#[test]
fn queries_to_a_providers_resolver_use_its_uplink() {
    let mut gateway = gateway();
    for family in Family::ALL {
        for uplink in 0..2 {
            let server = SocketAddr::new(resolver(family, uplink), HTTP);
            for kind in SocketKind::ALL {
                let _entered = gateway.lab.gateway.enter().unwrap();
                for _ in 0..LOOK_UPS {
                    let seen = kind.ask(&kind.socket(server).unwrap(), server).unwrap();
                    assert_eq!(plan::uplink_of(seen.ip()), Some(uplink), "{kind:?} to {server}");
                }
            }
            for protocol in Protocol::ALL {
                let flow = |client| FlowSpec::new(family, protocol, client, 30 + uplink, HTTP);
                let counts = gateway.open(&(0..LOOK_UPS).map(flow).collect::<Vec<_>>());
                assert_eq!(counts[uplink], LOOK_UPS, "{family} {protocol:?}: {counts:?}");
            }
        }
    }
    gateway.lab.cut_cable(0).unwrap();
    gateway.wait_until_down(0);
    for family in Family::ALL {
        let server = SocketAddr::new(resolver(family, 0), HTTP);
        for kind in SocketKind::ALL {
            let _entered = gateway.lab.gateway.enter().unwrap();
            let asked = kind.ask(&kind.socket(server).unwrap(), server);
            let refused = asked.map_err(|error| error.raw_os_error());
            let expected =
                if kind == SocketKind::UnconnectedUdp { libc::EPERM } else { libc::EHOSTUNREACH };
            assert_eq!(refused, Err(Some(expected)), "{kind:?} to {server}");
        }
        for protocol in Protocol::ALL {
            let flow = FlowSpec::new(family, protocol, 50, 30, HTTP);
            assert_eq!(gateway.try_open(&[flow])[0].uplink(), None, "{family} {protocol:?}");
        }
    }
}

#[test]
fn dnsmasq_uses_the_resolvers_of_both_providers() {
    let mut gateway = gateway();
    for family in Family::ALL {
        let lines = "address=/test/192.0.2.77\n";
        let servers = [0, 1].map(|uplink| resolver(family, uplink));
        let _far = servers.map(|at| Dnsmasq::start(&gateway.lab.net, Some(at), lines).unwrap());
        let forward = servers.map(|server| format!("server={server}\n")).concat();
        let near: IpAddr = [127, 0, 0, 1].into();
        let lines = format!("{forward}cache-size=0\nno-negcache\n");
        let _near = Dnsmasq::start(&gateway.lab.gateway, Some(near), &lines).unwrap();
        let look_up = |gateway: &Gateway, what: &str| {
            let _entered = gateway.lab.gateway.enter().unwrap();
            let found = (0..LOOK_UPS).filter(|number| {
                let name = format!("{what}{number}.test.");
                ask(near, near, &name, Family::V4).is_ok_and(|found| found.len() == 1)
            });
            assert_eq!(found.count(), LOOK_UPS, "{family} {what}");
        };
        look_up(&gateway, "both");
        gateway.lab.cut_cable(0).unwrap();
        gateway.wait_until_down(0);
        look_up(&gateway, "one");
        gateway.lab.plug_cable(0).unwrap();
        gateway.daemon.wait_until_up(crate::fixture::LIMIT).unwrap();
    }
}
