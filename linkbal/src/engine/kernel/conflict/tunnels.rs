//! Tunnels whose other end is unknown: their outer packets cannot be routed.

use super::Conflict;
use crate::{
    config::Config,
    engine::kernel::network::{Snapshot, Tunnel},
};

/// Reports uplinks with `over` where neither the kernel nor the configuration tells the other end.
pub(super) fn find(config: &Config, snapshot: &Snapshot) -> Vec<Conflict> {
    let led = config.uplinks.iter().filter(|uplink| !uplink.over.is_empty());
    let led = led.filter(|uplink| uplink.endpoints.is_empty());
    led.filter_map(|uplink| {
        let link = snapshot.link(&uplink.interface)?;
        let seen = snapshot.tunnels.get(&link.ifindex);
        let named = |tunnel: &Tunnel| !tunnel.endpoints.is_empty();
        (!seen.is_some_and(named)).then(|| Conflict {
            what: format!("tunnel {}", uplink.interface),
            owner: match seen {
                // A tunnel that only answers learns the other end from the first packet.
                Some(_) => "the kernel does not know its other end yet".into(),
                None => "the kernel does not tell its other end".into(),
            },
            meaning: format!(
                "`over` of [uplink.{}] has no effect: its outer packets leave by the main table",
                uplink.name
            ),
            advice: format!("write `endpoint = \"ADDRESS\"` in [uplink.{}]", uplink.name),
            compatible: seen.is_some(),
        })
    })
    .collect()
}
