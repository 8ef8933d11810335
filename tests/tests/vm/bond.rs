//! Bonds: several network cards that act as one, with the addresses of both providers on it.

mod cards;

use std::fs;
use std::time::Duration;

use linkbal_lab::daemon::Daemon;
use linkbal_lab::topology::plan::Family;
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::traffic::{FlowReport, FlowSpec, HTTP, LongFlows, Protocol, flows_per_uplink};
use linkbal_lab::{oracle, wait};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use self::cards::{Cards, bond, config, facts};
use crate::fixture::{self, Gateway, LIMIT, wait_for_answers};

/// Returns the state of the bond in a status.
fn bond_status(status: &Value) -> &Value {
    &status["bonds"][0]
}

/// Returns the state of a member in a status.
fn member(status: &Value, name: &str) -> String {
    let mut members = bond_status(status)["members"].as_array().into_iter().flatten();
    let member = members.find(|member| member["interface"] == name);
    member.and_then(|member| member["state"].as_str()).unwrap_or_default().to_owned()
}

fn both_work(status: &Value) -> bool {
    let works = |name: &&str| matches!(&*member(status, name), "active" | "standby");
    bond_status(status)["state"] == "up" && cards::NAMES.iter().all(works)
}

/// Returns the kernel's state of a bond: `ip -j -d link show`.
fn link(lab: &Lab, name: &str) -> Value {
    let links = oracle::ip_json(&lab.gateway, &["-d", "link", "show", "dev", name]).unwrap();
    links[0].clone()
}

#[test]
fn every_bond_mode_is_configured_and_undone_at_teardown() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    let _cards = Cards::connect(&lab);
    let targets = "arp_interval = 500\narp_ip_targets = [\"203.0.113.1\", \"203.0.113.5\"]\n";
    let arp = |validate: &str| format!("{targets}arp_validate = \"{validate}\"\n");
    let modes = [
        ("balance-rr", String::new(), json!({ "miimon": 100, "arp_interval": 0 })),
        (
            "active-backup",
            format!("{}primary = \"nic1\"\n", arp("all")),
            json!({ "miimon": 0, "arp_interval": 500, "arp_validate": "all", "primary": "nic1",
                    "arp_ip_target": ["203.0.113.1", "203.0.113.5"] }),
        ),
        (
            "balance-xor",
            "miimon = 50\nxmit_hash_policy = \"layer2+3\"\n".into(),
            json!({ "miimon": 50, "xmit_hash_policy": "layer2+3" }),
        ),
        ("broadcast", arp("filter"), json!({ "arp_interval": 500, "arp_validate": "filter" })),
        (
            "802.3ad",
            "lacp_rate = \"fast\"\nxmit_hash_policy = \"layer3+4\"\n".into(),
            json!({ "ad_lacp_rate": "fast", "xmit_hash_policy": "layer3+4" }),
        ),
        ("balance-tlb", "primary = \"nic0\"\n".into(), json!({ "primary": "nic0" })),
        ("balance-alb", String::new(), json!({ "miimon": 100 })),
    ];
    let before = facts(&lab);
    for (mode, options, expected) in modes {
        let own = "mac = \"02:00:00:00:00:77\"\nmtu = 1400\npromisc = true\n";
        let text = config(&fixture::config(&lab), &bond(mode, &format!("{options}{own}")));
        let mut daemon = Daemon::start(&lab, &text).unwrap();
        daemon.wait_for(mode, LIMIT, both_work).unwrap();
        let bond0 = link(&lab, "bond0");
        let data = &bond0["linkinfo"]["info_data"];
        assert_eq!(data["mode"], mode);
        for (key, value) in expected.as_object().unwrap() {
            assert_eq!(&data[key], value, "{mode}: {key} in {data}");
        }
        assert_eq!((&bond0["address"], &bond0["mtu"]), (&json!("02:00:00:00:00:77"), &json!(1400)));
        for name in cards::NAMES {
            let card = link(&lab, name);
            assert_eq!((&card["master"], &card["mtu"]), (&json!("bond0"), &json!(1400)), "{mode}");
            assert!(card["flags"].as_array().unwrap().contains(&json!("PROMISC")), "{mode}");
        }
        assert!(daemon.stop(Signal::SIGINT).unwrap().success(), "{}", daemon.log());
        assert_restored(&lab, &before);
    }
}

/// Checks that the cards and bonds are as they were `before`.
fn assert_restored(lab: &Lab, before: &Value) {
    let equal = wait::until("the state of before", Duration::from_secs(20), || {
        Ok((facts(lab) == *before).then_some(()))
    });
    equal.unwrap_or_else(|_| assert_eq!(&facts(lab), before));
}

/// Checks the article's set-up, and its readers' questions: what if a cable is pulled, what if a
/// router dies?
#[test]
fn two_providers_share_a_round_robin_bond() {
    providers_share_a_bond("balance-rr");
}

#[test]
fn two_providers_share_an_active_backup_bond() {
    providers_share_a_bond("active-backup");
}

