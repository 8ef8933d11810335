//! Uplinks on VLANs of one cable.

use std::net::{IpAddr, SocketAddr};

use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{CLIENT_INTERFACE, LAN_INTERFACE, Lab};
use linkbal_lab::traffic::forged::{self, Forger};
use linkbal_lab::wait;

use crate::fixture::{Gateway, LIMIT};
use crate::flowtable;
use crate::lines::{PROVIDER, assert_fails_over, equal_lab, move_addresses, with_slow_probes};

/// Builds a lab whose first uplink is a VLAN, `wan-a.7`.
fn lab() -> Lab {
    let lab = equal_lab();
    lab.gateway.ip_batch("link add link wan-a name wan-a.7 type vlan id 7").unwrap();
    let provider = format!("link add link {PROVIDER} name {PROVIDER}.7 type vlan id 7");
    lab.uplinks[0].provider.ip_batch(&provider).unwrap();
    move_addresses(&lab, 0, "wan-a.7", &format!("{PROVIDER}.7"));
    lab
}

fn tagged(config: &str) -> String {
    with_slow_probes(config).replace("\"wan-a\"", "\"wan-a.7\"")
}

#[test]
fn a_vlan_is_an_uplink_like_any_other() {
    let mut gateway = Gateway::start(lab(), tagged);
    assert_fails_over(&mut gateway, 0);
    // A cable that is pulled takes the VLAN's carrier with it.
    gateway.lab.cut_cable(0).unwrap();
    gateway.wait_until_down(0);
    gateway.wait_for_uplinks(&[1]);
}

/// Checks a line that comes in by a VLAN of the LAN's network card: the programs of the LAN see its
/// packets first.
#[test]
fn a_provider_by_a_vlan_of_the_lan_card_is_outside() {
    let lab = equal_lab();
    for (namespace, card, vlan) in
        [(&lab.gateway, LAN_INTERFACE, "lan0.2"), (&lab.lan, CLIENT_INTERFACE, "isp.2")]
    {
        let add = format!("link add link {card} name {vlan} type vlan id 2\nlink set {vlan} up\n");
        namespace.ip_batch(&add).unwrap();
    }
    lab.gateway.ip_batch("address add 100.64.9.2/24 dev lan0.2\n").unwrap();
    let third = "[uplink.isp-c]\ninterface = \"lan0.2\"\ngateway = \"100.64.9.1\"\ntier = 2\n\
                 probe = { targets = [] }\n\n[probe]";
    let gateway = Gateway::start(lab, |base| with_slow_probes(base).replacen("[probe]", third, 1));
    let lab = &gateway.lab;
    let arriving = "table inet seen {
            chain input {
                type filter hook input priority 300
                udp dport 4000 counter comment \"forged\"
                udp dport 4001 counter comment \"honest\"
            }
        }";
    lab.net.load_nft(arriving).unwrap();
    let seen = |comment: &str| {
        let table = lab.net.run("nft", &["list", "table", "inet", "seen"]).unwrap();
        let rule = table.lines().find(|line| line.contains(comment)).unwrap().to_owned();
        !rule.contains("packets 0 ")
    };
    let forger = |from, to| Forger::new(&lab.lan, from, &lab.gateway, to).unwrap();
    let (provider, lan) = (forger("isp.2", "lan0.2"), forger(CLIENT_INTERFACE, LAN_INTERFACE));
    let internet = plan::server(Family::V4, 7);
    let host = plan::client(Family::V4, 3);
    let send = |forger: &Forger, source: (IpAddr, u16), port: u16| {
        let [source, destination] = [source, (internet, port)].map(SocketAddr::from);
        forger.send(&forged::udp(source, destination, b"forged").unwrap()).unwrap();
    };
    let stranger: IpAddr = "100.64.9.77".parse().unwrap();
    for port in 5000..5010 {
        [stranger, host].into_iter().for_each(|source| send(&provider, (source, port), 4000));
    }
    wait::until("a packet of a host", LIMIT, || {
        send(&lan, (host, 6000), 4001);
        Ok(seen("honest").then_some(()))
    })
    .unwrap();
    assert!(!seen("forged"), "{}", gateway.daemon.log());
}

/// Checks that packets of VLANs, whose tags devices take off, are not taken for others at the driver.
#[test]
fn an_interface_with_vlans_has_no_program_at_its_driver() {
    let lab = equal_lab();
    lab.use_drivers().unwrap();
    let tune = |config: &str| {
        let (_, rest) = config.split_once("[lan]").unwrap();
        with_slow_probes(&format!("[accelerate]\nmode = \"xdp\"\n[lan]{rest}"))
    };
    let gateway = Gateway::start(lab, tune);
    let wait_for = |reason: Option<&str>, program: bool| {
        wait::until("programs", LIMIT, || {
            let status = gateway.daemon.status()?;
            let told = status["without_xdp"]["lan0"].as_str();
            let links = gateway.lab.gateway.run("ip", &["-d", "link", "show", "lan0"])?;
            Ok((told == reason && links.contains("prog/xdp") == program).then_some(()))
        })
        .unwrap();
    };
    wait_for(None, true);
    gateway.lab.gateway.ip_batch("link add link lan0 name lan0.7 type vlan id 7").unwrap();
    wait_for(Some("there are VLANs on it"), false);
    gateway.lab.gateway.ip_batch("link delete lan0.7").unwrap();
    wait_for(None, true);
}

#[test]
fn flows_by_a_vlan_are_in_the_flowtable() {
    let gateway = Gateway::start(lab(), |config| flowtable::offloading(&tagged(config)));
    flowtable::assert_offloads(&gateway);
}
