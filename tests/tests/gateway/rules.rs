//! Rules, as the servers and the LAN see them.

use linkbal_lab::topology::plan::Family;
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::traffic::{FlowSpec, HTTP, HTTPS, Protocol};

use crate::fixture::{Gateway, LIMIT};

const A: usize = 0;
const B: usize = 1;
const FLOWS: usize = 40;

fn with_rules(rules: &str) -> Gateway {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    Gateway::start(lab, |config| format!("{config}\n{rules}"))
}

/// Returns `FLOWS` flows of different clients to different servers.
fn flows(family: Family, protocol: Protocol, port: u16) -> Vec<FlowSpec> {
    (0..FLOWS).map(|n| FlowSpec::new(family, protocol, n, n, port)).collect()
}

#[test]
fn ports_and_protocols_have_their_own_uplinks() {
    let gateway = with_rules(
        r#"
        [[rule]]
        match = { protocol = "tcp", dport = 80 }
        use = "isp-a"
        [[rule]]
        match = { dport = [80, 443] }
        use = "isp-b"
        "#,
    );
    for family in Family::ALL {
        assert_eq!(gateway.open(&flows(family, Protocol::Tcp, HTTP)), [FLOWS, 0], "{family}");
        assert_eq!(gateway.open(&flows(family, Protocol::Udp, HTTP)), [0, FLOWS], "{family}");
        assert_eq!(gateway.open(&flows(family, Protocol::Tcp, HTTPS)), [0, FLOWS], "{family}");
    }
}

#[test]
fn a_part_of_the_lan_has_its_own_uplink_and_falls_back_to_the_other() {
    // Clients 0 to 5 of IPv4 and IPv6 are 10.77.0.10 to .15 and fd77::10 to ::15.
    let gateway = with_rules(
        r#"
        [[rule]]
        match = { source = ["10.77.0.8/29", "fd77::10/125"] }
        use = ["isp-a", "isp-b"]
        [[rule]]
        use = ["isp-b", "isp-a"]
        "#,
    );
    let of = |family, client| FlowSpec::new(family, Protocol::Udp, client, client, HTTP);
    for family in Family::ALL {
        let first: Vec<_> = (0..6).map(|client| of(family, client)).collect();
        let others: Vec<_> = (8..14).map(|client| of(family, client)).collect();
        assert_eq!(gateway.open(&first), [6, 0], "{family}");
        assert_eq!(gateway.open(&others), [0, 6], "{family}");
    }
    gateway.lab.cut_cable(A).unwrap();
    gateway.wait_for_uplinks(&[B]);
}

#[test]
fn a_rule_can_drop_or_reject_what_has_no_uplink_left() {
    let mut gateway = with_rules(
        r#"
        [[rule]]
        match = { dport = 80 }
        use = "isp-a"
        otherwise = "drop"
        [[rule]]
        match = { dport = 443 }
        use = "isp-a"
        otherwise = "reject"
        "#,
    );
    gateway.lab.cut_cable(A).unwrap();
    let down = |status: &serde_json::Value| status["uplinks"][A]["state"] == "down";
    gateway.daemon.wait_for("isp-a down", LIMIT, down).unwrap();
    for family in Family::ALL {
        for port in [HTTP, HTTPS] {
            let seen = gateway.try_open(&flows(family, Protocol::Udp, port)[..5]);
            assert!(seen.iter().all(|seen| seen.uplink().is_none()), "{family} port {port}");
        }
    }
    let status = gateway.daemon.status().unwrap();
    assert!(status["counters"]["rule_dropped"].as_u64() >= Some(10));
    assert!(status["counters"]["rule_rejected"].as_u64() >= Some(10));
    gateway.lab.plug_cable(A).unwrap();
    gateway.daemon.wait_until_up(LIMIT).unwrap();
    for family in Family::ALL {
        assert_eq!(gateway.open(&flows(family, Protocol::Udp, HTTP)), [FLOWS, 0], "{family}");
    }
}

#[test]
fn an_ordered_list_uses_the_second_uplink_as_backup_only() {
    let gateway = with_rules("[[rule]]\nuse = [\"isp-a\", \"isp-b\"]\n");
    gateway.assert_uplinks(10, &[A]);
    gateway.lab.cut_cable(A).unwrap();
    gateway.wait_for_uplinks(&[B]);
    gateway.lab.plug_cable(A).unwrap();
    gateway.wait_for_uplinks(&[A]);
}
