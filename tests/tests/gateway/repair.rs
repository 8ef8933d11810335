//! Repairs of what others undo, reported with the program that did it.
//!
//! The times are printed, but not judged: `LINKBAL_REPAIRS=20` repairs each kind that often, for
//! figures worth looking at.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use linkbal_lab::daemon::{self, Daemon};
use linkbal_lab::topology::{LAN_INTERFACE, Lab, UplinkSpec};
use linkbal_lab::{oracle, wait};
use serde_json::Value;

use crate::fixture::{Gateway, LIMIT, config};
use crate::kernel;

/// Number of rounds that the test needs. For a measurement, `LINKBAL_REPAIRS` sets more.
const ROUNDS: usize = 1;

/// Pause between the repairs of one thing in a measurement: longer than a fifth of the time within
/// which five repairs make a conflict.
const PAUSE: Duration = Duration::from_millis(2100);

/// The kind whose state differs after its repair: another link replaces the one that was detached.
const DETACHED: &str = "tcx link";

/// A way to undo something of linkbal's.
struct Kind {
    name: &'static str,
    undo: fn(&Gateway),
    /// The part of the kernel's state that shows it.
    state: fn(&Gateway) -> String,
}

fn ip(gateway: &Gateway, command: &str) {
    let words: Vec<_> = command.split_whitespace().collect();
    gateway.lab.gateway.run("ip", &words).unwrap();
}

fn nft(gateway: &Gateway, command: &str) {
    let words: Vec<_> = command.split_whitespace().collect();
    gateway.lab.gateway.run("nft", &words).unwrap();
}

fn rules(gateway: &Gateway) -> String {
    kernel::rules(&gateway.lab.gateway)
}

fn routes(gateway: &Gateway) -> String {
    let show = |flag| gateway.lab.gateway.run("ip", &[flag, "route", "show", "table", "2601"]);
    ["-4", "-6"].map(|flag| show(flag).unwrap_or_default()).concat()
}

fn ruleset(gateway: &Gateway) -> String {
    gateway.lab.gateway.run("nft", &["-s", "list", "ruleset"]).unwrap()
}

fn sysctls(gateway: &Gateway) -> String {
    let keys = [
        "net.ipv4.ip_forward",
        "net.ipv6.conf.all.forwarding",
        "net.ipv4.conf.wan-a.rp_filter",
        "net.ipv4.fwmark_reflect",
    ];
    keys.map(|key| gateway.lab.gateway.sysctl(key).unwrap()).join(" ")
}

fn pins(gateway: &Gateway) -> String {
    let entries = fs::read_dir(gateway.lab.gateway.bpf_dir()).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names.join(" ")
}

/// Returns the id of the link that holds the program at the ingress of the LAN; empty without a
/// pin. This `bpftool` does not say whether the link is attached.
fn link_id(gateway: &Gateway) -> String {
    let pins = pins(gateway);
    let name = lan_link(gateway);
    if !pins.split(' ').any(|pin| pin == name) {
        return String::new();
    }
    let pin = gateway.lab.gateway.bpf_dir().join(name).display().to_string();
    let shown = gateway.lab.gateway.run("bpftool", &["-j", "link", "show", "pinned", &pin]);
    let link: Option<Value> = shown.ok().and_then(|text| serde_json::from_str(&text).ok());
    link.map_or(String::new(), |link| link["id"].to_string())
}

/// Returns the pins, and the id of a link: one that is only pinned again keeps its id, since it was
/// never detached.
fn pins_and_link(gateway: &Gateway) -> String {
    pins(gateway) + " " + &link_id(gateway)
}

/// Returns the name of the pin of the link at the ingress of the LAN.
fn lan_link(gateway: &Gateway) -> String {
    format!("link_{}", kernel::ifindex(&gateway.lab.gateway, LAN_INTERFACE))
}

fn remove_pin(gateway: &Gateway, prefix: &str) {
    let name = pins(gateway).split(' ').find(|name| name.starts_with(prefix)).unwrap().to_owned();
    fs::remove_file(gateway.lab.gateway.bpf_dir().join(name)).unwrap();
}

fn detach_link(gateway: &Gateway) {
    let name = lan_link(gateway);
    let pin = gateway.lab.gateway.bpf_dir().join(name).display().to_string();
    gateway.lab.gateway.run("bpftool", &["link", "detach", "pinned", &pin]).unwrap();
}

