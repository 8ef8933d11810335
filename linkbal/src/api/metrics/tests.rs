use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use linkbal_common::uplink::UpMask;

use super::*;
use crate::{config::Config, engine::indexed::Indexed};

/// A status as the daemon prints it, with what concerns metrics.
const STATUS: &str = r#"{"version":1,"pid":1,"started":"2026-01-01T00:00:00Z","installed":true,"lan":[],
    "domains":null,"counters":{"flow_known":7},"memory":{"bytes":0,"maps":{"FLOWS":4096}},
    "events_not_hooked":null,"drill":null,"confirm_within_s":null,
    "uplinks":[{"name":"fibre \"A\"\\1","interface":"wan","index":0,"weight":2,"tier":0,"fwmark":1,
    "table":201,"state":"up","admin":"enabled","target_share":0.5,"lifetime_share":0.5,"flows":3,
    "flows_moved_in":1,"packets":9,"bytes":900,
    "load":{"down":8000,"up":800,"capacity":null,"full":false},
    "ipv4":{"state":"up","since":"2026-01-01T00:00:00Z","reason":"","gateway":null,"loss":0.25,
    "latency_ms":5.0,"degraded":false,"drilled":true,"jitter_ms":2.0},"ipv6_mode":"off","ipv6":null}]}"#;

fn text() -> String {
    let status: Status = serde_json::from_str(STATUS).expect("a status");
    let probes = ProbeTotals { answered: 4, lost: 2, ..ProbeTotals::default() };
    let octets = Octets { down: 5000, up: 900 };
    let totals = UplinkTotals { octets, probes: vec![("ipv4", probes)] };
    render(Metrics { status, uplinks: vec![totals] }).expect("a text")
}

#[test]
fn values_are_in_base_units_with_labels() {
    let text = text();
    let label = r#"uplink="fibre \"A\"\\1""#;
    for line in [
        format!("linkbal_uplink_up{{{label},family=\"ipv4\"}} 1.0"),
        format!("linkbal_uplink_standby{{{label},family=\"ipv4\"}} 0.0"),
        format!("linkbal_uplink_drilled{{{label},family=\"ipv4\"}} 1.0"),
        format!("linkbal_uplink_bytes_total{{{label},direction=\"down\"}} 5000"),
        format!("linkbal_uplink_load_bytes_per_second{{{label},direction=\"up\"}} 100.0"),
        format!("linkbal_uplink_probe_jitter_seconds{{{label},family=\"ipv4\"}} 0.002"),
        format!("linkbal_uplink_probes_total{{{label},family=\"ipv4\",result=\"lost\"}} 2"),
        format!("linkbal_uplink_probe_rtt_seconds_bucket{{{label},family=\"ipv4\",le=\"+Inf\"}} 0"),
        "linkbal_datapath_outcomes_total{outcome=\"flow_known\"} 7".into(),
        "linkbal_installed 1.0".into(),
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}

#[test]
fn a_family_that_was_never_there_has_no_metrics() {
    let config = |more: &str| {
        let text =
            format!("[lan]\ninterfaces = [\"lan\"]\n[uplink.a]\ninterface = \"wan\"\n{more}");
        Config::parse(&text, "test").expect("a configuration").uplinks.remove(0)
    };
    let families = |more: &str| -> Vec<&str> {
        let indexed = Indexed { index: 0, config: config(more).into() };
        let (up, now) = (UpMask::default(), Duration::ZERO);
        let uplink = UplinkState::new(indexed, up, &BTreeMap::new(), now);
        assert!(uplink.family(Family::Ipv6).is_some(), "the status has it");
        let totals = UplinkTotals::new(&uplink, Octets::default());
        totals.probes.iter().map(|(family, _)| *family).collect()
    };
    assert_eq!(families(""), ["ipv4"]);
    assert_eq!(families("gateway = { ipv6 = \"2001:db8::1\" }\n"), ["ipv6"]);

    let mut status: Status = serde_json::from_str(STATUS).expect("a status");
    status.uplinks[0].ipv6 = status.uplinks[0].ipv4.clone();
    let probes = vec![("ipv4", ProbeTotals::default())];
    let totals = UplinkTotals { probes, ..UplinkTotals::default() };
    let text = render(Metrics { status, uplinks: vec![totals] }).expect("a text");
    assert!(text.contains("ipv4") && !text.contains("ipv6"), "{text}");
}

#[test]
fn no_metric_is_described_twice() {
    let text = text();
    let described: Vec<_> = text.lines().filter(|line| line.starts_with("# TYPE")).collect();
    assert_eq!(described.len(), described.iter().collect::<BTreeSet<_>>().len());
    assert!(described.len() > 20, "{text}");
}
