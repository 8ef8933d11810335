//! Maps of another layout, as another version of linkbal left them.

use std::fs;
use std::path::PathBuf;

use linkbal_lab::daemon::Daemon;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::fixture::{Gateway, LIMIT, assert_undisturbed, config};
use crate::kernel;

fn pin(gateway: &Gateway, name: &str) -> PathBuf {
    gateway.lab.gateway.bpf_dir().join(name)
}

/// Returns the bytes of a list of hexadecimal numbers from `bpftool`.
fn bytes(list: &Value) -> Vec<u8> {
    let byte = |text: &Value| {
        let digits = text.as_str().unwrap().trim_start_matches("0x");
        u8::from_str_radix(digits, 16).unwrap()
    };
    list.as_array().unwrap().iter().map(byte).collect()
}

fn spelled(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!(" {byte}")).collect()
}

/// Replaces a pinned map with one of another layout.
fn replace(gateway: &Gateway, name: &str, kind: &str, sizes: [usize; 3], entries: &[[Vec<u8>; 2]]) {
    let path = pin(gateway, name);
    fs::remove_file(&path).unwrap();
    let path = path.to_str().unwrap();
    let [key, value, count] = sizes.map(|size| size.to_string());
    let namespace = &gateway.lab.gateway;
    let sizes = ["key", &key, "value", &value, "entries", &count, "name", name];
    namespace
        .run("bpftool", &[&["map", "create", path, "type", kind], &sizes[..]].concat())
        .unwrap();
    let updates = entries.iter().map(|[key, value]| {
        format!("map update pinned {path} key{} value{}\n", spelled(key), spelled(value))
    });
    let updates: String = updates.collect();
    namespace.run_with_input("bpftool", &["batch", "file", "-"], &updates).unwrap();
}

fn entries(gateway: &Gateway, name: &str) -> Vec<[Vec<u8>; 2]> {
    let listed = kernel::map(&gateway.lab.gateway, name);
    let entry = |entry: &Value| [bytes(&entry["key"]), bytes(&entry["value"])];
    listed.as_array().unwrap().iter().map(entry).collect()
}

/// Returns an entry of the flow table in layout 3: 16 bytes, with the time in seconds instead of
/// milliseconds.
fn older_flow([key, value]: [Vec<u8>; 2]) -> [Vec<u8>; 2] {
    let ms = u32::from_ne_bytes(value[8..12].try_into().unwrap());
    let seconds = (ms / 1000).to_ne_bytes();
    [key, [&value[..8], &seconds, &value[12..16]].concat()]
}

/// Turns the pins of a daemon that was killed into those of layout 3.
fn downgrade(gateway: &Gateway) {
    let flows = entries(gateway, "FLOWS").into_iter().map(older_flow).collect::<Vec<_>>();
    assert!(flows.len() > 90, "{}", flows.len());
    let sessions = entries(gateway, "SESSIONS").into_iter();
    let sessions = sessions.map(|[key, value]| [key, value[..8].to_vec()]).collect::<Vec<_>>();
    let [[key, settings]] = entries(gateway, "SETTINGS").try_into().unwrap();
    // Without `on_down` and `configuration`.
    let settings = [&3u32.to_ne_bytes()[..], &settings[4..28], &settings[36..56]].concat();
    replace(gateway, "FLOWS", "lru_hash", [40, 16, 262_144], &flows);
    replace(gateway, "SESSIONS", "lru_hash", [40, 8, 65_536], &sessions);
    replace(gateway, "SETTINGS", "array", [4, 48, 1], &[[key, settings]]);
    replace(gateway, "UPLINK_COUNTERS", "percpu_array", [4, 32, 16], &[]);
    for name in ["EPOCHS", "AVOID_MASK", "UNREPLIED", "HOSTS"] {
        fs::remove_file(pin(gateway, name)).unwrap();
    }
}

/// Turns the pins of a daemon that was killed into those of layout 5, with the default sizes of
/// that layout.
fn downgrade_to_5(gateway: &Gateway) {
    let flows = entries(gateway, "FLOWS").into_iter().chain(entries(gateway, "UNREPLIED"));
    let flows: Vec<_> = flows.map(|[key, value]| [key, value[..44].to_vec()]).collect();
    assert!(flows.len() > 90, "{}", flows.len());
    let [[key, settings]] = entries(gateway, "SETTINGS").try_into().unwrap();
    let settings = [&5u32.to_ne_bytes()[..], &settings[4..56]].concat();
    replace(gateway, "FLOWS", "lru_hash", [40, 44, 262_144], &flows);
    replace(gateway, "SETTINGS", "array", [4, 56, 1], &[[key, settings]]);
    replace(gateway, "COUNTERS", "percpu_array", [4, 256, 1], &[]);
    for name in ["UNREPLIED", "HOSTS"] {
        fs::remove_file(pin(gateway, name)).unwrap();
    }
}

