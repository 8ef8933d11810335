//! Samples of what the daemon says, for tests.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    busy::{FlowAnswer, owned},
    model::Model,
    news::{Input, News},
};
use crate::{
    api::status::{Status, Uplink},
    cli::local_time::Zone,
    events::Event,
    flows::{clients::ClientRecord, record::FlowRecord},
};

/// Returns a family in a state.
pub(super) fn family(state: &str) -> Value {
    let up = state == "up";
    json!({
        "state": state, "since": "2026-11-22T02:08:43Z",
        "reason": if up { "targets answer" } else { "the gateway answers, but nothing behind it" },
        "remedy": (!up).then_some("restart the modem, or call the provider"),
        "gateway": "192.0.2.1", "target_share": 0.3, "loss": if up { 0.012 } else { 1.0 },
        "latency_ms": up.then_some(12.34), "degraded": false, "jitter_ms": up.then_some(0.42),
    })
}

/// Returns an uplink in a state, of IPv4 alone.
pub(super) fn uplink(name: &str, state: &str) -> Uplink {
    let uplink = json!({
        "name": name, "interface": "eth0", "index": 0, "weight": 1, "tier": 1, "fwmark": 1, "table": 2601,
        "state": state, "admin": "enabled", "target_share": 0.3, "lifetime_share": 0.312, "flows": 4000,
        "flows_moved_in": 0, "packets": 1, "bytes": 2, "live_flows": 623, "actual_share": 0.312,
        "load": {"down": 7_700_000, "up": 312_500,
            "capacity": {"down": 10_000_000, "up": 2_000_000, "used": 0.77}, "full": false},
        "ipv4": family(state), "ipv6": null, "ipv6_mode": "off",
    });
    serde_json::from_value(uplink).expect("an uplink")
}

/// Returns a status with uplinks.
pub(super) fn status(uplinks: &[Uplink]) -> Status {
    let status = json!({
        "version": 1, "pid": 712, "started": "2026-11-22T02:08:40Z", "installed": true, "lan": [],
        "uplinks": uplinks, "domains": null, "counters": {}, "memory": {"bytes": 5, "maps": {}},
        "events_not_hooked": null, "drill": null, "confirm_within_s": null,
    });
    serde_json::from_value(status).expect("a status")
}

/// Returns a flow of an uplink from a port.
pub(super) fn flow(uplink: &str, port: u16) -> FlowRecord<'static> {
    let flow = json!({
        "protocol": "tcp", "client": "10.77.0.12", "client_port": port, "destination": "198.51.100.1",
        "destination_port": 443, "uplink": uplink, "from": "lan", "state": "established", "age_s": 180,
        "idle_s": 2, "reason": "session", "rule": 2, "moved_from": null, "bytes_up": 9318,
        "bytes_down": 1_258_291,
    });
    let text = flow.to_string();
    owned(serde_json::from_str(&text).expect("a flow"))
}

/// Returns an event by its number.
pub(super) fn event(sequence: u64) -> Event {
    let event = json!({
        "sequence": sequence, "run": "3f2a91c0", "time": "2026-11-22T05:56:21.874Z", "kind": "uplink",
        "severity": "warning", "uplink": "isp-a", "family": "ipv4", "interface": null, "domain": null,
        "from": "up", "to": "down", "reason": "3 rounds of probes failed", "lasted_ms": 814,
        "evidence": null,
    });
    serde_json::from_value(event).expect("an event")
}

/// Returns a client.
pub(super) fn client(last: u8) -> ClientRecord<'static> {
    ClientRecord {
        client: [10, 77, 0, last].into(),
        name: Some("laptop".into()),
        flows: 41,
        uplinks: vec!["isp-a".into(), "isp-b".into()],
        bytes_up: Some(9_000_000),
        bytes_down: Some(400_000_000),
    }
}

/// Returns the state after some news at the first second.
pub(super) fn after(news: Vec<News>) -> Model {
    let mut model = Model::new(Zone::utc());
    for news in news {
        assert_eq!(model.update(Input::News(news), Duration::from_secs(1)), None);
    }
    model
}

/// Returns the state of a gateway whose second uplink is down.
pub(super) fn gateway() -> Model {
    let flows = (40_000..40_030).map(|port| flow("isp-a", port)).collect();
    after(vec![
        News::Status(Box::new(status(&[uplink("isp-a", "up"), uplink("isp-b", "down")]))),
        News::Flows(FlowAnswer { flows, summary: None }),
        News::Clients((1..30).map(client).collect()),
        News::Event(Box::new(event(7))),
    ])
}
