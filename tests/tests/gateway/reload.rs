//! A new configuration while packets flow.

use std::fs;
use std::time::{Duration, Instant};

use linkbal_lab::daemon::Daemon;
use linkbal_lab::namespace::Namespace;
use linkbal_lab::topology::plan::Family;
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::traffic::{FlowSpec, HTTPS, LongFlows, Protocol};
use linkbal_lab::wait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::descriptors::limit_files;
use crate::fixture::{
    Gateway, LIMIT, TICK, assert_undisturbed, config, linkbal, on, text, uplink_status,
    wait_for_move,
};
use crate::kernel;

/// Returns the text of the configuration file.
fn configured(gateway: &Gateway) -> String {
    fs::read_to_string(gateway.daemon.config_path()).unwrap()
}

/// Changes the configuration file.
fn change(gateway: &Gateway, tune: impl FnOnce(&str) -> String) {
    let next = tune(&configured(gateway));
    fs::write(gateway.daemon.config_path(), next).unwrap();
}

/// Changes the configuration and reloads it; returns the output.
fn reload(gateway: &Gateway, tune: impl FnOnce(&str) -> String) -> String {
    change(gateway, tune);
    let said = gateway.daemon.run(&["reload"]);
    said.unwrap_or_else(|error| panic!("{error:#}\n{}", gateway.daemon.log()))
}

/// Returns the outcomes of configurations as the events report them, oldest first.
fn outcomes(gateway: &Gateway) -> Vec<String> {
    let events = gateway.daemon.run(&["events", "--json"]).unwrap();
    let events = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let outcomes = events.filter(|event| event["kind"] == "configuration");
    outcomes.map(|event| event["to"].as_str().unwrap().to_owned()).collect()
}

fn rule(text: &str) -> impl FnOnce(&str) -> String {
    move |config| format!("{config}\n[[rule]]\n{text}\n")
}

#[test]
fn weights_rules_and_probes_change_and_no_flow_moves() {
    let gateway = Gateway::pair();
    let flows = gateway.long_flows(25);
    let before = flows.reports();
    let said = reload(&gateway, |config| {
        let config = config.replace("weight = 30", "weight = 0");
        let config = config.replace("interval = ", "#") + "interval = \"150ms\"\n";
        rule("match = { dport = [443] }\nuse = \"isp-a\"")(&config)
    });
    assert!(said.contains("- weight = 30\n+ weight = 0\n"), "{said}");
    assert!(said.ends_with("\nthe configuration is in force, with 2 uplinks\n"), "{said}");
    gateway.assert_uplinks(40, &[1]);
    let visit = |n| FlowSpec::new(Family::V4, Protocol::Tcp, n, n, HTTPS);
    let visits: Vec<_> = (0..40).map(visit).collect();
    assert_eq!(gateway.open(&visits), [40, 0], "the rule is in force");
    assert_undisturbed(&flows, &before, 100, |_| true);
    // As many times as one likes.
    for weight in 1..4 {
        reload(&gateway, |config| config.replace("weight = 0", &format!("weight = {weight}")));
        reload(&gateway, |config| config.replace(&format!("weight = {weight}\n"), "weight = 0\n"));
    }
    let status = gateway.daemon.status().unwrap();
    assert_eq!(uplink_status(&status, "isp-a")["ipv4"]["reason"], "targets answer");
    assert_undisturbed(&flows, &before, 100, |_| true);
}

#[test]
fn sighup_reloads() {
    let gateway = Gateway::pair();
    let flows = gateway.long_flows(10);
    let before = flows.reports();
    change(&gateway, |config| config.replace("weight = 30", "weight = 0"));
    let pid = Pid::from_raw(gateway.daemon.id().try_into().unwrap());
    kill(pid, Signal::SIGHUP).unwrap();
    gateway.wait_for_uplinks(&[1]);
    change(&gateway, |config| config.replace("weight = 70", "wait = 70"));
    kill(pid, Signal::SIGHUP).unwrap();
    wait::until("a refusal in the log", LIMIT, || {
        let log = gateway.daemon.log();
        Ok((log.contains("refused") && log.contains("wait")).then_some(()))
    })
    .unwrap();
    gateway.assert_uplinks(20, &[1]);
    assert_undisturbed(&flows, &before, 40, |_| true);
}

