//! Explanations: the uplink of a flow, and the reason for it.

use std::{collections::BTreeMap, net::IpAddr};

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use utoipa::{IntoParams, ToSchema};

use super::{Request, VERSION_PATH, call, error::ApiError, extract::Asked};
use crate::config::outline::RuleWords;

/// A flow that is asked about.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct FlowQuestion {
    /// Source address; the unspecified one for a program of the gateway that has not bound its socket.
    #[schema(value_type = String)]
    #[param(value_type = String)]
    pub source: IpAddr,
    /// Source port, or the identifier of an ICMP echo; null if it is not known.
    #[serde(default)]
    #[param(maximum = 65535)]
    pub source_port: Option<u16>,
    /// Destination address.
    #[schema(value_type = String)]
    #[param(value_type = String)]
    pub destination: IpAddr,
    /// Destination port; null for protocols without ports.
    #[serde(default)]
    #[param(maximum = 65535)]
    pub destination_port: Option<u16>,
    /// IP protocol number.
    #[param(maximum = 255)]
    pub protocol: u8,
    /// The interface that its packets come in by; null to find it by the source address.
    #[serde(default)]
    pub interface: Option<String>,
    /// The source MAC address: six bytes in hexadecimal with colons or hyphens between them, or three
    /// groups of four digits with dots; null for none.
    #[serde(default)]
    pub mac: Option<String>,
    /// The VLAN of a tag that its packets carry at the interface, 1 to 4094; null for none.
    #[serde(default)]
    pub vlan: Option<u16>,
    /// DSCP of its packets (RFC 2474), 0 to 63; null for 0.
    #[serde(default)]
    pub dscp: Option<u8>,
    /// Set for a program of the gateway itself.
    #[serde(default)]
    pub from_gateway: bool,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, ToSchema)]
pub struct Explanation {
    /// The flow, with its interface.
    pub question: FlowQuestion,
    /// Decision about its next packet.
    pub now: Decision,
    /// Decision about a new connection, if the flow is known.
    pub new: Option<Decision>,
    /// Decision about the flow if its uplink goes down.
    pub if_down: Option<Decision>,
    /// Live flows with these ends, at most eight; one if the source port is given.
    pub flows: Vec<LiveFlow>,
    /// Number of live flows with these ends.
    pub flow_count: usize,
    /// Entry of connection tracking; null without one.
    pub connection: Option<Connection>,
    /// Set if a shortcut is stored for its packets from the LAN; null without a flow, or if shortcuts are
    /// off.
    pub shortcut: Option<bool>,
    /// Domains of rules that the datapath knows the destination by.
    pub domains: Vec<String>,
    /// Diversions and obstacles of others, each in a sentence.
    pub outside: Vec<String>,
}

/// The outcome for a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DecisionOutcome {
    /// The packet leaves by an uplink.
    Uplink,
    /// The packet leaves by one of several uplinks, as its source port falls.
    ByPort,
    /// The packet is dropped by its rule.
    Dropped,
    /// The packet is refused: by its rule, or since its provider is down.
    Rejected,
    /// The connection is reset: its uplink went down.
    Reset,
    /// The packet is routed by the main table, without linkbal.
    Main,
    /// The packet leaves without a mark, by the best uplink that has a gateway: none is usable.
    Unmarked,
    /// The packet is left alone: linkbal balances no such packets.
    Skipped,
}

/// A decision with its reason.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, ToSchema)]
pub struct Decision {
    /// The outcome.
    pub outcome: DecisionOutcome,
    /// The uplink.
    pub uplink: Option<String>,
    /// The reason: `source`, `bucket`, `session-new`, `session`, `related`, `connection`, `inbound`,
    /// `unknown`, or null without a choice.
    pub reason: Option<String>,
    /// The rule; null for none.
    pub rule: Option<RuleWords>,
    /// The bucket that a choice was made by.
    pub bucket: Option<u32>,
    /// Seconds since the last packet of the session that it joins.
    pub session_idle_s: Option<u32>,
    /// Shares of the uplinks, from 0 to 1, where the source port decides; empty otherwise.
    pub shares: BTreeMap<String, f64>,
    /// All of it in one sentence.
    pub text: String,
}

/// A live flow.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct LiveFlow {
    /// Source port, or the identifier of an ICMP echo.
    pub source_port: u16,
    /// The uplink.
    pub uplink: String,
    /// The reason for its uplink, as in [`Decision::reason`].
    pub reason: String,
    /// Name of the rule that it matched when it began; null for none.
    pub rule: Option<String>,
    /// The uplink that it moved from.
    pub moved_from: Option<String>,
    /// Seconds since its first packet.
    pub age_s: u32,
    /// Seconds since its last packet from the LAN.
    pub idle_s: u32,
    /// Set if it was answered.
    pub answered: bool,
    /// The reason in words.
    pub text: String,
}

/// An entry of connection tracking.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Connection {
    /// The source that the other end sees.
    #[schema(value_type = String)]
    pub translated_source: IpAddr,
    /// The source port that the other end sees, if there are ports.
    pub translated_port: Option<u16>,
    /// The address that answers: another than the destination behind a port forward.
    #[schema(value_type = String)]
    pub answered_by: IpAddr,
    /// The uplink in its mark.
    pub uplink: Option<String>,
    /// Set if its packets take the kernel's flowtable.
    pub offloaded: bool,
}

/// Tells what becomes of a flow, and why.
#[utoipa::path(
    get, path = "/v1/explain", tag = "flows",
    params(FlowQuestion),
    responses(
        (status = 200, description = "The decisions about the flow", body = Explanation),
        (status = 409, description = "The interfaces are not known yet"),
    ),
)]
pub(super) async fn explain(
    Asked(question): Asked<FlowQuestion>,
    State(daemon): State<mpsc::Sender<Request>>,
) -> Result<Json<Explanation>, ApiError> {
    let explained = call(&daemon, |answer| Request::Explain { question, answer }).await?;
    Ok(Json(explained?))
}

impl FlowQuestion {
    /// Returns the path of the request.
    pub fn path(&self) -> String {
        use std::fmt::Write as _;
        let mut path = format!(
            "{VERSION_PATH}/explain?source={}&destination={}&protocol={}&from_gateway={}",
            escaped(&self.source.to_string()),
            escaped(&self.destination.to_string()),
            self.protocol,
            self.from_gateway
        );
        let numbers = [
            ("source_port", self.source_port),
            ("destination_port", self.destination_port),
            ("vlan", self.vlan),
            ("dscp", self.dscp.map(u16::from)),
        ];
        for (name, number) in numbers {
            if let Some(number) = number {
                // A string takes all.
                let _ = write!(path, "&{name}={number}");
            }
        }
        for (name, text) in [("interface", &self.interface), ("mac", &self.mac)] {
            if let Some(text) = text {
                let _ = write!(path, "&{name}={}", escaped(text));
            }
        }
        path
    }
}

fn escaped(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}
