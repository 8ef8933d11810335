//! Metrics for Prometheus, in its text format: `GET /metrics`.
//!
//! Names, units and types follow <https://prometheus.io/docs/practices/naming/>. Labels are names of
//! uplinks, receivers, families, directions and outcomes: there are no more time series than the configuration
//! allows, whatever the LAN does.

mod samples;
#[cfg(test)]
mod tests;

use std::fmt;

use axum::{extract::State, http::header::CONTENT_TYPE, response::IntoResponse};
use linkbal_common::uplink::Family;
use prometheus_client::{
    collector::Collector, encoding::DescriptorEncoder, encoding::prometheus_text,
    registry::Registry,
};
use tokio::sync::mpsc;

use self::samples::Samples;
use super::{
    Request, call,
    error::{ApiError, ErrorCode},
    notify::ReceiverStatus,
    status::Status,
};
use crate::engine::{
    admin::AdminState, balance::load::Octets, health::latencies::Latencies, uplinks::UplinkState,
};

/// The media type of the text format.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The values that metrics show.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// The status.
    pub status: Status,
    /// Values that the status does not have, for each of its uplinks and in their order.
    pub uplinks: Vec<UplinkTotals>,
}

/// Totals of an uplink.
#[derive(Clone, Debug, Default)]
pub struct UplinkTotals {
    /// Bytes of the LAN's packets, since the datapath was created.
    pub octets: Octets,
    /// Probes by family that is there, since the daemon started or the probes were configured anew.
    pub probes: Vec<(&'static str, ProbeTotals)>,
}

/// Totals of the probes of an uplink in one family.
#[derive(Clone, Debug, Default)]
pub struct ProbeTotals {
    /// Number of probes that were answered in time.
    pub answered: u64,
    /// Number of probes that were lost.
    pub lost: u64,
    /// Latencies of the answers, late ones included.
    pub latencies: Latencies,
}

impl UplinkTotals {
    /// Returns the totals of an uplink whose packets have so many bytes.
    pub fn new(uplink: &UplinkState, octets: Octets) -> UplinkTotals {
        // An alert for a family that does not exist would never end.
        let families = Family::ALL.into_iter().filter(|family| uplink.is_there(*family));
        let probes = families.filter_map(|family| {
            let window = uplink.family(family)?.window();
            let lost = window.lost_in_all();
            let totals = ProbeTotals {
                answered: window.settled().saturating_sub(lost),
                lost,
                latencies: window.latencies().clone(),
            };
            Some((family.name(), totals))
        });
        UplinkTotals { octets, probes: probes.collect() }
    }
}

impl Collector for Metrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut samples = Samples::new(encoder);
        let version = env!("CARGO_PKG_VERSION");
        let build = [(vec![("version", version)], 1.0)];
        samples.gauges("build_info", "Version of linkbal: always 1", build)?;
        self.encode_uplinks(&mut samples)?;
        self.encode_families(&mut samples)?;
        self.encode_probes(&mut samples)?;
        self.encode_datapath(&mut samples)?;
        self.encode_notifications(&mut samples)?;
        self.encode_problems(&mut samples)
    }
}

impl Metrics {
    fn encode_uplinks(&self, samples: &mut Samples<'_>) -> fmt::Result {
        let each = |value: &dyn Fn(&super::status::Uplink) -> f64| -> Vec<_> {
            let uplinks = self.status.uplinks.iter();
            uplinks.map(|uplink| (vec![("uplink", &*uplink.name)], value(uplink))).collect()
        };
        samples.gauges(
            "uplink_weight",
            "Configured weight of the uplink",
            each(&|uplink| f64::from(uplink.weight)),
        )?;
        samples.gauges(
            "uplink_tier",
            "Tier of the uplink: the lowest one that works is used",
            each(&|uplink| f64::from(uplink.tier)),
        )?;
        samples.gauges(
            "uplink_enabled",
            "1 if the administrator neither disabled nor drained the uplink",
            each(&|uplink| f64::from(u8::from(uplink.admin == AdminState::Enabled))),
        )?;
        samples.gauges(
            "uplink_full",
            "1 if new flows avoid the uplink for its load",
            each(&|uplink| f64::from(u8::from(uplink.load.full))),
        )?;
        samples.gauges(
            "uplink_target_share_ratio",
            "Share of the new flows without a rule that the uplink should get, from 0 to 1",
            each(&|uplink| uplink.target_share),
        )?;
        let flows = self.status.uplinks.iter();
        let flows = flows.map(|uplink| (vec![("uplink", &*uplink.name)], uplink.flows));
        samples.counters("uplink_flows", "Flows that began on the uplink", flows)?;
        let moved = self.status.uplinks.iter();
        let moved = moved.map(|uplink| (vec![("uplink", &*uplink.name)], uplink.flows_moved_in));
        let help = "Flows that moved to the uplink from one that was down";
        samples.counters("uplink_flows_moved_in", help, moved)?;
        let packets = self.status.uplinks.iter();
        let packets = packets.map(|uplink| (vec![("uplink", &*uplink.name)], uplink.packets));
        let help = "Packets from the LAN that were sent to the uplink";
        samples.counters("uplink_packets", help, packets)?;
        self.encode_traffic(samples)
    }