#[test]
fn an_invalid_configuration_is_refused_and_the_old_one_stays_in_force() {
    let gateway = Gateway::pair();
    let good = configured(&gateway);
    for (tune, reason) in [
        (good.replace("weight = 30", "weight = -1"), "weight"),
        (good.replace("[lan]", "[lan"), "linkbal.toml"),
        (format!("{good}\n[kernel]\nfwmark_mask = 0xff0000\n"), "needs `linkbal teardown`"),
    ] {
        change(&gateway, |_| tune);
        let refused = linkbal(&gateway.lab, &["reload"]);
        assert_eq!(refused.status.code(), Some(2));
        let said = text(&refused.stderr);
        assert!(said.contains(reason) && said.contains("the old one stays in force"), "{said}");
    }
    assert_eq!(outcomes(&gateway), ["refused"; 3]);
    gateway.assert_uplinks(20, &[0, 1]);
    let unheard = linkbal(&gateway.lab, &["confirm"]);
    assert_eq!(unheard.status.code(), Some(1));
    assert!(text(&unheard.stderr).contains("no configuration waits"));
}

#[test]
fn an_uplink_that_is_removed_loses_its_flows_and_may_come_back() {
    let mut gateway = Gateway::pair();
    let flows = gateway.long_flows(25);
    let before = flows.reports();
    let both = configured(&gateway);
    let validated = |namespace: &Namespace, by_nft| {
        let key = "net.ipv4.conf.wan-b.accept_local";
        let wanted = if by_nft { "1" } else { "0" };
        wait::until("who validates sources", LIMIT, || {
            Ok((namespace.sysctl(key)? == wanted).then_some(()))
        })
        .unwrap();
    };
    validated(&gateway.lab.gateway, true);
    reload(&gateway, |config| {
        let begin = config.find("[uplink.isp-b]").unwrap();
        let end = config.find("[probe]").unwrap();
        format!("{}{}", &config[..begin], &config[end..])
    });
    let udp = |report: &_| crate::fixture::is_udp(report) && on(1)(report);
    wait_for_move(&flows, &before, udp, 0);
    assert_undisturbed(&flows, &before, 20, on(0));
    gateway.assert_uplinks(20, &[0]);
    let rules = kernel::rules(&gateway.lab.gateway);
    assert!(!rules.to_string().contains("0x2000000"), "{rules}");
    validated(&gateway.lab.gateway, false);
    assert!(kernel::tracked_by(&gateway.lab.gateway, Family::V4, kernel::fwmark(1)).is_empty());

    let before = flows.settle().unwrap();
    reload(&gateway, |_| both);
    gateway.daemon.wait_until_up(LIMIT).unwrap();
    gateway.wait_for_uplinks(&[0, 1]);
    validated(&gateway.lab.gateway, true);
    assert_undisturbed(&flows, &before, 50, |report| !report.closed && on(0)(report));
}

#[test]
fn an_uplink_with_another_name_keeps_everything() {
    let mut gateway = Gateway::pair();
    gateway.daemon.run(&["drain", "isp-b"]).unwrap();
    let flows = gateway.long_flows(25);
    let before = flows.reports();
    reload(&gateway, |config| config.replace("isp-b", "fiber").replace("isp-a", "cable"));
    let status = gateway.daemon.status().unwrap();
    assert_eq!(uplink_status(&status, "fiber")["admin"], "drained");
    assert_eq!(uplink_status(&status, "cable")["ipv4"]["state"], "up");
    assert_undisturbed(&flows, &before, 100, |_| true);
    gateway.daemon.run(&["enable", "fiber"]).unwrap();
    gateway.daemon.wait_until_up(LIMIT).unwrap();
    gateway.wait_for_uplinks(&[0, 1]);
    assert_undisturbed(&flows, &before, 100, |_| true);
}

#[test]
fn a_rename_that_the_kernel_refused_moves_no_flow_later() {
    let gateway = Gateway::pair();
    let good = configured(&gateway);
    let flows = gateway.long_flows(25);
    let before = flows.reports();
    let renamed = good.replace("isp-b", "fiber").replace("isp-a", "cable");
    change(&gateway, |_| renamed.clone());
    // Enough for the request, and too few for the maps.
    let open = fs::read_dir(format!("/proc/{}/fd", gateway.daemon.id())).unwrap().count();
    limit_files(&gateway, open + 12);
    let refused = gateway.daemon.run(&["reload"]).unwrap_err();
    assert!(format!("{refused:#}").contains("Too many open files"), "{refused:#}");
    limit_files(&gateway, 1024);
    reload(&gateway, |_| good);
    assert_undisturbed(&flows, &before, 100, |_| true);
    reload(&gateway, |_| renamed);
    assert_undisturbed(&flows, &before, 100, |_| true);
}

