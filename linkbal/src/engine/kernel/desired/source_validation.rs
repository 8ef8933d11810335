//! Source validation of IPv4, once for each connection instead of once for each packet.
//!
//! With ip rules in place the kernel looks for the route back to the source of every packet
//! (`fib_validate_source` in net/ipv4/fib_frontend.c), through all rules: up to a third of what a
//! packet costs. It does not where source validation is off (`rp_filter` 0) and an interface may
//! take packets with this machine's own addresses (`accept_local`). The nft table then drops what
//! the kernel would have dropped, see `linkbal/src/engine/kernel/nft_text/source_validation.rs`.

use crate::{
    config::Config,
    engine::kernel::{
        network::{ACCEPT_LOCAL, Snapshot},
        nft_text::NftValidation,
    },
};

const ALL: &str = "all";

fn rp_filter(interface: &str) -> String {
    format!("net/ipv4/conf/{interface}/rp_filter")
}

fn accept_local(interface: &str) -> String {
    format!("net/ipv4/conf/{interface}{ACCEPT_LOCAL}")
}

/// Returns the sysctls that this looks at.
pub(super) fn watched(config: &Config) -> impl Iterator<Item = String> + use<'_> {
    let interfaces = interfaces(config).map(|(interface, _)| interface);
    interfaces.chain([ALL]).flat_map(|interface| [rp_filter(interface), accept_local(interface)])
}

/// Returns the interfaces of the LAN, and those of uplinks, which the flag tells.
fn interfaces(config: &Config) -> impl Iterator<Item = (&str, bool)> {
    let lan = config.lan_interfaces.iter().map(|name| (name.as_str(), false));
    lan.chain(config.uplinks.iter().map(|uplink| (uplink.interface.as_str(), true)))
}

/// Returns the interfaces whose sources nft validates: where nobody wants all interfaces to be
/// strict, and where it was not strict at a LAN. An uplink has to be loose in any case.
pub(super) fn by_nft(config: &Config, snapshot: &Snapshot) -> NftValidation {
    let mut validation = NftValidation::default();
    let before = |path: String| {
        let value = snapshot.sysctls_before.get(&path);
        value.or_else(|| snapshot.sysctls.get(&path)).map(String::as_str)
    };
    if before(rp_filter(ALL)) != Some("0") || before(accept_local(ALL)) != Some("0") {
        return validation;
    }
    for (interface, is_uplink) in interfaces(config) {
        let loose = match (before(rp_filter(interface)), before(accept_local(interface))) {
            // It may be linkbal itself that set both, whose record was lost.
            (Some("0"), Some(_)) => false,
            (Some("1"), Some("0")) if !is_uplink => continue,
            (Some(_), Some("0")) => true,
            _ => continue,
        };
        let name = interface.to_owned();
        if loose {
            validation.loose.insert(name.clone());
        }
        if is_uplink {
            validation.uplinks.insert(name)
        } else {
            validation.lan.insert(name)
        };
    }
    validation
}

/// Returns the sysctls that leave the validation of these interfaces to nft.
pub(super) fn wanted(config: &Config, snapshot: &Snapshot) -> Vec<(String, String)> {
    let NftValidation { lan, uplinks, .. } = by_nft(config, snapshot);
    let values = lan.union(&uplinks).flat_map(|interface| {
        [(rp_filter(interface), "0".to_owned()), (accept_local(interface), "1".to_owned())]
    });
    values.filter(|(path, value)| snapshot.sysctls.get(path) != Some(value)).collect()
}