fn providers_share_a_bond(mode: &str) {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    let cards = Cards::connect(&lab);
    let mut gateway = Gateway::start(lab, |text| config(text, &bond(mode, "")));
    gateway.wait_for_uplinks(&[0, 1]);
    for family in Family::ALL {
        // Some may be late in a slow guest.
        let flows = FlowSpec::spread(family, Protocol::Udp, HTTP, 200);
        let counts = flows_per_uplink(&gateway.try_open(&flows), 2);
        let all = counts[0] + counts[1];
        assert!(all >= 150, "{family}: {counts:?}");
        // 30 of 100 are expected, and 5 sigma are 17 at most.
        assert!((13 * all..=47 * all).contains(&(100 * counts[0])), "{family}: {counts:?}");
    }
    let flows = gateway.long_flows(5);
    let verdicts = verdicts(&gateway);

    // The card that carries something is pulled: only the bond has to know.
    let status = gateway.daemon.wait_for("the bond", LIMIT, both_work).unwrap();
    let victim = bond_status(&status)["active"].as_str().unwrap_or("nic0").to_owned();
    let before = flows.reports();
    cards.pull(&victim);
    let dead = |status: &Value| member(status, &victim) == "down";
    let status = gateway.daemon.wait_for("a dead member", LIMIT, dead).unwrap();
    assert_eq!(bond_status(&status)["state"], "up");
    assert_goes_on(&gateway, &flows, &before);
    gateway.wait_for_uplinks(&[0, 1]);
    cards.plug(&victim);
    gateway.daemon.wait_for("both members", LIMIT, both_work).unwrap();
    assert_goes_on(&gateway, &flows, &before);
    assert_eq!(self::verdicts(&gateway), verdicts, "no uplink changed");

    // A router dies: the bond does not know.
    gateway.lab.blackhole(1).unwrap();
    let status = gateway.wait_until_down(1);
    assert!(both_work(&status), "{status}");
    gateway.wait_for_uplinks(&[0]);
    gateway.lab.restore(1).unwrap();
    gateway.wait_for_uplinks(&[0, 1]);
}

/// Returns the verdicts on uplinks so far.
fn verdicts(gateway: &Gateway) -> Vec<Value> {
    let events = gateway.daemon.run(&["events", "--json"]).unwrap();
    let events = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.filter(|event| event["kind"] == "uplink").collect()
}

/// Checks that every flow is answered again, by the uplink that it had.
fn assert_goes_on(gateway: &Gateway, flows: &LongFlows, before: &[FlowReport]) {
    let before: Vec<_> = before
        .iter()
        .zip(flows.reports())
        .map(|(old, now)| FlowReport { answers: now.answers, ..*old })
        .collect();
    wait_for_answers(flows, &before, 5, |_| true);
    for (old, new) in before.iter().zip(flows.reports()) {
        let log = gateway.daemon.log();
        assert!(!new.closed && new.moved == old.moved, "before: {old:?}\nnow: {new:?}\n{log}");
    }
}

#[test]
fn manual_changes_of_a_bond_are_repaired() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    let _cards = Cards::connect(&lab);
    let own = "mtu = 1400\npromisc = true\nmac = \"02:00:00:00:00:77\"\n";
    let mut gateway = Gateway::start(lab, |text| config(text, &bond("active-backup", own)));
    gateway.daemon.wait_for("the bond", LIMIT, both_work).unwrap();
    let wanted = facts(&gateway.lab);
    let acts = [
        "link set bond0 type bond miimon 50",
        "link set bond0 type bond xmit_hash_policy layer3+4",
        "link set nic0 nomaster",
        "link set nic1 promisc off",
        "link set nic1 down",
        "link set bond0 mtu 1300",
        "link set bond0 address 02:00:00:00:00:99",
        "address delete 203.0.113.2/30 dev bond0",
        "link set bond0 down",
    ];
    for act in acts {
        gateway.lab.gateway.ip_batch(act).unwrap();
        let right = wait::until(act, LIMIT, || Ok((facts(&gateway.lab) == wanted).then_some(())));
        right.unwrap_or_else(|_| panic!("{act}\n{}", gateway.daemon.log()));
    }
    let events = gateway.daemon.run(&["events"]).unwrap();
    for told in ["interface bond0: miimon becomes 100: undone", "interface nic0: put into bond0"] {
        assert!(events.contains(told), "{told} is not in:\n{events}");
    }
    gateway.daemon.wait_until_up(LIMIT).unwrap();
    gateway.wait_for_uplinks(&[0, 1]);
}

#[test]
fn a_member_may_go_and_come_back() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    let cards = Cards::connect(&lab);
    let mut gateway = Gateway::start(lab, |text| config(text, &bond("active-backup", "")));
    gateway.daemon.wait_for("the bond", LIMIT, both_work).unwrap();
    gateway.lab.gateway.ip_batch("link delete nic1").unwrap();
    let gone = |status: &Value| member(status, "nic1") == "missing";
    let status = gateway.daemon.wait_for("a missing member", LIMIT, gone).unwrap();
    assert_eq!(bond_status(&status)["state"], "up");
    gateway.wait_for_uplinks(&[0, 1]);
    cards.add(&gateway.lab, "nic1");
    gateway.daemon.wait_for("both members", LIMIT, both_work).unwrap();
    let text = gateway.daemon.run(&["status"]).unwrap();
    assert!(text.contains("bond bond0 (active-backup) is up: nic0 active, nic1 standby"), "{text}");
}

