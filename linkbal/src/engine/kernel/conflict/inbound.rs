//! Hosts that are closed to connections from outside by default.

use linkbal_common::uplink::Family;

use super::Conflict;
use crate::{
    config::{Config, Inbound},
    engine::kernel::{desired::established, network::Snapshot},
};

/// Reports the families in which hosts behind this machine are reached by forwarded ports alone, by
/// default.
pub(super) fn find(config: &Config, snapshot: &Snapshot) -> Option<Conflict> {
    let closed = established(config, snapshot);
    if config.firewall.inbound != Inbound::Auto || closed.is_empty() {
        return None;
    }
    let families: Vec<_> = closed.into_iter().map(Family::name).collect();
    Some(Conflict {
        what: format!("forwarding of {}", families.join(" and ")),
        owner: "linkbal turns it on, and no firewall filters what is forwarded".into(),
        meaning: "connections from outside reach hosts behind this machine by forwarded ports \
                  (DNAT) alone"
            .into(),
        advice: "to let them in, set up a firewall, or write inbound = \"open\" in [firewall]"
            .into(),
        compatible: true,
    })
}
