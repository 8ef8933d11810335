//! Sessions stay on one uplink.

use linkbal_lab::topology::plan::Family;
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::traffic::{FlowSpec, HTTPS, Protocol};

use crate::fixture::Gateway;

const FLOWS: usize = 100;

/// Returns `FLOWS` flows; `ends` gives the client and the server of each.
fn flows(family: Family, ends: fn(usize) -> (usize, usize)) -> Vec<FlowSpec> {
    let flow = |n| {
        let (client, server) = ends(n);
        FlowSpec::new(family, Protocol::Tcp, client, server, HTTPS)
    };
    (0..FLOWS).map(flow).collect()
}

fn uplinks_used(gateway: &Gateway, flows: &[FlowSpec]) -> usize {
    gateway.open(flows).into_iter().filter(|count| *count > 0).count()
}

fn lab() -> Lab {
    Lab::new(&UplinkSpec::pair()).unwrap()
}

#[test]
fn a_client_keeps_its_uplink_for_each_server() {
    let gateway = Gateway::pair();
    for family in Family::ALL {
        for client in 0..3 {
            let one = FlowSpec::new(family, Protocol::Tcp, client, 0, HTTPS);
            assert_eq!(uplinks_used(&gateway, &[one; FLOWS]), 1, "{family}, client {client}");
        }
        assert_eq!(uplinks_used(&gateway, &flows(family, |n| (n, 0))), 2, "many clients spread");
        assert_eq!(uplinks_used(&gateway, &flows(family, |n| (0, n))), 2, "many servers spread");
    }
}

#[test]
fn a_client_keeps_its_uplink_for_all_servers_if_configured() {
    let gateway = Gateway::start(lab(), |config| {
        format!("{config}\n[[sticky]]\nports = [{HTTPS}]\nby = \"src\"\n")
    });
    for family in Family::ALL {
        assert_eq!(uplinks_used(&gateway, &flows(family, |n| (1, n))), 1);
        assert_eq!(uplinks_used(&gateway, &flows(family, |n| (n, 0))), 2);
    }
}

#[test]
fn without_sticky_classes_every_flow_is_balanced_alone() {
    let gateway = Gateway::start(lab(), |config| format!("sticky = []\n\n{config}"));
    for family in Family::ALL {
        let one = FlowSpec::new(family, Protocol::Tcp, 0, 0, HTTPS);
        assert_eq!(uplinks_used(&gateway, &[one; FLOWS]), 2);
    }
}