/// Checks a bond that exists: the module makes bond0 when it is loaded, and an administrator may
/// have used it.
#[test]
fn an_existing_bond_is_adopted_and_restored_at_teardown() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    let _cards = Cards::connect(&lab);
    lab.gateway
        .ip_batch(
            "link add bond0 type bond mode balance-xor miimon 50 xmit_hash_policy layer3+4\n\
         link set nic0 down\n\
         link set nic0 master bond0\n\
         link set bond0 mtu 1450\n\
         link set bond0 up\n\
         address add 10.9.9.1/24 dev bond0\n\
         address add fd99::1/64 dev bond0\n",
        )
        .unwrap();
    let carrier = || Ok(oracle::has_carrier(&lab.gateway, "bond0")?.then_some(()));
    wait::until("a carrier", LIMIT, carrier).unwrap();
    let before = facts(&lab);
    let mut gateway = Gateway::start(lab, |text| config(text, &bond("active-backup", "")));
    gateway.daemon.wait_for("the bond", LIMIT, both_work).unwrap();
    gateway.wait_for_uplinks(&[0, 1]);
    let log = gateway.daemon.log();
    assert!(log.contains("bond0: mode becomes active-backup; it was down for that"), "{log}");
    let addresses = link_addresses(&gateway.lab);
    for kept in ["10.9.9.1", "fd99::1"] {
        assert!(addresses.contains(&kept.to_owned()), "{kept} is not in {addresses:?}");
    }
    assert!(gateway.daemon.stop(Signal::SIGINT).unwrap().success());
    assert_restored(&gateway.lab, &before);
}

/// Checks that a gateway without its daemon keeps its bond, and that a later teardown gives it
/// back.
#[test]
fn a_bond_outlives_the_daemon() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    let _cards = Cards::connect(&lab);
    let before = facts(&lab);
    let mut gateway = Gateway::start(lab, |text| config(text, &bond("balance-rr", "mtu = 1400\n")));
    let running = facts(&gateway.lab);
    assert!(gateway.daemon.stop(Signal::SIGTERM).unwrap().success());
    assert_eq!(facts(&gateway.lab), running);
    gateway.wait_for_uplinks(&[0, 1]);
    gateway.daemon.run(&["teardown"]).unwrap();
    assert_restored(&gateway.lab, &before);
}

/// Checks that a reload changes a bond under its flows, takes a member out, and gives the bond
/// back.
#[test]
fn a_reload_changes_a_bond_and_restores_it() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    let _cards = Cards::connect(&lab);
    let before = facts(&lab);
    let base = fixture::config(&lab);
    let mut gateway = Gateway::start(lab, |text| config(text, &bond("active-backup", "")));
    gateway.daemon.wait_for("the bond", LIMIT, both_work).unwrap();
    gateway.wait_for_uplinks(&[0, 1]);
    let flows = gateway.long_flows(5);
    let reload = |gateway: &Gateway, text: &str| {
        fs::write(gateway.daemon.config_path(), text).unwrap();
        let said = gateway.daemon.run(&["reload"]);
        said.unwrap_or_else(|error| panic!("{error:#}\n{}", gateway.daemon.log()));
    };

    let changed = config(&base, &bond("active-backup", "miimon = 40\nprimary = \"nic0\"\n"));
    let seen = flows.reports();
    reload(&gateway, &changed);
    let data = || link(&gateway.lab, "bond0")["linkinfo"]["info_data"].clone();
    let in_force = || Ok((data()["miimon"] == 40 && data()["primary"] == "nic0").then_some(()));
    wait::until("other options", LIMIT, in_force).unwrap();
    assert_goes_on(&gateway, &flows, &seen);

    let seen = flows.reports();
    reload(&gateway, &changed.replace("\"nic0\", \"nic1\"", "\"nic0\""));
    let card = |facts: &Value| {
        facts.as_array().unwrap().iter().find(|link| link["ifname"] == "nic1").cloned()
    };
    let released = || Ok((card(&facts(&gateway.lab)) == card(&before)).then_some(()));
    wait::until("a card of its own", LIMIT, released).unwrap();
    assert_goes_on(&gateway, &flows, &seen);

    let without = changed.split("[lan]").nth(1).unwrap();
    reload(&gateway, &format!("[lan]{without}"));
    assert_restored(&gateway.lab, &before);
    drop(flows);
    assert!(gateway.daemon.stop(Signal::SIGINT).unwrap().success());
    assert_restored(&gateway.lab, &before);
}

fn link_addresses(lab: &Lab) -> Vec<String> {
    let links = oracle::ip_json(&lab.gateway, &["address", "show", "dev", "bond0"]).unwrap();
    let addresses = links[0]["addr_info"].as_array().unwrap().iter();
    addresses.map(|address| address["local"].as_str().unwrap().to_owned()).collect()
}