#[test]
fn an_uplink_on_another_interface_starts_afresh() {
    let [a, b] = UplinkSpec::pair();
    let lab = Lab::new(&[a, b, UplinkSpec::new("spare", "wan-c", 1)]).unwrap();
    let spare = |config: &str| {
        let begin = config.find("[uplink.spare]").unwrap();
        let end = config.find("[probe]").unwrap();
        format!("{}{}", &config[..begin], &config[end..])
    };
    let mut gateway = Gateway::start(lab, spare);
    let flows = gateway.long_flows(25);
    let before = flows.reports();
    reload(&gateway, |config| config.replace("wan-b", "wan-c"));
    gateway.daemon.wait_until_up(LIMIT).unwrap();
    gateway.wait_for_uplinks(&[0, 2]);
    assert_undisturbed(&flows, &before, 20, on(0));
    let stuck = |report: &_| crate::fixture::is_udp(report) && on(1)(report);
    let moved = flows.reports();
    let left = moved.iter().filter(|report| stuck(report)).count();
    assert_eq!(left, 0, "flows on an interface that is no uplink's");
}

#[test]
fn another_size_of_the_flow_table_migrates_flows() {
    let gateway = Gateway::pair();
    let flows = gateway.long_flows(25);
    let before = flows.reports();
    for size in [65_536, 4096] {
        reload(&gateway, |config| {
            let config = config.replace("weight = 30", "weight = 0");
            let end = config.find("\n[kernel]").unwrap_or(config.len());
            format!("{}\n[kernel]\nflow_table_size = {size}\n", &config[..end])
        });
        gateway.assert_uplinks(20, &[1]);
        assert_undisturbed(&flows, &before, 100, |_| true);
    }
}

#[test]
fn sessions_follow_their_rules() {
    let bank = "match = { dport = [443] }\nuse = { isp-a = 30, isp-b = 70 }\n\
                sticky = { by = \"src\", idle = \"1h\" }";
    let gateway = Gateway::start(Lab::new(&UplinkSpec::pair()).unwrap(), rule(bank));
    let visits = |server: usize| -> Vec<FlowSpec> {
        let visit = |n| FlowSpec::new(Family::V4, Protocol::Tcp, n, n + server, HTTPS);
        (0..40).map(visit).collect()
    };
    let used = |server| -> Vec<_> {
        let seen = gateway.try_open(&visits(server));
        seen.iter().map(|seen| seen.uplink().unwrap()).collect()
    };
    let before = used(0);
    assert!((0..2).all(|uplink| before.contains(&uplink)), "{before:?}");
    reload(&gateway, |config| {
        let (head, rule) = config.split_once("[[rule]]").unwrap();
        let first = "match = { dport = [25] }\nuse = \"isp-a\"\n";
        // These shares would send every new session elsewhere.
        let rule = rule.replace("isp-a = 30", "isp-a = 1");
        format!("{head}[[rule]]\n{first}\n[[rule]]{rule}")
    });
    assert_eq!(
        used(1),
        before,
        "the sessions of the second rule are those of the first one before"
    );
    reload(&gateway, |config| config.replace("use = { isp-a = 1, isp-b = 70 }", "use = \"isp-b\""));
    assert_eq!(used(2), [1; 40], "a session may stay only on an uplink of its rule");
}

#[test]
fn lan_interfaces_come_and_go() {
    let gateway = Gateway::pair();
    let long = FlowSpec::new(Family::V4, Protocol::Udp, 0, 0, 80);
    let flows = LongFlows::start(&gateway.lab.lan, &[long], TICK).unwrap();
    let before = flows.reports();
    let counted = |gateway: &Gateway| gateway.counted_flows().iter().sum::<u64>();
    let lan = "interfaces = [\"lan0\"]";
    reload(&gateway, |config| config.replace(lan, "interfaces = [\"lan9\"]"));
    let known = counted(&gateway);
    gateway.open(&[FlowSpec::new(Family::V4, Protocol::Udp, 1, 1, 80)]);
    assert_eq!(counted(&gateway), known, "nobody looks at the former LAN interface");
    reload(&gateway, |config| config.replace("lan9", "lan0"));
    gateway.open(&[FlowSpec::new(Family::V4, Protocol::Udp, 2, 2, 80)]);
    assert!(counted(&gateway) > known);
    drop((flows, before));
}

