//! What is closed to connections from outside although nobody asked for it.

use super::Conflict;
use crate::{
    config::{Config, Inbound},
    engine::{desired::established, network::Snapshot},
};

/// Says where hosts behind this machine are reached by forwarded ports alone, by default.
pub(super) fn find(config: &Config, snapshot: &Snapshot) -> Vec<Conflict> {
    if config.firewall.inbound != Inbound::Auto {
        return Vec::new();
    }
    let closed = established(config, snapshot).into_iter().map(|family| Conflict {
        what: format!("forwarding of {}", family.name()),
        who: "linkbal turned it on, and no firewall filters what is forwarded".into(),
        meaning: "connections from outside reach hosts behind this machine by forwarded ports \
                  (DNAT) alone"
            .into(),
        advice: "to let them in, set up a firewall, or write inbound = \"open\" in [firewall]"
            .into(),
        compatible: true,
    });
    closed.collect()
}
