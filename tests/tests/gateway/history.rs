//! The history of uplinks, over an outage and a crash.

use std::fs;

use linkbal_lab::daemon::Daemon;
use linkbal_lab::topology::plan::Family;
use linkbal_lab::traffic::{FlowSpec, HTTP, Protocol};
use linkbal_lab::wait;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::fixture::{Gateway, LIMIT, OPEN, config, linkbal, text};
use linkbal_lab::topology::{Lab, UplinkSpec};

/// Returns the records of a kind in `linkbal history --json`.
fn records(gateway: &Gateway, kind: &str, args: &[&str]) -> Vec<Value> {
    let output = gateway.daemon.run(&[&["history", "--json"], args].concat()).unwrap();
    let records = output.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    records.filter_map(|record| record.get(kind).cloned()).collect()
}

/// Waits until the records of a kind satisfy a condition, and returns them.
fn wait_for(gateway: &Gateway, kind: &str, reached: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let mut last = Vec::new();
    wait::until(&format!("{kind}s in the history"), LIMIT * 2, || {
        last = records(gateway, kind, &[]);
        Ok(reached(&last).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}: {last:#?}\n{}", gateway.daemon.log()));
    last
}

/// Returns the flows that began in the last hour, by uplink.
fn flows(totals: &[Value]) -> Vec<u64> {
    totals.iter().map(|total| total["flows"].as_u64().unwrap()).collect()
}

/// Returns the outages of an uplink's IPv4.
fn of_ipv4(outages: &[Value], uplink: &str) -> Vec<Value> {
    let of = |outage: &&Value| outage["uplink"] == uplink && outage["family"] == "ipv4";
    outages.iter().filter(of).cloned().collect()
}

fn seconds(points: &[Value]) -> u64 {
    points.iter().map(|point| point["seconds"].as_u64().unwrap()).sum()
}

#[test]
fn an_outage_and_what_was_before_it_outlive_a_crash() {
    let open = |config: &str| format!("{config}{OPEN}");
    let mut gateway = Gateway::start(Lab::new(&UplinkSpec::pair()).unwrap(), open);
    let file = gateway.lab.gateway.run_dir().join("state/history.jsonl");
    wait_for(&gateway, "point", |points| points.len() >= 2);
    // What servers saw is what is told.
    let specs: Vec<FlowSpec> =
        (0..40).map(|n| FlowSpec::new(Family::V4, Protocol::Udp, n, 7 * n, HTTP)).collect();
    let seen: Vec<u64> = gateway.open(&specs).into_iter().map(|count| count as u64).collect();
    let totals = wait_for(&gateway, "total", |totals| flows(totals) == seen);
    for (total, seen) in totals.iter().zip(&seen) {
        assert!(total["bytes_up"].as_u64().unwrap() >= 40 * seen, "{total}");
        assert!((total["share"].as_f64().unwrap() - *seen as f64 / 40.0).abs() < 0.001, "{total}");
        let line = &total["ipv4"];
        assert!(line["latency_ms"].as_f64().unwrap() > 0.0 && line["probes"] != 0, "{total}");
        assert_eq!(line["down_s"], 0, "{total}");
    }

    gateway.lab.blackhole(1).unwrap();
    gateway.wait_until_down(1);
    let diagnosed = |outages: &[Value]| {
        let known = of_ipv4(outages, "isp-b");
        !known.is_empty() && known[0]["cause"] != "no-answer"
    };
    let outages = of_ipv4(&wait_for(&gateway, "outage", diagnosed), "isp-b");
    assert_eq!((outages.len(), &outages[0]["end"]), (1, &Value::Null));
    let causes = ["gateway-silent", "internet"];
    assert!(causes.iter().any(|cause| outages[0]["cause"] == *cause), "{outages:?}");
    let lost = |totals: &[Value]| totals.iter().any(|total| total["ipv4"]["down_s"] != 0);
    wait_for(&gateway, "total", lost);
    wait::until("a minute in the file", LIMIT * 2, || {
        let lines = fs::read_to_string(&file).unwrap_or_default();
        let minute = |line: &&str| line.contains("\"step_s\":60") && line.contains("isp-b");
        Ok(lines.lines().any(|line| minute(&line) && line.contains("\"ipv4\":[")).then_some(()))
    })
    .unwrap();
    let saved = fs::read_to_string(&file).unwrap();
    let points = records(&gateway, "point", &[]);

    gateway.daemon.stop(Signal::SIGKILL).unwrap();
    // Torn by the crash.
    fs::write(&file, saved.clone() + "{\"bucket\":{\"uplink\":\"isp-a\",\"st").unwrap();
    let mut next = Daemon::start(&gateway.lab, &open(&config(&gateway.lab))).unwrap();
    next.wait_for("an answer", LIMIT, |_| true).unwrap();
    // The old daemon is dropped while its successor runs, so it cannot tear anything down.
    gateway.daemon = next;
    let two = |outages: &[Value]| of_ipv4(outages, "isp-b").len() == 2;
    let outages = of_ipv4(&wait_for(&gateway, "outage", two), "isp-b");
    assert_eq!((&outages[0]["interrupted"], &outages[1]["end"]), (&true.into(), &Value::Null));
    let log = gateway.daemon.log();
    assert!(log.contains("history.jsonl: 1 line left out that cannot be read"), "{log}");
    let kept = seconds(&records(&gateway, "point", &[]));
    assert!(kept + 2 * 60 >= seconds(&points), "{kept} of {}", seconds(&points));
    let before = &points[0]["time"];
    assert!(records(&gateway, "point", &[]).iter().any(|point| point["time"] == *before));

    gateway.lab.restore(1).unwrap();
    gateway.daemon.wait_until_up(LIMIT).unwrap();
    let over = |outages: &[Value]| outages.iter().all(|outage| outage["end"] != Value::Null);
    let outages = of_ipv4(&wait_for(&gateway, "outage", over), "isp-b");
    assert_eq!((outages.len(), &outages[1]["interrupted"]), (2, &false.into()));
    check_texts(&gateway, &outages);
}

/// Checks what people are told, in lines of 80 columns and as CSV.
fn check_texts(gateway: &Gateway, outages: &[Value]) {
    for args in [&["history"][..], &["history", "--report"], &["history", "--since", "2h"]] {
        let said = gateway.daemon.run(args).unwrap();
        assert!(said.lines().all(|line| line.chars().count() <= 80), "{said}");
        assert!(said.contains("isp-a") && said.contains("isp-b"), "{said}");
    }
    let report = gateway.daemon.run(&["history", "--report", "--uplink", "isp-b"]).unwrap();
    assert!(report.contains("2 outages, ") && !report.contains("isp-a"), "{report}");
    let table = |name: &str| {
        let said = gateway.daemon.run(&["history", "--csv", name, "--uplink", "isp-b"]).unwrap();
        let mut reader = csv::Reader::from_reader(said.as_bytes());
        let rows = reader.deserialize::<std::collections::BTreeMap<String, String>>();
        rows.filter(|row| row.as_ref().unwrap()["family"] == "ipv4").map(Result::unwrap).collect()
    };
    let rows: Vec<_> = table("outages");
    assert_eq!(rows.len(), outages.len());
    for (row, outage) in rows.iter().zip(outages) {
        assert_eq!(
            (&*row["cause"], &*row["reason"]),
            (outage["cause"].as_str().unwrap(), outage["reason"].as_str().unwrap())
        );
        assert_eq!(row["lasted_s"], outage["lasted_s"].to_string());
    }
    let months: Vec<_> = table("months");
    assert!(!months.is_empty() && months.last().unwrap()["up_s"] != "0", "{months:?}");
    let none = linkbal(&gateway.lab, &["history", "--uplink", "isp-x"]);
    assert_eq!(none.status.code(), Some(2));
    assert!(text(&none.stderr).contains("there is no uplink \"isp-x\", and no history of one"));
}