#[test]
fn a_hook_and_the_balance_of_the_gateway_can_be_changed() {
    let gateway = Gateway::pair();
    let folder = tempfile::tempdir().unwrap();
    let seen = folder.path().join("seen");
    let hook = format!("\n[hooks]\non_change = [\"/usr/bin/touch\", {:?}]\n", seen);
    reload(&gateway, |config| format!("{config}{hook}[local]\nbalance = true\n"));
    let programs = || gateway.lab.gateway.run("bpftool", &["cgroup", "tree"]).unwrap();
    assert!(programs().contains("linkbal_connect4"), "{}", programs());
    gateway.daemon.run(&["drain", "isp-a"]).unwrap();
    wait::until("the hook", LIMIT, || Ok(seen.exists().then_some(()))).unwrap();
    reload(&gateway, |config| config.replace("balance = true", "balance = false"));
    let pins = fs::read_dir(gateway.lab.gateway.bpf_dir()).unwrap().flatten();
    let left = pins.filter(|pin| pin.file_name().to_string_lossy().starts_with("cgroup_"));
    assert_eq!(left.count(), 0);
}

#[test]
fn an_unconfirmed_configuration_is_rolled_back() {
    let gateway = Gateway::pair();
    let flows = gateway.long_flows(10);
    let before = flows.reports();
    change(&gateway, |config| config.replace("weight = 30", "weight = 0"));
    let said = gateway.daemon.run(&["reload", "--confirm", "2s"]).unwrap();
    assert!(said.contains("comes back in 2 s unless you say `linkbal confirm`"), "{said}");
    assert!(
        gateway.daemon.run(&["status"]).unwrap().contains("on trial: `linkbal confirm` within")
    );
    gateway.assert_uplinks(20, &[1]);
    gateway.wait_for_uplinks(&[0, 1]);
    assert!(gateway.daemon.status().unwrap()["confirm_within_s"].is_null());
    assert_undisturbed(&flows, &before, 40, |_| true);

    gateway.daemon.run(&["reload", "--confirm", "2s"]).unwrap();
    gateway.daemon.run(&["confirm"]).unwrap();
    gateway.assert_uplinks(20, &[1]);
    let later = Instant::now() + Duration::from_secs(4);
    wait::until("the time of a trial", LIMIT, || Ok((Instant::now() > later).then_some(())))
        .unwrap();
    assert_eq!(outcomes(&gateway), ["on-trial", "lost", "on-trial", "in-force"]);
    gateway.assert_uplinks(20, &[1]);
}

#[test]
fn a_drill_does_not_put_off_the_end_of_a_trial() {
    let gateway = Gateway::pair();
    change(&gateway, |config| config.replace("weight = 70", "weight = 71"));
    gateway.daemon.run(&["reload", "--confirm", "10s"]).unwrap();
    let _drill = crate::drill::endless_drill(&gateway.lab);
    wait::until("the end of the trial", LIMIT, || {
        Ok((outcomes(&gateway) == ["on-trial", "lost"]).then_some(()))
    })
    .unwrap();
    let status = gateway.daemon.status().unwrap();
    assert!(status["confirm_within_s"].is_null() && status["drill"].is_null(), "{status}");
}

#[test]
fn a_trial_is_undone_upon_request() {
    let gateway = Gateway::pair();
    let undo = || gateway.daemon.run(&["undo"]);
    assert!(undo().unwrap_err().to_string().contains("no configuration is on trial"));
    change(&gateway, |config| config.replace("weight = 30", "weight = 0"));
    gateway.daemon.run(&["reload", "--confirm", "7d"]).unwrap();
    gateway.assert_uplinks(20, &[1]);
    assert_eq!(undo().unwrap(), "the configuration before is in force again\n");
    gateway.wait_for_uplinks(&[0, 1]);
    assert!(gateway.daemon.status().unwrap()["confirm_within_s"].is_null());
    assert_eq!(outcomes(&gateway), ["on-trial", "lost"]);
}