    fn encode_traffic(&self, samples: &mut Samples<'_>) -> fmt::Result {
        let uplinks = || self.status.uplinks.iter().zip(&self.uplinks);
        let bytes = uplinks().flat_map(|(uplink, totals)| {
            let Octets { down, up } = totals.octets;
            both_ways(&uplink.name, down, up)
        });
        let help = "Bytes between the LAN and the uplink, with link-layer headers";
        samples.counters("uplink_bytes", help, bytes)?;
        let load = uplinks().flat_map(|(uplink, _)| {
            let load = &uplink.load;
            both_ways(&uplink.name, load.down as f64 / 8.0, load.up as f64 / 8.0)
        });
        let help = "Load of the uplink's interface over the last seconds";
        samples.gauges("uplink_load_bytes_per_second", help, load)?;
        let capacity = uplinks().filter_map(|(uplink, _)| {
            let capacity = uplink.load.capacity.as_ref()?;
            Some(both_ways(&uplink.name, capacity.down as f64 / 8.0, capacity.up as f64 / 8.0))
        });
        let help = "Configured capacity of the uplink";
        samples.gauges("uplink_capacity_bytes_per_second", help, capacity.flatten())?;
        let shortcuts = uplinks().filter_map(|(uplink, _)| {
            let taken = uplink.shortcuts.as_ref()?.taken;
            Some(both_ways(&uplink.name, taken.down, taken.up))
        });
        let help = "Packets of the uplink that took shortcuts";
        samples.counters("uplink_shortcut_packets", help, shortcuts.flatten())
    }

    fn encode_families(&self, samples: &mut Samples<'_>) -> fmt::Result {
        let all = || {
            let uplinks = self.status.uplinks.iter().zip(&self.uplinks);
            uplinks.flat_map(|(uplink, totals)| {
                let families = uplink.families().map(|(family, of)| (family.name(), of));
                let is_there = |name| totals.probes.iter().any(|(family, _)| *family == name);
                let known = families.filter(move |(name, _)| is_there(*name));
                known.map(|(family, of)| (labels(&uplink.name, family), of))
            })
        };
        let up = all().map(|(labels, of)| (labels, f64::from(u8::from(of.state.is_up()))));
        samples.gauges("uplink_up", "1 if the uplink is up", up)?;
        let standby = all().map(|(labels, of)| (labels, f64::from(u8::from(of.standby))));
        let help = "1 if the uplink waits for nothing but its virtual addresses, which another gateway has";
        samples.gauges("uplink_standby", help, standby)?;
        let drilled = all().map(|(labels, of)| (labels, f64::from(u8::from(of.drilled))));
        let help = "1 from the begin of a drill of the uplink until it is up again";
        samples.gauges("uplink_drilled", help, drilled)?;
        let degraded = all().map(|(labels, of)| (labels, f64::from(u8::from(of.degraded))));
        let help = "1 if the quality of the uplink is worse than its limits allow";
        samples.gauges("uplink_degraded", help, degraded)?;
        let loss = all().map(|(labels, of)| (labels, of.loss));
        let help = "Share of the last hundred probes that were lost, from 0 to 1";
        samples.gauges("uplink_probe_loss_ratio", help, loss)?;
        let jitter = all().filter_map(|(labels, of)| Some((labels, of.jitter_ms? / 1000.0)));
        let help = "Smoothed mean deviation of the latency of probes";
        samples.gauges("uplink_probe_jitter_seconds", help, jitter)
    }

