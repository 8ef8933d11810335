//! Questions about flows, as the command line and the API ask them.

use std::fmt::Write as _;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::IntoParams;

use super::sort::FlowOrder;

/// A question about flows: a flow must satisfy every condition that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct FlowQuery {
    /// Name of the uplink.
    pub uplink: Option<String>,
    /// Address or prefix of the host in the LAN.
    pub client: Option<String>,
    /// Address or prefix of the other end.
    pub destination: Option<String>,
    /// Port of the end that was connected to.
    #[param(maximum = 65535)]
    pub port: Option<u16>,
    /// Name or number of the protocol.
    pub protocol: Option<String>,
    /// Number of the rule, from 1 on in the order of the configuration.
    #[param(maximum = 255)]
    pub rule: Option<u8>,
    /// Domain of a rule that the destination belongs to.
    pub domain: Option<String>,
    /// Order of the flows; any order without one.
    pub sort: Option<FlowOrder>,
    /// Set if that order is reversed.
    #[param(required = false)]
    pub reverse: bool,
    /// Maximum number of flows or clients.
    pub limit: Option<usize>,
    /// Set if changes are wanted, without an end.
    #[param(required = false)]
    pub follow: bool,
    /// Set if progress and a summary are wanted, too.
    #[param(required = false)]
    pub progress: bool,
}

impl FlowQuery {
    /// Returns the path of the request, `/v1/flows` or `/v1/clients`.
    pub fn path(&self, root: &str) -> String {
        let mut path = root.to_owned();
        let mut before = '?';
        let pairs = serde_json::to_value(self).unwrap_or_default();
        let is_set = |value: &Value| !matches!(value, Value::Null | Value::Bool(false));
        let pairs = pairs.as_object().into_iter().flatten().filter(|(_, value)| is_set(value));
        for (name, value) in pairs {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let text = utf8_percent_encode(&text, NON_ALPHANUMERIC);
            // Writing to a text cannot fail.
            let _ = write!(path, "{before}{name}={text}");
            before = '&';
        }
        path
    }
}

#[cfg(test)]
mod tests {
    use axum::{extract::Query, http::Uri};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_not_asked_is_not_in_the_path() {
        assert_eq!(FlowQuery::default().path("/v1/flows"), "/v1/flows");
    }

    proptest! {
        #[test]
        fn a_path_says_what_was_asked(
            uplink: Option<String>, destination: Option<String>, port: Option<u16>, limit: Option<usize>,
            reverse: bool,
        ) {
            let sort = Some(FlowOrder::Bytes);
            let query = FlowQuery {
                uplink, destination, port, limit, reverse, sort, ..FlowQuery::default()
            };
            let uri: Uri = query.path("/v1/flows").parse().expect("a path");
            let Query(read): Query<FlowQuery> = Query::try_from_uri(&uri).expect("a query");
            prop_assert_eq!(read, query);
        }
    }
}