const KINDS: [Kind; 13] = [
    Kind {
        name: "ip rule",
        undo: |gateway| ip(gateway, "-4 rule delete pref 26100"),
        state: rules,
    },
    Kind {
        name: "all ip rules",
        undo: |gateway| ip(gateway, "-6 rule flush protocol 201"),
        state: rules,
    },
    Kind {
        name: "routes of a table",
        undo: |gateway| ip(gateway, "-4 route flush table 2601"),
        state: routes,
    },
    Kind {
        name: "nft table",
        undo: |gateway| nft(gateway, "delete table inet linkbal"),
        state: ruleset,
    },
    Kind { name: "nft ruleset", undo: |gateway| nft(gateway, "flush ruleset"), state: ruleset },
    Kind {
        name: "nft chain",
        undo: |gateway| nft(gateway, "flush chain inet linkbal postrouting"),
        state: ruleset,
    },
    Kind {
        name: "ip_forward",
        undo: |gateway| gateway.lab.gateway.set_sysctl("net.ipv4.ip_forward", "0").unwrap(),
        state: sysctls,
    },
    Kind {
        name: "rp_filter",
        undo: |gateway| {
            gateway.lab.gateway.set_sysctl("net.ipv4.conf.wan-a.rp_filter", "1").unwrap();
        },
        state: sysctls,
    },
    Kind {
        name: "fwmark_reflect",
        undo: |gateway| gateway.lab.gateway.set_sysctl("net.ipv4.fwmark_reflect", "0").unwrap(),
        state: sysctls,
    },
    Kind {
        name: "pin of a map",
        undo: |gateway| remove_pin(gateway, "FLOWS"),
        state: pins_and_link,
    },
    Kind {
        name: "pin of a link",
        undo: |gateway| remove_pin(gateway, &lan_link(gateway)),
        state: pins_and_link,
    },
    Kind { name: DETACHED, undo: detach_link, state: link_id },
    Kind {
        name: "pin of a cgroup link",
        undo: |gateway| remove_pin(gateway, "cgroup_linkbal_connect4"),
        state: pins_and_link,
    },
];

/// Undoes something, waits until it is in force again, and returns how long that took.
fn repair(gateway: &Gateway, kind: &Kind, before: &str) -> Duration {
    (kind.undo)(gateway);
    let begin = Instant::now();
    let again = || {
        let state = (kind.state)(gateway);
        (!state.is_empty() && (state == before) != (kind.name == DETACHED)).then_some(())
    };
    wait::until(kind.name, LIMIT, || Ok(again()))
        .unwrap_or_else(|error| panic!("{error:#}\n{}", gateway.daemon.log()));
    begin.elapsed()
}

#[test]
fn drift_is_repaired_and_reported() {
    let rounds: usize = env::var("LINKBAL_REPAIRS").map_or(ROUNDS, |text| text.parse().unwrap());
    let gateway = Gateway::pair();
    // What is undone before the start has done everything is no repair yet.
    wait::until("the first repair", LIMIT, || {
        let before = (KINDS[0].state)(&gateway);
        repair(&gateway, &KINDS[0], &before);
        Ok((!events(&gateway, "repair").is_empty()).then_some(()))
    })
    .unwrap();
    let mut times = KINDS.map(|_| Vec::new());
    for _ in 0..rounds {
        for (kind, times) in KINDS.iter().zip(&mut times) {
            let before = (kind.state)(&gateway);
            times.push(repair(&gateway, kind, &before));
            if rounds > ROUNDS && kind.name.starts_with("nft") {
                thread::sleep(PAUSE);
            }
        }
    }
    for (kind, times) in KINDS.iter().zip(&mut times) {
        times.sort();
        let (least, middle, most) = (times[0], times[times.len() / 2], times[times.len() - 1]);
        println!("{:<22} min {least:>8.1?} median {middle:>8.1?} max {most:>8.1?}", kind.name);
    }
    gateway.assert_uplinks(20, &[0, 1]);
    assert_reported(&gateway);
}

/// Returns the events of conflicts, except for what is compatible.
fn conflicts(gateway: &Gateway) -> Vec<Value> {
    let mut conflicts = events(gateway, "conflict");
    conflicts.retain(|event| event["to"] != "compatible");
    conflicts
}