#[test]
fn a_trial_outlives_the_daemon() {
    let mut gateway = Gateway::pair();
    let good = config(&gateway.lab);
    let bad = good.replace("weight = 30", "weight = 0");
    let start = |gateway: &mut Gateway, config: &str| {
        let mut next = Daemon::start(&gateway.lab, config).unwrap();
        next.wait_until_up(LIMIT).unwrap();
        // The old daemon is dropped while its successor runs, so it cannot tear anything down.
        gateway.daemon = next;
    };
    // The trial ends while the next daemon runs.
    change(&gateway, |_| bad.clone());
    gateway.daemon.run(&["reload", "--confirm", "5s"]).unwrap();
    gateway.daemon.stop(Signal::SIGKILL).unwrap();
    start(&mut gateway, &bad);
    gateway.wait_for_uplinks(&[0, 1]);
    assert!(gateway.daemon.log().contains("is on trial"), "{}", gateway.daemon.log());
    // The configuration is lost: the same file does not bring it back, but another one is taken.
    gateway.daemon.stop(Signal::SIGTERM).unwrap();
    start(&mut gateway, &bad);
    gateway.assert_uplinks(20, &[0, 1]);
    gateway.daemon.stop(Signal::SIGTERM).unwrap();
    let other = good.replace("weight = 70", "weight = 0");
    start(&mut gateway, &other);
    gateway.wait_for_uplinks(&[0]);
    // The trial ends while no daemon runs.
    change(&gateway, |_| bad.clone());
    gateway.daemon.run(&["reload", "--confirm", "1s"]).unwrap();
    gateway.daemon.stop(Signal::SIGKILL).unwrap();
    let later = Instant::now() + Duration::from_secs(2);
    wait::until("the time of a trial", LIMIT, || Ok((Instant::now() > later).then_some(())))
        .unwrap();
    start(&mut gateway, &bad);
    gateway.assert_uplinks(20, &[0]);
    // A reload on request brings it back.
    gateway.daemon.run(&["reload"]).unwrap();
    gateway.assert_uplinks(20, &[1]);
}

#[test]
fn a_trial_that_cannot_be_undone_says_so_and_goes_back_once_it_can() {
    let gateway = Gateway::pair();
    let folder = tempfile::tempdir().unwrap();
    let seed = folder.path().join("seed");
    let write_seed = || fs::write(&seed, "0123456789abcdef0123456789abcdef\n").unwrap();
    write_seed();
    let section = format!("\n[kernel]\nhash_seed_file = {seed:?}\n");
    reload(&gateway, |config| format!("{config}{section}"));
    change(&gateway, |config| config.replace(&section, "").replace("weight = 30", "weight = 0"));
    fs::remove_file(&seed).unwrap();
    gateway.daemon.run(&["reload", "--confirm", "1s"]).unwrap();
    let refused = |status: &Value| status["configuration"]["refused"]["error"].to_string();
    let stuck = wait::until("words about it", LIMIT, || {
        let status = gateway.daemon.status()?;
        Ok(refused(&status).contains("cannot come back").then_some(status))
    });
    assert_eq!(stuck.unwrap()["confirm_within_s"], 0);
    gateway.assert_uplinks(20, &[1]);
    write_seed();
    gateway.wait_for_uplinks(&[0, 1]);
    assert!(gateway.daemon.status().unwrap()["confirm_within_s"].is_null());
    assert_eq!(outcomes(&gateway), ["in-force", "on-trial", "refused", "lost"]);

    // The present one can be kept, too.
    fs::remove_file(&seed).unwrap();
    gateway.daemon.run(&["reload", "--confirm", "1s"]).unwrap();
    wait::until("words about it again", LIMIT, || {
        Ok(refused(&gateway.daemon.status()?).contains("cannot come back").then_some(()))
    })
    .unwrap();
    wait::until("the confirmation", LIMIT, || {
        Ok(linkbal(&gateway.lab, &["confirm"]).status.success().then_some(()))
    })
    .unwrap();
    let status = gateway.daemon.status().unwrap();
    assert!(status["configuration"]["refused"].is_null(), "{status}");
    gateway.assert_uplinks(20, &[1]);
}
