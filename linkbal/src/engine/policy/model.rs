//! A policy in the maps of the host's packet path, for tests.

use ipnet::IpNet;
use linkbal_common::{
    dns::domain::name_hash, model::ModelTables, rule::RuleSet, settings::Settings, uplink::Family,
};

use super::Policy;

/// Returns tables with the policy in force; `ifindex` returns the index of a LAN interface.
pub fn tables(policy: &Policy, settings: Settings, ifindex: impl Fn(&str) -> u32) -> ModelTables {
    let prefixes = |table: &std::collections::BTreeMap<IpNet, RuleSet>| {
        table.iter().map(|(prefix, set)| entry(prefix, *set)).collect()
    };
    let source_uplinks = policy.source_uplinks.iter();
    ModelTables {
        settings: Settings {
            rules: policy.rules,
            domains: policy.domain.len() as u32,
            source_prefixes: policy.source_uplinks.len() as u32,
            dimensions: policy.dimensions,
            ..settings
        },
        source_uplinks: source_uplinks.map(|(prefix, uplink)| entry(prefix, *uplink)).collect(),
        domain_rules: policy
            .domain
            .iter()
            .map(|(name, set)| (name_hash(settings.seed, name), *set))
            .collect(),
        buckets: policy.buckets.clone(),
        sticky_ports: policy.sticky_ports.clone().into_iter().collect(),
        sticky_classes: policy.classes.clone(),
        actions: policy.actions.clone(),
        rules_address: [prefixes(&policy.source), prefixes(&policy.destination)],
        rules_protocol: policy.protocol.clone(),
        rules_port: [policy.source_port.clone(), policy.destination_port.clone()],
        rules_dscp: policy.dscp.clone(),
        rules_interface: policy
            .interface
            .iter()
            .map(|(name, set)| (if name.is_empty() { 0 } else { ifindex(name) }, *set))
            .collect(),
        rules_vlan: policy.vlan.clone().into_iter().collect(),
        rules_mac: policy.mac.clone().into_iter().collect(),
        ..ModelTables::default()
    }
}

fn entry<V>(prefix: &IpNet, value: V) -> (Family, [u32; 4], u32, V) {
    let (family, octets) = match prefix {
        IpNet::V4(prefix) => (Family::Ipv4, prefix.addr().octets().to_vec()),
        IpNet::V6(prefix) => (Family::Ipv6, prefix.addr().octets().to_vec()),
    };
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(octets.chunks_exact(4)) {
        *word = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    (family, words, prefix.prefix_len().into(), value)
}