fn events(gateway: &Gateway, kind: &str) -> Vec<Value> {
    let text = gateway.daemon.run(&["events", "--json"]).unwrap();
    let events = text.lines().map(|line| serde_json::from_str(line).unwrap());
    events.filter(|event: &Value| event["kind"] == kind).collect()
}

/// Checks that each kind has its event, with the program that did it if the kernel reports that.
fn assert_reported(gateway: &Gateway) {
    let told = events(gateway, "repair");
    let of = |text: &str| {
        let mut about =
            told.iter().filter(|event| event["object"].as_str().unwrap().contains(text));
        about.next_back().unwrap_or_else(|| panic!("{text} in {told:#?}"))
    };
    for text in [
        "ip rule 26100: ipv4 lookup main suppress_prefixlength 0",
        "route 0.0.0.0/0",
        "sysctl net.ipv4.ip_forward = 1",
        "sysctl net.ipv4.conf.wan-a.rp_filter = 0",
        "sysctl net.ipv4.fwmark_reflect = 1",
        "pin FLOWS",
        "eBPF program of lan0",
        "local traffic",
    ] {
        of(text);
    }
    let by = of("nft table inet linkbal")["by"].as_str().unwrap();
    assert!(by.starts_with("nft (process "), "{by}");
    let rule = of("ip rule 26100: ipv4");
    assert!(rule["by"].as_str().unwrap().contains("process "), "{rule}");
    assert_eq!(conflicts(gateway), [Value::Null; 0]);
}

#[test]
fn repeated_drift_becomes_a_conflict() {
    let gateway = Gateway::pair();
    let kind = &KINDS[0];
    let before = (kind.state)(&gateway);
    for _ in 0..5 {
        repair(&gateway, kind, &before);
    }
    (kind.undo)(&gateway);
    // The kernel's answers while the rule was away may be conflicts, too.
    let throttled = || {
        let found = conflicts(&gateway).into_iter();
        found.map(|event| event["reason"].as_str().unwrap().to_owned())
    };
    wait::until("a throttled repair", LIMIT, || {
        Ok(throttled().any(|reason| reason.contains("every 10 s")).then_some(()))
    })
    .unwrap();
    assert_ne!((kind.state)(&gateway), before, "no war");
    let repairs = events(&gateway, "repair").len();
    // Repairs go on at the slow pace.
    wait::until("a slow repair", LIMIT, || Ok(((kind.state)(&gateway) == before).then_some(())))
        .unwrap();
    assert_eq!(events(&gateway, "repair").len(), repairs, "without more words");
    assert!(oracle::sysctl(&gateway.lab.gateway, "net.ipv4.ip_forward").unwrap() == "1");
}

/// Checks a chain that a firewall empties while linkbal starts.
#[test]
fn a_chain_that_is_flushed_right_after_the_write_is_restored() {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let real = lab.gateway.run("sh", &["-c", "command -v nft"]).unwrap();
    let script = format!(
        "#!/bin/sh\n{real} \"$@\" || exit\n\
         case \"$*\" in *'-f -'*) mkdir {folder}/once && {real} flush chain inet linkbal postrouting\n\
         esac\ntrue\n",
        real = real.trim(),
        folder = folder.path().display(),
    );
    let wrapper = folder.path().join("nft");
    fs::write(&wrapper, script).unwrap();
    fs::set_permissions(&wrapper, Permissions::from_mode(0o755)).unwrap();
    let program = daemon::find_program().unwrap();
    let path = env::var("PATH").unwrap();
    let mut command = lab.gateway.command(fs::canonicalize(&program).unwrap());
    command.env("PATH", format!("{}:{path}", folder.path().display()));
    let mut daemon = Daemon::start_command(command, &program, &lab, &config(&lab)).unwrap();
    daemon.wait_until_up(LIMIT).unwrap();
    let translated = || {
        let listed = lab.gateway.run("nft", &["list", "chain", "inet", "linkbal", "postrouting"]);
        Ok(listed.is_ok_and(|chain| chain.contains("translation")).then_some(()))
    };
    wait::until("the translation of addresses", LIMIT, translated)
        .unwrap_or_else(|error| panic!("{error:#}\n{}", daemon.log()));
    assert!(folder.path().join("once").exists(), "the chain was emptied");
    assert!(!daemon.log().contains("modules"), "{}", daemon.log());
}