/// Turns the pins of a daemon that was killed into those of layout 6, whose flows have no reason.
fn downgrade_to_6(gateway: &Gateway) {
    let flows = entries(gateway, "FLOWS").into_iter();
    let flows: Vec<_> = flows.map(|[key, value]| [key, [&value[..45], &[0; 3]].concat()]).collect();
    assert!(flows.len() > 90, "{}", flows.len());
    let [[key, settings]] = entries(gateway, "SETTINGS").try_into().unwrap();
    let settings = [&6u32.to_ne_bytes()[..], &settings[4..]].concat();
    replace(gateway, "FLOWS", "lru_hash", [40, 48, 262_144], &flows);
    replace(gateway, "SETTINGS", "array", [4, 72, 1], &[[key, settings]]);
    fs::remove_file(pin(gateway, "RULE_COUNTERS")).unwrap();
}

/// Starts another daemon, which would send new flows elsewhere.
fn start(gateway: &mut Gateway) {
    let next = config(&gateway.lab).replace("weight = 30", "weight = 0");
    let mut next = Daemon::start(&gateway.lab, &next).unwrap();
    next.wait_until_up(LIMIT).unwrap();
    // The old daemon is dropped while its successor runs, so it cannot tear anything down.
    gateway.daemon = next;
}

#[test]
fn flows_of_older_layouts_keep_their_uplinks() {
    for downgrade in [downgrade, downgrade_to_5, downgrade_to_6] {
        assert_kept(downgrade);
    }
}

fn assert_kept(downgrade: fn(&Gateway)) {
    let mut gateway = Gateway::pair();
    let flows = gateway.long_flows(25);
    let before = flows.reports();
    gateway.daemon.stop(Signal::SIGKILL).unwrap();
    downgrade(&gateway);
    // A program under a name that only an earlier version had.
    fs::rename(pin(&gateway, "linkbal_egress"), pin(&gateway, "linkbal_bare")).unwrap();
    start(&mut gateway);
    let log = gateway.daemon.log();
    assert!(log.contains("entries of FLOWS are carried over"), "{log}");
    assert!(!pin(&gateway, "linkbal_bare").exists());
    assert!(pin(&gateway, "linkbal_egress").exists());
    gateway.assert_uplinks(20, &[1]);
    assert_undisturbed(&flows, &before, 100, |_| true);
    let left = fs::read_dir(pin(&gateway, "")).unwrap().flatten();
    let left = left.filter(|pin| pin.file_name().to_string_lossy().contains("_of_"));
    assert_eq!(left.count(), 0, "tables that were put aside");
    // Layouts that were carried over are as good as any: they are taken over once more.
    gateway.daemon.stop(Signal::SIGTERM).unwrap();
    start(&mut gateway);
    assert_undisturbed(&flows, &before, 100, |_| true);
}

#[test]
fn an_interrupted_upgrade_is_resumed() {
    let mut gateway = Gateway::pair();
    let flows = gateway.long_flows(25);
    let before = flows.reports();
    gateway.daemon.stop(Signal::SIGKILL).unwrap();
    downgrade(&gateway);
    // The tables as the killed daemon left them before it pinned its own.
    for name in ["FLOWS", "SESSIONS"] {
        fs::rename(pin(&gateway, name), pin(&gateway, &format!("{name}_of_3"))).unwrap();
    }
    start(&mut gateway);
    assert_undisturbed(&flows, &before, 100, |_| true);
    assert!(!pin(&gateway, "FLOWS_of_3").exists());
}

#[test]
fn an_unknown_layout_is_replaced() {
    let mut gateway = Gateway::pair();
    gateway.daemon.stop(Signal::SIGKILL).unwrap();
    let unknown = [9u32.to_ne_bytes().to_vec(), vec![0; 60]].concat();
    replace(&gateway, "SETTINGS", "array", [4, 64, 1], &[[vec![0; 4], unknown]]);
    replace(&gateway, "FLOWS", "hash", [8, 8, 16], &[]);
    start(&mut gateway);
    let log = gateway.daemon.log();
    assert!(log.contains("the datapath in the kernel has layout 9"), "{log}");
    gateway.assert_uplinks(20, &[1]);
    assert_eq!(bytes(&kernel::map(&gateway.lab.gateway, "SETTINGS")[0]["value"]).len(), 72);
}
