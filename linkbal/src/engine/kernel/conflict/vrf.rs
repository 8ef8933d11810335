//! Uplinks and LANs that somebody has put into a VRF.

use super::Conflict;
use crate::{
    config::Config,
    engine::kernel::{
        lan,
        network::{Link, Snapshot},
    },
};

/// Reports interfaces of the configuration that are in a VRF.
pub(super) fn find(config: &Config, snapshot: &Snapshot) -> Vec<Conflict> {
    let uplinks = config.uplinks.iter().filter_map(|uplink| snapshot.link(&uplink.interface));
    let all = uplinks.chain(lan::present(config, snapshot));
    all.filter_map(|link| conflict(snapshot, link)).collect()
}

fn conflict(snapshot: &Snapshot, link: &Link) -> Option<Conflict> {
    let (name, vrf) = (&link.name, snapshot.vrf(link)?);
    Some(Conflict {
        what: format!("interface {name} in VRF {vrf}"),
        owner: format!("`ip link set {name} master {vrf}`, by whatever sets up the network"),
        meaning: "the table of the VRF routes its packets, not linkbal".into(),
        advice: format!(
            "take it out (`ip link set {name} nomaster`), or leave it out of the configuration"
        ),
        compatible: false,
    })
}