    fn encode_probes(&self, samples: &mut Samples<'_>) -> fmt::Result {
        let all = || {
            let uplinks = self.status.uplinks.iter().zip(&self.uplinks);
            uplinks.flat_map(|(uplink, totals)| {
                let probes = totals.probes.iter();
                probes.map(|(family, totals)| (labels(&uplink.name, family), totals))
            })
        };
        let by_result = all().flat_map(|(labels, totals)| {
            [("answered", totals.answered), ("lost", totals.lost)].map(|(result, number)| {
                (labels.iter().copied().chain([("result", result)]).collect(), number)
            })
        });
        samples.counters("uplink_probes", "Probes of the uplink by result", by_result)?;
        let latencies = all().map(|(labels, totals)| (labels, &totals.latencies));
        samples.histograms("uplink_probe_rtt_seconds", "Latency of answers to probes", latencies)
    }

    fn encode_datapath(&self, samples: &mut Samples<'_>) -> fmt::Result {
        let counters = self.status.counters.iter();
        let counters = counters.map(|(name, value)| (vec![("outcome", &**name)], *value));
        let help = "Packets from the LAN and events of the datapath by outcome";
        samples.counters("datapath_outcomes", help, counters)?;
        let maps = self.status.memory.maps.iter();
        let maps = maps.map(|(name, bytes)| (vec![("map", &**name)], *bytes as f64));
        samples.gauges("map_memory_bytes", "Kernel memory of the BPF maps", maps)
    }

    fn encode_notifications(&self, samples: &mut Samples<'_>) -> fmt::Result {
        let by_result = self.status.receivers.iter().flat_map(|receiver| {
            let ReceiverStatus { name, sent, failed, dropped, .. } = receiver;
            [("sent", *sent), ("failed", *failed), ("dropped", *dropped)]
                .map(|(result, number)| (vec![("receiver", &**name), ("result", result)], number))
        });
        let help = "Messages by result: failed are attempts, dropped are news that were given up";
        samples.counters("notifications", help, by_result)
    }

    fn encode_problems(&self, samples: &mut Samples<'_>) -> fmt::Result {
        let status = &self.status;
        let conflicts = status.conflicts.iter().filter(|conflict| !conflict.compatible).count();
        let one = |value: f64| [(Vec::new(), value)];
        let installed = f64::from(u8::from(status.installed));
        let help = "1 once programs, routes, rules and the nft table are in place";
        samples.gauges("installed", help, one(installed))?;
        let help = "Settings of others that conflict with linkbal";
        samples.gauges("conflicts", help, one(conflicts as f64))?;
        let help = "Settings that the kernel refuses";
        samples.gauges("refused_settings", help, one(status.refused.len() as f64))?;
        let help = "Settings that others undo again and again";
        samples.gauges("throttled_settings", help, one(status.throttled.len() as f64))?;
        let on_trial = f64::from(u8::from(status.confirm_within_s.is_some()));
        samples.gauges("config_on_trial", "1 if the configuration is on trial", one(on_trial))
    }
}

/// Returns the labels of an uplink's family.
fn labels<'a>(uplink: &'a str, family: &'a str) -> Vec<(&'static str, &'a str)> {
    vec![("uplink", uplink), ("family", family)]
}

/// Returns the values of both directions, with their labels.
fn both_ways<T>(uplink: &str, down: T, up: T) -> [(Vec<(&'static str, &str)>, T); 2] {
    [("down", down), ("up", up)]
        .map(|(direction, value)| (vec![("uplink", uplink), ("direction", direction)], value))
}

/// Returns the metrics in the text format.
///
/// # Errors
///
/// If the values cannot be written.
pub fn render(metrics: Metrics) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("linkbal");
    registry.register_collector(Box::new(metrics));
    let mut text = String::new();
    prometheus_text::encode(&mut text, &registry)?;
    Ok(text)
}

/// Returns the metrics in the text format of Prometheus.
#[utoipa::path(
    get, path = "/metrics", tag = "status",
    responses((status = 200, description = "The metrics", body = String, content_type = "text/plain")),
)]
pub(super) async fn metrics(
    State(daemon): State<mpsc::Sender<Request>>,
) -> Result<impl IntoResponse, ApiError> {
    let metrics = call(&daemon, Request::Metrics).await?;
    let text = render(metrics)
        .map_err(|_| ApiError::new(ErrorCode::Failed, "failed to write the metrics"))?;
    Ok(([(CONTENT_TYPE, TEXT)], text))
}
